"""Simulate one micrograph: particles and contaminants, contrast transfer and noise."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from heliodor.data.micrographs.ctf import wavelength_angstrom
from heliodor.errors import BadInput
from heliodor.simulation import contaminants, detector
from heliodor.simulation.contrast import REFERENCE_PIXEL_ANGSTROM, signal_deviation
from heliodor.simulation.filament_placement import (
    add_filament,
    find_shown_axes,
    place_filaments,
)
from heliodor.simulation.negative_stain import displace_stain, draw_stain
from heliodor.simulation.optics import (
    Optics,
    apply_transfer,
    contrast_transfer,
)
from heliodor.simulation.projection import add_projection, draw_orientations
from heliodor.simulation.scene import (
    Field,
    Mask,
    Scenery,
    draw_amorphous_noise,
    draw_ice,
    measure_clearance,
    place_particles,
)

if TYPE_CHECKING:
    from heliodor.conventions import FloatArray, Image
    from heliodor.simulation.settings import SimulationSettings

#: Astigmatism is drawn up to this difference between the two defoci, angstrom.
MAX_ASTIGMATISM_ANGSTROM = 300.0

#: Intensity is kept above this fraction of the transmitted beam.
LEAST_INTENSITY = 0.05


@dataclass(frozen=True)
class SimulatedMicrograph:
    """A micrograph and the truth about it."""

    image: Image
    """Counts, shape (height, width). Protein is dark, except in negative stain or if inverted."""
    xy_px: FloatArray
    """Centers of the particles, (x, y), shape (n, 2)."""
    angles_deg: FloatArray
    """Orientations: RELION's rot, tilt and psi in degrees, shape (n, 3)."""
    optics: Optics
    """Microscope and defocus of this micrograph."""
    blocked: Mask
    """True on carbon, crystals, gold and aggregates, shape (height, width)."""
    axes_px: tuple[FloatArray, ...] = ()
    """Axes of the filaments, points (x, y), shape (n, 2) each."""


@dataclass(frozen=True)
class MicrographLayers:
    """The parts of a micrograph: ``background + signal + shot`` is its image / mean counts.

    All images are those of the detector before the contrast is reversed (if it is), shape (height,
    width), in fractions of the mean intensity.
    """

    background: Image
    """Ice or stain, with contaminants."""
    signal: Image
    """What the particles add after the contrast transfer."""
    shot: Image
    """Shot noise, whose variance is proportional to the intensity, and noise of the detector."""
    transmission: Image
    """Transmitted intensity without phase contrast: 1 in ice of the default thickness."""
    micrograph: SimulatedMicrograph
    """The micrograph itself."""


def simulate_micrograph(settings: SimulationSettings, index: int) -> SimulatedMicrograph:
    """Simulate one micrograph of a dataset.

    Parameters
    ----------
    settings
        What to simulate.
    index
        Index of the micrograph, from 0; it may exceed ``settings.count``.

    Returns
    -------
    SimulatedMicrograph
        The same for the same `settings` and `index`, regardless of what else is simulated.

    Raises
    ------
    BadInput
        If `index` is negative.
    """
    return _compose(settings, index, split=False).micrograph


def simulate_layers(settings: SimulationSettings, index: int) -> MicrographLayers:
    """Simulate one micrograph and return its parts; slower than `simulate_micrograph`.

    Parameters
    ----------
    settings, index
        As for `simulate_micrograph`.
    """
    return _compose(settings, index, split=True)


def _compose(settings: SimulationSettings, index: int, *, split: bool) -> MicrographLayers:
    if index < 0:
        raise BadInput(f"the index of a micrograph must be 0 or more, not negative ({index})")
    random = _RandomStreams.of_micrograph(settings.seed, index)
    optics = _draw_optics(random.optics, settings)
    specimen = _draw_specimen(random, settings)
    field, scenery = specimen.field, specimen.scenery

    transfer = contrast_transfer(field.shape, settings.pixel_size_angstrom, optics)
    mean = field.crop(scenery.transmission)
    with_particles = _to_intensity(
        field.crop(apply_transfer(scenery.potential + specimen.particles, transfer)), mean
    )
    background = signal = with_particles[:0]
    if split:
        background = _to_intensity(field.crop(apply_transfer(scenery.potential, transfer)), mean)
    shot = random.shot.standard_normal(settings.shape, dtype=np.float32)
    # The variance of shot noise is the intensity, which is low under gold beads.
    shot *= np.sqrt(with_particles) * np.float32(_shot_deviation(settings))
    if settings.detector == "integrating":
        with_particles = detector.blur(with_particles)
        shot = detector.integrate_noise(shot, random.readout, _shot_deviation(settings))
        background = detector.blur(background) if split else background
    if split:
        signal = with_particles - background
    image = np.float32(settings.mean_counts) * (with_particles + shot)
    if settings.inverted:
        image = np.float32(2.0 * image.mean(dtype=np.float64)) - image

    shown = field.shows(specimen.xy_px)
    micrograph = SimulatedMicrograph(
        image=image,
        xy_px=specimen.xy_px[shown] - field.margin_px,
        angles_deg=specimen.angles_deg[shown],
        optics=optics,
        blocked=field.crop(scenery.blocked).copy(),
        axes_px=specimen.axes_px,
    )
    return MicrographLayers(background, signal, shot, mean, micrograph)


class _RandomStreams(NamedTuple):
    """One random stream per purpose, so that another SNR, say, leaves every particle in place."""

    optics: np.random.Generator
    ice: np.random.Generator
    contaminants: np.random.Generator
    positions: np.random.Generator
    orientations: np.random.Generator
    shot: np.random.Generator
    readout: np.random.Generator
    filaments: np.random.Generator

    @classmethod
    def of_micrograph(cls, seed: int, index: int) -> _RandomStreams:
        seeds = np.random.SeedSequence(seed, spawn_key=(index,)).spawn(len(cls._fields))
        return cls(*map(np.random.default_rng, seeds))


class _Specimen(NamedTuple):
    """A field before the contrast transfer."""

    field: Field
    scenery: Scenery
    #: Projected potential of the particles, shape of the field.
    particles: Image
    #: Centers of the particles in pixels of the field, shape (n, 2).
    xy_px: FloatArray
    #: Shape (n, 3).
    angles_deg: FloatArray
    #: Axes of the filaments that the micrograph shows, in its pixels.
    axes_px: tuple[FloatArray, ...] = ()


def _draw_specimen(random: _RandomStreams, settings: SimulationSettings) -> _Specimen:
    """Draw ice or stain, contaminants and particles."""
    particle, pixel = settings.resolved_particle, settings.pixel_size_angstrom
    diameter = particle.diameter_angstrom
    scale = _potential_scale(settings)
    field = Field.around(settings.shape, _margin_angstrom(settings), pixel)
    thickness = None
    if settings.negative_stain:
        scenery, thickness = draw_stain(random.ice, field)
    else:
        scenery = draw_ice(random.ice, field, settings.ice_nm, settings.ice_gradient)
    # The potential of what displaces stain is summed separately.
    bodies = scenery if thickness is None else replace(scenery, potential=np.zeros_like(thickness))
    _add_contaminants(random.contaminants, settings, field, scenery, bodies, scale)
    clearance = measure_clearance(field, scenery.blocked)
    xy_px = place_particles(
        random.positions,
        field,
        settings.particles_to_place,
        0.0 if settings.overlap else diameter,
        clearance,
        0.5 * diameter,
    )
    layout = settings.draw_layout(random.filaments)
    axes = [] if layout is None else place_filaments(random.filaments, field, layout, clearance)
    fragments = contaminants.draw_count(
        random.contaminants,
        "fragments",
        field,
        settings.contaminant_levels.level_of("fragments"),
    )
    contaminants.add_fragments(
        random.contaminants,
        field,
        bodies,
        particle,
        scale,
        np.concatenate([xy_px, *axes]),
        fragments,
    )
    angles = draw_orientations(
        random.orientations,
        len(xy_px),
        particle,
        preferred=settings.orientations == "preferred",
    )
    potential = np.zeros(field.shape, np.float32)
    for xy, angle in zip(xy_px, angles, strict=True):
        add_projection(potential, particle.blobs, angle, xy, pixel, scale)
    shown: tuple[FloatArray, ...] = ()
    if layout is not None:
        for axis in axes:
            add_filament(random.filaments, potential, axis, layout.kind, pixel, scale)
        shown = find_shown_axes(axes, field, layout.kind)
    if thickness is not None:
        scenery.potential += displace_stain(bodies.potential, thickness, diameter, pixel)
        potential = displace_stain(potential, thickness, diameter, pixel)
    scenery.potential += draw_amorphous_noise(random.ice, field, scenery.grain)
    return _Specimen(field, scenery, potential, xy_px, angles, shown)


def _add_contaminants(
    rng: np.random.Generator,
    settings: SimulationSettings,
    field: Field,
    scenery: Scenery,
    bodies: Scenery,
    scale: float,
) -> None:
    """Add all contaminants that particles keep away from."""
    levels, kind = settings.contaminant_levels, settings.resolved_particle
    if settings.carbon_only:
        contaminants.cover_with_carbon(rng, scenery)
    elif rng.random() < contaminants.CARBON_SHARE * levels.level_of("carbon"):
        contaminants.add_carbon(rng, field, scenery)
    for _ in range(contaminants.draw_count(rng, "crystals", field, levels.level_of("crystals"))):
        contaminants.add_ice_crystal(rng, field, scenery)
    for _ in range(contaminants.draw_count(rng, "gold", field, levels.level_of("gold"))):
        contaminants.add_gold(rng, field, scenery)
    for _ in range(contaminants.draw_count(rng, "clumps", field, levels.level_of("clumps"))):
        contaminants.add_clump(rng, field, bodies, kind, scale)


def _to_intensity(contrast: Image, transmission: Image) -> Image:
    return np.asarray(transmission * np.maximum(1.0 + contrast, np.float32(LEAST_INTENSITY)))


def _draw_optics(rng: np.random.Generator, settings: SimulationSettings) -> Optics:
    least, most = (10000.0 * defocus for defocus in settings.defocus_um)
    mean = rng.uniform(least, most)
    astigmatism = min(rng.uniform(0.0, MAX_ASTIGMATISM_ANGSTROM), 0.2 * mean)
    return replace(
        _optics_at(settings, mean),
        defocus_u_angstrom=mean + 0.5 * astigmatism,
        defocus_v_angstrom=mean - 0.5 * astigmatism,
        defocus_angle_deg=rng.uniform(0.0, 180.0),
    )


def _optics_at(settings: SimulationSettings, defocus_angstrom: float) -> Optics:
    return Optics(
        voltage_kv=settings.voltage_kv,
        spherical_aberration_mm=settings.spherical_aberration_mm,
        amplitude_contrast=settings.total_amplitude_contrast,
        defocus_u_angstrom=defocus_angstrom,
        defocus_v_angstrom=defocus_angstrom,
        defocus_angle_deg=0.0,
        b_factor=settings.total_b_factor,
    )


def _margin_angstrom(settings: SimulationSettings) -> float:
    """Return the distance outside the micrograph within which objects affect it.

    That is half a particle plus the delocalization ``lambda d k`` at 5 A or at the Nyquist
    frequency, whichever is coarser; at finer resolution the envelope leaves little.
    """
    finest = max(5.0, 2.0 * settings.pixel_size_angstrom)
    spread = wavelength_angstrom(settings.voltage_kv) * 1e4 * settings.defocus_um[1] / finest
    return 0.5 * settings.resolved_particle.diameter_angstrom + spread + 40.0


def _shot_deviation(settings: SimulationSettings) -> float:
    """Return the standard deviation of one pixel's shot noise over the mean intensity."""
    at_reference = settings.contrast / math.sqrt(settings.resolved_snr)
    return at_reference * REFERENCE_PIXEL_ANGSTROM / settings.pixel_size_angstrom


def _potential_scale(settings: SimulationSettings) -> float:
    """Return the factor on the density that gives the particle its nominal contrast."""
    middle = 5000.0 * (settings.defocus_um[0] + settings.defocus_um[1])
    # Filaments lie flat.
    preferred = settings.orientations == "preferred" or settings.filament is not None
    return settings.contrast / signal_deviation(
        settings.resolved_particle, preferred, _optics_at(settings, middle)
    )
