"""Project many particles at once, on the device that trains."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from heliodor.simulation.builtin_particles import Particle

#: Particles that are projected together: on CPUs, whose caches are small, and on GPUs.
CPU_BATCH, GPU_BATCH = 16, 512


@dataclass(frozen=True)
class ParticleLibrary:
    """Particles scaled to diameter 1 and padded to the same number of blobs with zero weights."""

    #: Shape (particles, blobs, 3).
    positions: Tensor
    #: Shape (particles, blobs).
    sigmas: Tensor
    #: Volumes in units of the cubed diameter, shape (particles, blobs).
    weights: Tensor

    @classmethod
    def from_particles(
        cls, particles: Sequence[Particle], device: torch.device | str = "cpu"
    ) -> ParticleLibrary:
        """Collect the blobs of particles on a device."""
        most = max(len(particle.blobs) for particle in particles)
        positions = torch.zeros(len(particles), most, 3)
        sigmas, weights = torch.ones(2, len(particles), most)
        weights.zero_()
        for row, particle in enumerate(particles):
            blobs, number, size = particle.blobs, len(particle.blobs), particle.diameter_angstrom
            positions[row, :number] = torch.from_numpy(blobs.positions / size)
            sigmas[row, :number] = torch.from_numpy(blobs.sigmas / size)
            weights[row, :number] = torch.from_numpy(blobs.weights / size**3)
        return cls(positions.to(device), sigmas.to(device), weights.to(device))

    def __len__(self) -> int:
        return len(self.positions)


@dataclass(frozen=True)
class ParticlePlacements:
    """Where to project n particles, or parts of particles; tensors on one device."""

    #: Index of the image, shape (n,).
    image: Tensor
    #: Index of the particle in the library, shape (n,).
    which: Tensor
    #: Centers (x, y) in pixels, shape (n, 2).
    xy_px: Tensor
    #: Rotations, shape (n, 3, 3); the first two rows give x and y.
    rotations: Tensor
    #: Diameters in pixels, shape (n,).
    diameter_px: Tensor
    #: Factor on the projected thickness, shape (n,).
    scale: Tensor
    #: For parts of particles: only blobs beyond this coordinate along the particle's x axis, in
    #: diameters, are projected, shape (n,); -1 keeps all.
    beyond_diameters: Tensor

    @classmethod
    def concatenate(cls, parts: Sequence[ParticlePlacements]) -> ParticlePlacements:
        """Concatenate placements."""
        return cls(*(torch.cat([getattr(p, name) for p in parts]) for name in cls._names()))

    @classmethod
    def _names(cls) -> tuple[str, ...]:
        return tuple(cls.__dataclass_fields__)

    def __len__(self) -> int:
        return len(self.image)


def draw_rotations(number: int, generator: torch.Generator) -> Tensor:
    """Draw uniformly distributed rotations on the generator's device, shape (number, 3, 3)."""
    quaternion = torch.randn(number, 4, generator=generator, device=generator.device)
    return rotations_from_quaternions(quaternion)


def rotations_from_quaternions(quaternion: Tensor) -> Tensor:
    """Convert quaternions of any norm, shape (n, 4), to rotations, shape (n, 3, 3)."""
    w, x, y, z = (quaternion / quaternion.norm(dim=1, keepdim=True)).unbind(1)
    rows = [
        torch.stack([1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)], 1),
        torch.stack([2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)], 1),
        torch.stack([2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)], 1),
    ]
    return torch.stack(rows, dim=1)


def add_projections(
    field: Tensor, library: ParticleLibrary, placements: ParticlePlacements, window_px: int
) -> None:
    """Add particles' projections to images in place, averaged over each pixel.

    Equivalent to `heliodor.simulation.projection.add_projection` (the mean of a Gaussian over a
    pixel is a product of two differences of error functions), but periodic.

    Parameters
    ----------
    field
        Projected density in units of one pixel of solid protein, shape (n, h, w).
    library, placements
        What to add where.
    window_px
        Side of the square around each center that is computed; even, at most h and w.
    """
    together = CPU_BATCH if field.device.type == "cpu" else GPU_BATCH
    _, height, width = field.shape
    flat = field.view(-1)
    reach = torch.arange(window_px, device=field.device)
    for first in range(0, len(placements), together):
        batch = slice(first, first + together)
        corner = torch.floor(placements.xy_px[batch]) - window_px // 2
        drawn = _project(library, placements, batch, placements.xy_px[batch] - corner, window_px)
        columns = (corner[:, :1].long() + reach) % width
        rows = (corner[:, 1:].long() + reach) % height
        place = placements.image[batch, None, None] * height + rows[:, :, None]
        place = place * width + columns[:, None, :]
        flat.index_add_(0, place.flatten(), drawn.flatten())


def _project(
    library: ParticleLibrary,
    placements: ParticlePlacements,
    batch: slice,
    center: Tensor,
    window_px: int,
) -> Tensor:
    which, size = placements.which[batch], placements.diameter_px[batch, None]
    positions = library.positions[which]
    places = torch.einsum("nkj,nij->nki", positions, placements.rotations[batch, :2])
    places = places * size[..., None] + center[:, None]
    sigmas = library.sigmas[which] * size
    weights = library.weights[which] * size**3 * placements.scale[batch, None]
    weights = weights * (positions[..., 0] > placements.beyond_diameters[batch, None])
    edges = torch.arange(window_px + 1, device=center.device) - 0.5
    rate = 1 / (math.sqrt(2.0) * sigmas[..., None])
    columns, rows = (
        0.5 * torch.diff(torch.erf((edges - places[..., axis, None]) * rate), dim=2)
        for axis in (0, 1)
    )
    return torch.bmm(rows.transpose(1, 2), weights[..., None] * columns)
