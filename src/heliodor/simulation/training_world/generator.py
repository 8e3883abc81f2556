"""Generate training micrographs for the general model: any particle, any imaging conditions.

The forward model is that of `heliodor.simulation.micrograph`, but many micrographs are simulated
at a time, on the device that trains. The pixel size follows from the particle, whose diameter is
always about the number of pixels that the network expects. The square fields are periodic (what
leaves at one edge enters at the other), so no wide margin is needed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from heliodor.simulation.builtin_particles import Particle
from heliodor.simulation.training_world.contaminants import (
    RandomSource,
    SceneryBatch,
    draw_scenery,
    grow_blocked,
)
from heliodor.simulation.training_world.imaging import (
    PER_ANGSTROM,
    expose,
    process,
)
from heliodor.simulation.training_world.imaging_conditions import (
    MOST_CLUMPS,
    NOMINAL_PX,
    ImagingConditions,
)
from heliodor.simulation.training_world.projection import (
    ParticleLibrary,
    ParticlePlacements,
    add_projections,
    draw_rotations,
    rotations_from_quaternions,
)

#: Number of rings of equal width, up to the Nyquist frequency, for the power of projections.
RINGS = 36
#: Pixels that are cropped around a field because carbon edges are not periodic.
CUT_PX = 32
#: Random positions that are tried per particle.
TRIES_PER_PARTICLE = 3
#: Number of orientations over which the power of projections is averaged.
VIEWS_PER_PARTICLE = 8
WINDOW_PX = 72


@dataclass(frozen=True)
class SimulatedBatch:
    """Simulated micrographs, normalized like the input of a model, with their truth."""

    #: Shape (n, h, w); particles are dark.
    images: Tensor
    #: Index of the micrograph of each particle, shape (m,).
    image_index: Tensor
    #: Centers (x, y) in pixels, some of them outside, shape (m, 2).
    xy_px: Tensor
    #: True on carbon, crystals, gold and aggregates, shape (n, h, w).
    blocked: Tensor
    conditions: ImagingConditions

    def distances_px(self, first_px: int, step_px: int, count: int) -> Tensor:
        """Return the distance of each point of a lattice from the nearest particle's center.

        Parameters
        ----------
        first_px, step_px, count
            First pixel of the lattice, its step, and its number of points along a side.

        Returns
        -------
        Tensor
            Shape (n, count, count), rows first; infinite where there is no particle.
        """
        n = len(self.images)
        out = torch.full((n, count, count), math.inf, device=self.images.device)
        axis = first_px + step_px * torch.arange(count, device=out.device, dtype=torch.float32)
        for image in range(n):
            xy = self.xy_px[self.image_index == image]
            if len(xy):
                x, y = ((axis[None] - xy[:, i : i + 1]) ** 2 for i in (0, 1))
                squares = (y[:, :, None] + x[:, None, :]).amin(dim=0)
                out[image] = torch.sqrt(squares)
        return out


class MicrographGenerator:
    """Generate simulated micrographs.

    Parameters
    ----------
    particles
        The particles to choose from.
    seed
        Fixes every draw on one type of device.
    side_px
        Side of the fields, from which `CUT_PX` are cropped on all sides.
    device
        Where to compute.
    """

    def __init__(
        self,
        particles: Sequence[Particle],
        seed: int,
        side_px: int = 448,
        device: torch.device | str = "cpu",
    ) -> None:
        self.device = torch.device(device)
        self.side_px = side_px
        self._diameters = np.array([particle.diameter_angstrom for particle in particles])
        self.library = ParticleLibrary.from_particles(particles, device)
        self._rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(11,)))
        self._source = RandomSource(seed, device)
        self._power = self._measure_powers()

    def draw(self, number: int) -> SimulatedBatch:
        """Simulate micrographs."""
        side, source = self.side_px, self._source
        conditions = ImagingConditions.draw(self._rng, self._diameters, number, side, self.device)
        scenery = draw_scenery(conditions, side, source)
        clumps = self._place_aggregates(conditions, scenery)
        particles = self._place_particles(conditions, scenery)
        rest = self._place_fragments(conditions, scenery, particles)
        potential = torch.zeros(number, side, side, device=self.device)
        everything = ParticlePlacements.concatenate([particles, clumps, rest])
        add_projections(potential, self.library, everything, WINDOW_PX)
        potential *= (PER_ANGSTROM * conditions.pixel_angstrom)[:, None, None]
        images = expose(conditions, scenery, potential, self._power[conditions.which], source)
        cut = slice(CUT_PX, side - CUT_PX)
        images = process(conditions, images[:, cut, cut], source)
        return SimulatedBatch(
            images,
            particles.image,
            particles.xy_px - CUT_PX,
            scenery.blocked[:, cut, cut],
            conditions,
        )

    def _measure_powers(self) -> Tensor:
        """Return the power spectrum of each particle's projections at the nominal size.

        Shape (particles, rings); the sum over the rings is the mean sum of squares.
        """
        number = len(self.library)
        which = torch.arange(number, device=self.device).repeat_interleave(VIEWS_PER_PARTICLE)
        rows = torch.fft.fftfreq(WINDOW_PX, device=self.device)[:, None]
        columns = torch.fft.fftfreq(WINDOW_PX, device=self.device)[None, :]
        ring = (torch.sqrt(rows**2 + columns**2) * 2 * RINGS).long().clamp(max=RINGS).flatten()
        sums = []
        for own in torch.split(which, 256):
            count = len(own)
            field = torch.zeros(count, WINDOW_PX, WINDOW_PX, device=self.device)
            where = torch.full((count, 2), WINDOW_PX / 2, device=self.device)
            turns = draw_rotations(count, self._source.generator)
            placements = self._make_placements(
                torch.arange(count, device=self.device), own, where, turns
            )
            add_projections(field, self.library, placements, WINDOW_PX)
            power = torch.fft.fft2(field).abs().square().flatten(1) / WINDOW_PX**2
            rings = torch.zeros(count, RINGS + 1, device=self.device)
            sums.append(rings.index_add_(1, ring, power)[:, :RINGS])
        return torch.cat(sums).view(number, VIEWS_PER_PARTICLE, RINGS).mean(dim=1)

    def _make_placements(
        self,
        image: Tensor,
        which: Tensor,
        xy: Tensor,
        turns: Tensor,
        diameter: Tensor | float = NOMINAL_PX,
        beyond: Tensor | float = -1.0,
    ) -> ParticlePlacements:
        like = torch.ones(len(image), device=self.device)
        return ParticlePlacements(image, which, xy, turns, like * diameter, like, like * beyond)

    def _draw_positions(
        self, conditions: ImagingConditions, number: Tensor, spacing_px: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Draw points that keep their distance from earlier ones; return images and (x, y)."""
        n = len(conditions)
        tries = TRIES_PER_PARTICLE * max(1, int(number.max()))
        xy = self._source.uniform(0.0, float(self.side_px), n, tries, 2)
        away = (xy[:, :, None] - xy[:, None]).abs_()
        away = torch.minimum(away, self.side_px - away)
        near = away.square().sum(dim=3) < spacing_px[:, None, None] ** 2
        earlier = near & torch.ones(tries, tries, dtype=torch.bool, device=self.device).tril(-1)
        alive = torch.arange(tries, device=self.device) < (TRIES_PER_PARTICLE * number)[:, None]
        earlier &= alive[:, None, :]
        kept = torch.zeros_like(alive)
        # Keep points without an earlier rival and drop their rivals, until all are decided.
        for _ in range(12):
            kept |= alive & ~(earlier & alive[:, None, :]).any(dim=2)
            alive = kept | (alive & ~(earlier & kept[:, None, :]).any(dim=2))
        kept &= kept.cumsum(dim=1) <= number[:, None]
        image, place = kept.nonzero(as_tuple=True)
        return image, xy[image, place]

    def _draw_layer(self, conditions: ImagingConditions, index: int) -> tuple[Tensor, Tensor]:
        """Draw the points of a monolayer on one micrograph; return its index and (x, y).

        The lattice is not periodic: neighbors across the edge of the field may overlap, but the
        margin there is cropped.
        """
        own = {
            name: float(getattr(conditions, name)[index])
            for name in ("pitch", "scatter", "vacant", "patch", "square", "diameter_px")
        }
        side, pitch = float(self.side_px), own["pitch"] * own["diameter_px"]
        reach = math.ceil(1.5 * side / pitch)
        steps = torch.arange(-reach, reach + 1, device=self.device, dtype=torch.float32)
        column, row = (own.flatten() for own in torch.meshgrid(steps, steps, indexing="xy"))
        if not own["square"]:
            column, row = column + 0.5 * row, row * math.sqrt(0.75)
        turn = float(self._source.uniform(0.0, 2.0 * math.pi, 1))
        origin = self._source.uniform(0.0, side, 2)
        xy = pitch * torch.stack(
            [
                math.cos(turn) * column - math.sin(turn) * row,
                math.sin(turn) * column + math.cos(turn) * row,
            ],
            dim=1,
        )
        middle = origin + xy[len(xy) // 2]
        xy = origin + xy + own["scatter"] * pitch * self._source.normal(len(xy), 2)
        kept = ((xy >= 0) & (xy < side)).all(dim=1)
        kept &= self._source.uniform(0.0, 1.0, len(xy)) >= own["vacant"]
        kept &= (xy - middle).square().sum(dim=1) < (own["patch"] * side) ** 2
        xy = xy[kept]
        return torch.full((len(xy),), index, device=self.device), xy

    def _are_free(self, scenery: SceneryBatch, image: Tensor, xy: Tensor) -> Tensor:
        """Return which points are at least half a particle away from blocked pixels."""
        blocked = grow_blocked(scenery.blocked, int(NOMINAL_PX) // 2)
        column, row = torch.remainder(xy.long(), self.side_px).unbind(1)
        return ~blocked[image, row, column]

    def _place_particles(
        self, conditions: ImagingConditions, scenery: SceneryBatch
    ) -> ParticlePlacements:
        image, xy = self._draw_positions(
            conditions,
            conditions.wanted * ~conditions.layer,
            conditions.spacing * conditions.diameter_px,
        )
        layers = [self._draw_layer(conditions, int(own)) for own in conditions.layer.nonzero()]
        image = torch.cat([image, *(own[0] for own in layers)])
        xy = torch.cat([xy, *(own[1] for own in layers)])
        kept = self._are_free(scenery, image, xy)
        image, xy = image[kept], xy[kept]
        turns = draw_rotations(len(image), self._source.generator)
        # Preferred views: rotations about one axis through the particle, with some spread.
        lying = rotations_from_quaternions(self._source.normal(len(conditions), 4))[image]
        spin = self._source.uniform(0.0, math.pi, len(image))
        about = torch.stack(
            [torch.cos(spin), 0.12 * self._source.normal(len(image)),
             0.12 * self._source.normal(len(image)), torch.sin(spin)], dim=1
        )  # fmt: skip
        preferred = rotations_from_quaternions(about) @ lying
        turns = torch.where(conditions.preferred[image, None, None], preferred, turns)
        return self._make_placements(
            image, conditions.which[image], xy, turns, conditions.diameter_px[image]
        )

    def _place_aggregates(
        self, conditions: ImagingConditions, scenery: SceneryBatch
    ) -> ParticlePlacements:
        """Draw aggregates and block their area."""
        n, source = len(conditions), self._source
        members = 9
        count = torch.minimum(conditions.clumps, torch.full_like(conditions.clumps, MOST_CLUMPS))
        image = torch.arange(n, device=self.device).repeat_interleave(count)
        center = source.uniform(0.0, float(self.side_px), len(image), 2)
        # A random walk of short steps, of four to nine particles (two would just be neighbors).
        turn = source.uniform(0.0, 2.0 * math.pi, len(image), members)
        step = source.uniform(0.15, 0.5, len(image), members) * conditions.diameter_px[image, None]
        walk = torch.stack([step * torch.cos(turn), step * torch.sin(turn)], dim=2).cumsum(dim=1)
        xy = (center[:, None] + walk).flatten(0, 1)
        present = torch.arange(members, device=self.device) < source.uniform(
            4.0, members + 0.99, len(image), 1
        )
        image = image.repeat_interleave(members)[present.flatten()]
        xy = xy[present.flatten()]
        axis = torch.arange(self.side_px, device=self.device, dtype=torch.float32)
        for own, place in zip(torch.split(image, 64), torch.split(xy, 64), strict=True):
            x, y = (
                torch.remainder(axis - place[:, i : i + 1] + self.side_px / 2, self.side_px)
                - self.side_px / 2
                for i in (0, 1)
            )
            inside = (
                y[:, :, None] ** 2 + x[:, None, :] ** 2
                < (0.5 * conditions.diameter_px[own, None, None]) ** 2
            )
            count_of = torch.zeros_like(scenery.potential)
            count_of.index_add_(0, own, inside.float())
            scenery.blocked.logical_or_(count_of > 0)
        turns = draw_rotations(len(image), source.generator)
        return self._make_placements(
            image, conditions.which[image], xy, turns, conditions.diameter_px[image]
        )

    def _place_fragments(
        self, conditions: ImagingConditions, scenery: SceneryBatch, particles: ParticlePlacements
    ) -> ParticlePlacements:
        """Draw broken particles, and particles of another type that are too small."""
        source, parts = self._source, []
        for number, broken in ((conditions.fragments, True), (conditions.others, False)):
            image, xy = self._draw_positions(conditions, number, 0.5 * conditions.diameter_px)
            kept = self._are_free(scenery, image, xy)
            image, xy = image[kept], xy[kept]
            # Not on top of a particle, where they could not be recognized.
            apart = (xy[:, None] - particles.xy_px[None]).square().sum(dim=2)
            apart[image[:, None] != particles.image[None]] = math.inf
            least = apart.amin(dim=1) if len(particles) else torch.full_like(xy[:, 0], math.inf)
            kept = least > (0.75 * conditions.diameter_px[image]) ** 2
            image, xy = image[kept], xy[kept]
            turns = draw_rotations(len(image), source.generator)
            size = conditions.diameter_px[image]
            if broken:
                which, beyond = conditions.which[image], source.uniform(0.12, 0.4, len(image))
            else:
                another = (conditions.which + 1) % len(self.library)
                which, beyond = another[image], torch.full_like(size, -1.0)
                size = size * conditions.other_size[image]
            parts.append(self._make_placements(image, which, xy, turns, size, beyond))
        return ParticlePlacements.concatenate(parts)
