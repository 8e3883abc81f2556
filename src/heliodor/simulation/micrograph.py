"""One simulated micrograph: particles and scenery, the optics, and the noise."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from heliodor.errors import BadInput
from heliodor.simulation import contaminants, detector
from heliodor.simulation.contrast import REFERENCE_PIXEL_ANGSTROM, signal_deviation
from heliodor.simulation.negative_stain import displace_stain, draw_stain
from heliodor.simulation.optics import (
    Optics,
    apply_transfer,
    contrast_transfer,
    wavelength_angstrom,
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
    """Counts, shape (height, width); protein is dark, but in negative stain or if inverted."""
    xy_px: FloatArray
    """Centres of the particles, (x, y), shape (n, 2)."""
    angles_deg: FloatArray
    """Their orientations: RELION's rot, tilt and psi, shape (n, 3)."""
    optics: Optics
    """The microscope and the defocus of this micrograph."""
    blocked: Mask
    """True on carbon, crystals, gold and aggregates, shape (height, width)."""


@dataclass(frozen=True)
class MicrographLayers:
    """What a micrograph is made of; ``(background + signal) + shot`` is its image / counts.

    That is as the detector shows it, before the contrast is reversed where that is asked for.
    Images are of the micrograph, shape (height, width), in fractions of the mean intensity.
    """

    background: Image
    """Ice or stain, and contaminants."""
    signal: Image
    """Particles through the optics: what they change."""
    shot: Image
    """Noise of the electrons, its variance in proportion to the intensity, and of the detector."""
    transmission: Image
    """Mean intensity, without the contrast of anything: 1 in ice of usual thickness."""
    micrograph: SimulatedMicrograph
    """The result."""


def simulate_micrograph(settings: SimulationSettings, index: int) -> SimulatedMicrograph:
    """Simulate one micrograph of a set.

    Parameters
    ----------
    settings
        What to simulate.
    index
        Which micrograph, from 0. It need not be below ``settings.count``.

    Returns
    -------
    SimulatedMicrograph
        The same for the same `settings` and `index`, whatever else is simulated.

    Raises
    ------
    BadInput
        If `index` is negative.
    """
    return _compose(settings, index, split=False).micrograph


def simulate_layers(settings: SimulationSettings, index: int) -> MicrographLayers:
    """Simulate one micrograph and keep its parts; slower than `simulate_micrograph`.

    Parameters
    ----------
    settings, index
        As for `simulate_micrograph`.
    """
    return _compose(settings, index, split=True)


def _compose(settings: SimulationSettings, index: int, *, split: bool) -> MicrographLayers:
    if index < 0:
        raise BadInput(f"The number of a micrograph cannot be negative, as {index} is.")
    # One stream for each matter: another SNR, say, leaves every particle in its place.
    streams = [
        np.random.default_rng(seed)
        for seed in np.random.SeedSequence(settings.seed, spawn_key=(index,)).spawn(7)
    ]
    for_optics, for_ice, for_contaminants, for_places, for_angles, for_shot, for_reading = streams
    kind, pixel = settings.resolved_particle, settings.pixel_size_angstrom
    optics = _draw_optics(for_optics, settings)
    scale = _potential_scale(settings)
    field = Field.around(settings.shape, _margin_angstrom(settings), pixel)

    thickness = None
    if settings.negative_stain:
        scenery, thickness = draw_stain(for_ice, field)
    else:
        scenery = draw_ice(for_ice, field, settings.ice_nm, settings.ice_gradient)
    # What displaces stain is added up apart.
    bodies = scenery if thickness is None else replace(scenery, potential=np.zeros_like(thickness))
    _add_contaminants(for_contaminants, settings, field, scenery, bodies, scale)
    diameter = kind.diameter_angstrom
    places = place_particles(
        for_places,
        field,
        settings.particles_to_place,
        0.0 if settings.overlap else diameter,
        measure_clearance(field, scenery.blocked),
        0.5 * diameter,
    )
    fragments = contaminants.draw_count(
        for_contaminants, "fragments", field, settings.contaminant_levels.level_of("fragments")
    )
    contaminants.add_fragments(for_contaminants, field, bodies, kind, scale, places, fragments)
    angles = draw_orientations(
        for_angles, len(places), kind, preferred=settings.orientations == "preferred"
    )
    particles = np.zeros(field.shape, np.float32)
    for xy, angle in zip(places, angles, strict=True):
        add_projection(particles, kind.blobs, angle, xy, pixel, scale)
    if thickness is not None:
        scenery.potential += displace_stain(bodies.potential, thickness, diameter, pixel)
        particles = displace_stain(particles, thickness, diameter, pixel)

    scenery.potential += draw_amorphous_noise(for_ice, field, scenery.grain)
    transfer = contrast_transfer(field.shape, pixel, optics)
    mean = field.crop(scenery.transmission)
    with_particles = _to_intensity(
        field.crop(apply_transfer(scenery.potential + particles, transfer)), mean
    )
    background = signal = with_particles[:0]
    if split:
        background = _to_intensity(field.crop(apply_transfer(scenery.potential, transfer)), mean)
    shot = for_shot.standard_normal(settings.shape, dtype=np.float32)
    # The variance of shot noise is the intensity; what is under the beads is nearly dark.
    shot *= np.sqrt(with_particles) * np.float32(_shot_deviation(settings))
    if settings.detector == "integrating":
        with_particles = detector.blur(with_particles)
        shot = detector.integrate_noise(shot, for_reading, _shot_deviation(settings))
        background = detector.blur(background) if split else background
    if split:
        signal = with_particles - background
    image = np.float32(settings.mean_counts) * (with_particles + shot)
    if settings.inverted:
        image = np.float32(2.0 * image.mean(dtype=np.float64)) - image

    shown = field.shows(places)
    micrograph = SimulatedMicrograph(
        image=image,
        xy_px=places[shown] - field.margin_px,
        angles_deg=angles[shown],
        optics=optics,
        blocked=field.crop(scenery.blocked).copy(),
    )
    return MicrographLayers(background, signal, shot, mean, micrograph)


def _add_contaminants(
    rng: np.random.Generator,
    settings: SimulationSettings,
    field: Field,
    scenery: Scenery,
    bodies: Scenery,
    scale: float,
) -> None:
    """Add all contaminants that particles keep clear of."""
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
    """Return how far outside the micrograph things still matter.

    Half a particle, and the delocalisation ``lambda d k`` at 5 A or at the Nyquist frequency,
    whichever is coarser; beyond, the envelope has left little.
    """
    finest = max(5.0, 2.0 * settings.pixel_size_angstrom)
    spread = wavelength_angstrom(settings.voltage_kv) * 1e4 * settings.defocus_um[1] / finest
    return 0.5 * settings.resolved_particle.diameter_angstrom + spread + 40.0


def _shot_deviation(settings: SimulationSettings) -> float:
    """Return the shot noise of one pixel in fractions of the mean intensity."""
    at_reference = settings.contrast / math.sqrt(settings.snr)
    return at_reference * REFERENCE_PIXEL_ANGSTROM / settings.pixel_size_angstrom


def _potential_scale(settings: SimulationSettings) -> float:
    """Return the factor on the density that gives the particle its contrast."""
    middle = 5000.0 * (settings.defocus_um[0] + settings.defocus_um[1])
    preferred = settings.orientations == "preferred"
    return settings.contrast / signal_deviation(
        settings.resolved_particle, preferred, _optics_at(settings, middle)
    )
