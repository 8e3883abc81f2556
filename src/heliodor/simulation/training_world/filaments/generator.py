"""Generate training micrographs for the general filament model: any filament, any conditions.

The scale of a field follows from the filament, whose width is always about the number of pixels
that the network expects. Microscope, ice, camera and contaminants are those of the training
micrographs of particles.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt
from scipy.spatial import cKDTree
from torch import Tensor

from heliodor.conventions import FloatArray
from heliodor.data.filaments.geometry import measure_directions
from heliodor.simulation.builtin_particles import Particle
from heliodor.simulation.training_world.contaminants import (
    RandomSource,
    SceneryBatch,
    draw_scenery,
)
from heliodor.simulation.training_world.filaments import axes as axis_drawing
from heliodor.simulation.training_world.filaments.decoys import (
    FieldScenery,
    add_scratches,
    draw_kinds,
)
from heliodor.simulation.training_world.filaments.particle_positions import draw_positions
from heliodor.simulation.training_world.filaments.textures import (
    STEP_PX,
    FilamentTexture,
    draw_texture,
)
from heliodor.simulation.training_world.imaging import PER_ANGSTROM, expose, process
from heliodor.simulation.training_world.imaging_conditions import (
    NOMINAL_PX,
    ImagingConditions,
    draw_shared_conditions,
)
from heliodor.simulation.training_world.projection import (
    ParticleLibrary,
    ParticlePlacements,
    add_projections,
    draw_rotations,
)
from heliodor.training.filaments.targets import FilamentTargets, measure_targets

#: Nominal width of a filament in pixels.
WIDTH_PX = 12.0
#: Range of the widths, angstrom.
WIDTHS_ANGSTROM = (30.0, 400.0)
#: Spread of the logarithm of the true width over the nominal one, as users' widths are inexact.
WIDTH_SPREAD, MOST_SPREAD = 0.09, 0.22
#: Variance of the signal in a filament over that of the shot noise, in one pixel.
SIGNAL_TO_NOISE = (0.025, 8.0)
#: Pixels that are cropped around a field because filaments and carbon edges are not periodic.
CUT_PX = 32
#: Sizes of particles in widths.
PARTICLE_WIDTHS = (0.4, 2.6)
#: Shares of fields without filaments, with particles among those and among the others, and with
#: other filaments, much narrower or much wider; those widths.
EMPTY, WITH_PARTICLES_ALONE, WITH_PARTICLES, WITH_OTHERS = 0.16, 0.75, 0.3, 0.1
NARROWER, WIDER = (0.2, 0.5), (2.0, 4.0)
#: Share of fields with debris of the filament, and its mean number of aggregates and fragments.
DIRTY, CLUMPS, FRAGMENTS = 0.4, 1.2, 2.5
#: Rings and window of the power of a filament.
RINGS, POWER_PX = 36, 128
#: Share of rafts that are of hollow filaments, whose walls touch, besides those of any kind.
HOLLOW_RAFTS, HOLLOW = 0.45, ("tube", "lattice tube", "lattice tube")


@dataclass(frozen=True)
class FilamentBatch:
    """Simulated micrographs, normalized like the input of a model, with their truth."""

    #: Shape (n, h, w); filaments are dark.
    images: Tensor
    #: Axes of each field: points (x, y) in pixels, shape (m, 2).
    axes_px: list[list[FloatArray]]
    #: True on contaminants, shape (n, h, w).
    blocked: Tensor
    #: Variance of the signal in filaments over that of the shot noise in a pixel, shape (n,).
    signal_to_noise: Tensor

    def targets(self, first_px: float, step_px: int, count: int) -> FilamentTargets:
        """Return the truth at the points of a lattice.

        Parameters
        ----------
        first_px, step_px, count
            Position of the first point along both sides, distance, and number along a side.
        """
        own = [measure_targets(axes, first_px, step_px, (count, count)) for axes in self.axes_px]
        distance, angle, offset = (
            torch.from_numpy(np.stack(part)) for part in zip(*own, strict=True)
        )
        last = self.blocked.shape[-1] - 1
        at = (first_px + step_px * torch.arange(count) + 0.5).long().clamp(0, last)
        blocked = self.blocked[:, at][:, :, at].float()
        return FilamentTargets(distance, angle, offset, blocked)


def add_texture(image: FloatArray, axis: FloatArray, texture: FilamentTexture, first: int) -> None:
    """Add a filament to an image in place: its projection, bent along an axis.

    Parameters
    ----------
    image
        Shape (h, w).
    axis
        Points (x, y) every `axes.POINT_PX` pixels.
    texture
        The filament; its rows repeat.
    first
        Row of the texture at the first point.
    """
    assert axis_drawing.POINT_PX == STEP_PX
    height, width = image.shape
    reach = texture.reach_px
    near = np.all((axis > -reach) & (axis < np.array([width, height]) + reach), axis=1)
    if not near.any():
        return
    rows = texture.values[(first + np.flatnonzero(near)) % len(texture.values)]
    normals = measure_directions(axis)[near][:, ::-1] * np.array([-1.0, 1.0])
    across = STEP_PX * np.arange(rows.shape[1]) - reach
    x = axis[near][:, :1] + across * normals[:, :1]
    y = axis[near][:, 1:] + across * normals[:, 1:]
    # The samples of a straight filament are STEP_PX apart in both directions.
    weights = rows * STEP_PX**2
    left, top = np.floor(x).astype(np.int64), np.floor(y).astype(np.int64)
    right, down = x - left, y - top
    keep = (left >= 0) & (left < width - 1) & (top >= 0) & (top < height - 1)
    place = (top * width + left)[keep]
    weights, right, down = weights[keep], right[keep], down[keep]
    flat = image.reshape(-1)
    for step, share in (
        (0, (1 - right) * (1 - down)),
        (1, right * (1 - down)),
        (width, (1 - right) * down),
        (width + 1, right * down),
    ):
        flat += np.bincount(place + step, weights * share, height * width)


class FilamentGenerator:
    """Generate simulated micrographs of filaments.

    Parameters
    ----------
    particles
        Particles that lie beside filaments.
    seed
        Fixes every draw.
    side_px
        Side of the fields, from which `CUT_PX` are cropped on all sides.
    """

    def __init__(self, particles: Sequence[Particle], seed: int, side_px: int = 352) -> None:
        self.side_px = side_px
        self.library = ParticleLibrary.from_particles(particles)
        self._rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(23,)))
        self._source = RandomSource(seed, "cpu")

    def draw(self, number: int) -> FilamentBatch:
        """Simulate micrographs."""
        rng, side = self._rng, self.side_px
        true_px = WIDTH_PX * np.exp(
            np.clip(rng.normal(0.0, WIDTH_SPREAD, number), -MOST_SPREAD, MOST_SPREAD)
        )
        widths = _draw_logarithmic(rng, WIDTHS_ANGSTROM, number)
        ratio = _draw_logarithmic(rng, SIGNAL_TO_NOISE, number)
        conditions = self._draw_conditions(true_px, widths / true_px, ratio)
        scenery = draw_scenery(conditions, side, self._source)
        potential = np.zeros((number, side, side))
        power = np.zeros((number, RINGS), np.float32)
        axes = []
        for index in range(number):
            field = FieldScenery(
                *(getattr(scenery, own.name)[index].numpy() for own in fields(SceneryBatch))
            )
            for add in draw_kinds(rng):
                add(rng, field, WIDTH_PX)
            layout = axis_drawing.draw_layout(rng)
            is_hollow = layout.is_raft and rng.random() < HOLLOW_RAFTS
            kind = str(rng.choice(HOLLOW)) if is_hollow else None
            texture = draw_texture(rng, true_px[index], 2.0 * side, kind)
            self._place_debris(potential[index], field, texture)
            power[index] = _measure_power(texture) * (NOMINAL_PX / true_px[index]) ** 2
            own = self._place_filaments(potential[index], field, texture, layout)
            axes.append(own)
            if rng.random() < WITH_OTHERS:
                self._place_others(potential[index], field, true_px[index])
        images = torch.from_numpy(potential.astype(np.float32))
        self._add_particles(images, scenery, axes, true_px)
        images *= (PER_ANGSTROM * conditions.pixel_angstrom)[:, None, None]
        images = expose(conditions, scenery, images, torch.from_numpy(power), self._source)
        cut = slice(CUT_PX, side - CUT_PX)
        images = process(conditions, images[:, cut, cut], self._source)
        for image in images:
            if rng.random() < 0.03:
                add_scratches(rng, image.numpy())
        shown = [_crop(own, side) for own in axes]
        blocked = scenery.blocked[:, cut, cut].contiguous()
        return FilamentBatch(images, shown, blocked, torch.from_numpy(ratio))

    def _draw_conditions(
        self, true_px: FloatArray, pixel_angstrom: FloatArray, ratio: FloatArray
    ) -> ImagingConditions:
        n = len(true_px)
        values = draw_shared_conditions(self._rng, pixel_angstrom, self.side_px)
        zeros = np.zeros(n)
        values |= {
            "which": zeros, "diameter_px": true_px, "pixel_angstrom": pixel_angstrom,
            "wanted": zeros, "spacing": zeros, "layer": zeros, "pitch": zeros, "scatter": zeros,
            "vacant": zeros, "patch": zeros, "square": zeros, "preferred": zeros,
            "energy": ratio * true_px**2,
        }  # fmt: skip
        # Half of the blur that particles of 35 pixels get.
        values["low_pass_px"] = 0.5 * values["low_pass_px"]
        return ImagingConditions.from_arrays(values, "cpu")

    def _place_filaments(
        self,
        potential: FloatArray,
        field: FieldScenery,
        texture: FilamentTexture,
        layout: axis_drawing.AxisLayout,
    ) -> list[FloatArray]:
        rng, side = self._rng, self.side_px
        if rng.random() < EMPTY:
            return []
        axes = axis_drawing.draw_axes(rng, layout, side, texture.width_px)
        if field.blocked.any():
            clearance = np.asarray(distance_transform_edt(~field.blocked))
            axes = axis_drawing.keep_free_parts(axes, clearance, texture.width_px)
        for axis in axes:
            first = int(rng.integers(len(texture.values)))
            if rng.random() < 0.5:
                add_texture(potential, axis[::-1], texture, first)
            else:
                add_texture(potential, axis, texture, first)
        return axes

    def _place_debris(
        self, potential: FloatArray, field: FieldScenery, texture: FilamentTexture
    ) -> None:
        """Add what is made of the filament and is not to be found: aggregates and fragments."""
        rng, side, width = self._rng, self.side_px, texture.width_px
        if rng.random() >= DIRTY:
            return
        rows, columns = np.indices((side, side))
        for _ in range(int(rng.poisson(CLUMPS))):
            spots = [rng.uniform(0.0, side, 2)]
            for _ in range(int(rng.integers(3, 10))):
                way = rng.uniform(0.0, 2.0 * math.pi)
                away = np.array([math.cos(way), math.sin(way)]) * rng.uniform(0.25, 0.7) * width
                spots.append(spots[int(rng.integers(len(spots)))] + away)
            for spot in spots:
                stretch = _draw_stretch(rng, spot, width * rng.uniform(0.5, 3.5))
                add_texture(potential, stretch, texture, int(rng.integers(len(texture.values))))
                field.blocked |= np.hypot(rows - spot[1], columns - spot[0]) < 0.5 * width
        for _ in range(int(rng.poisson(FRAGMENTS))):
            spot = rng.uniform(0.0, side, 2)
            stretch = _draw_stretch(rng, spot, width * rng.uniform(0.3, 1.3))
            add_texture(potential, stretch, texture, int(rng.integers(len(texture.values))))

    def _place_others(self, potential: FloatArray, field: FieldScenery, true_px: float) -> None:
        """Add filaments of another width, which are not to be found."""
        rng, side = self._rng, self.side_px
        width = true_px * rng.uniform(*(NARROWER if rng.random() < 0.6 else WIDER))
        texture = draw_texture(rng, width, 2.0 * side)
        layout = axis_drawing.draw_layout(rng)
        axes = axis_drawing.draw_axes(rng, layout, side, max(width, 0.5 * true_px))
        for axis in axes[: int(rng.integers(1, 6))]:
            add_texture(potential, axis, texture, int(rng.integers(len(texture.values))))

    def _add_particles(
        self,
        images: Tensor,
        scenery: SceneryBatch,
        axes: list[list[FloatArray]],
        true_px: FloatArray,
    ) -> None:
        """Add particles, in some fields side by side."""
        rng, side = self._rng, self.side_px
        for index in range(len(images)):
            if rng.random() >= (WITH_PARTICLES if axes[index] else WITH_PARTICLES_ALONE):
                continue
            size = true_px[index] * math.exp(rng.uniform(*np.log(PARTICLE_WIDTHS)))
            xy = draw_positions(rng, side, size)
            place = np.clip(xy.astype(int), 0, side - 1)
            xy = xy[~scenery.blocked[index].numpy()[place[:, 1], place[:, 0]]]
            if axes[index] and len(xy) and rng.random() < 0.7:
                gaps, _ = cKDTree(np.concatenate(axes[index])[::4]).query(xy)
                xy = xy[gaps > 0.5 * (size + true_px[index])]
            if not len(xy):
                continue
            like = torch.ones(len(xy))
            placements = ParticlePlacements(
                torch.zeros(len(xy), dtype=torch.int64),
                torch.full((len(xy),), int(rng.integers(len(self.library))), dtype=torch.int64),
                torch.from_numpy(xy.astype(np.float32)),
                draw_rotations(len(xy), self._source.generator),
                like * size,
                like * math.exp(rng.uniform(math.log(0.3), math.log(1.2))),
                -like,
            )
            window = 2 * math.ceil(0.8 * size + 4.0)
            add_projections(images[index : index + 1], self.library, placements, window)


def _draw_logarithmic(
    rng: np.random.Generator, limits: tuple[float, float], number: int
) -> FloatArray:
    low, high = (math.log(limit) for limit in limits)
    return np.exp(rng.uniform(low, high, number))


def _draw_stretch(rng: np.random.Generator, middle: FloatArray, length_px: float) -> FloatArray:
    """Return the points of a straight stretch in any direction."""
    way = rng.uniform(0.0, 2.0 * math.pi)
    along = np.arange(-0.5 * length_px, 0.5 * length_px, axis_drawing.POINT_PX)
    return np.asarray(middle + along[:, None] * np.array([math.cos(way), math.sin(way)]))


def _crop(axes: list[FloatArray], side_px: int) -> list[FloatArray]:
    """Return the parts of axes inside the cropped field, at least a width long."""
    kept = []
    last = side_px - 2.0 * CUT_PX - 1.0
    for axis in axes:
        moved = axis - CUT_PX
        inside = np.all((moved >= 0.0) & (moved <= last), axis=1)
        edges = np.flatnonzero(np.diff(np.concatenate([[False], inside, [False]])))
        for start, end in zip(edges[::2], edges[1::2], strict=True):
            if end - start >= WIDTH_PX / axis_drawing.POINT_PX:
                kept.append(moved[start:end])
    return kept


def _measure_power(texture: FilamentTexture) -> FloatArray:
    """Return the power of a stretch as long as it is wide, in rings up to the Nyquist frequency.

    The sum over the rings is the sum of squares.
    """
    half = round(1.0 / STEP_PX)
    values = texture.values[: POWER_PX * half]
    rows, columns = (size // half * half for size in values.shape)
    pixels = values[:rows, :columns].reshape(rows // half, half, columns // half, half)
    image = np.zeros((POWER_PX, POWER_PX))
    means = pixels.mean(axis=(1, 3))
    image[: means.shape[0], : means.shape[1]] = means[:POWER_PX, :POWER_PX]
    frequency = np.fft.fftfreq(POWER_PX)
    ring = (np.hypot(frequency[:, None], frequency) * 2 * RINGS).astype(int).ravel()
    power = np.abs(np.fft.fft2(image)).ravel() ** 2 / POWER_PX**2
    total = np.bincount(np.minimum(ring, RINGS), power, RINGS + 1)[:RINGS]
    return np.asarray(total * texture.width_px / POWER_PX)
