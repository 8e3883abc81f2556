"""Projections of many particles at once, on the device that trains."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from heliodor.simulation.builtin_particles import Particle

#: Particles that are drawn together, on CPUs, whose caches are small, and on other devices.
CPU_BATCH, GPU_BATCH = 16, 512


@dataclass(frozen=True)
class ParticleLibrary:
    """Particles side by side, each of diameter 1, filled up with blobs that weigh nothing."""

    #: Shape (particles, blobs, 3).
    positions: Tensor
    #: Shape (particles, blobs).
    sigmas: Tensor
    #: As volumes, in units of the diameter's cube; shape (particles, blobs).
    weights: Tensor

    @classmethod
    def from_particles(
        cls, particles: Sequence[Particle], device: torch.device | str = "cpu"
    ) -> ParticleLibrary:
        """Put particles side by side on a device."""
        most = max(len(own.blobs) for own in particles)
        positions = torch.zeros(len(particles), most, 3)
        sigmas, weights = torch.ones(2, len(particles), most)
        weights.zero_()
        for row, own in enumerate(particles):
            blobs, number, size = own.blobs, len(own.blobs), own.diameter_angstrom
            positions[row, :number] = torch.from_numpy(blobs.positions / size)
            sigmas[row, :number] = torch.from_numpy(blobs.sigmas / size)
            weights[row, :number] = torch.from_numpy(blobs.weights / size**3)
        return cls(positions.to(device), sigmas.to(device), weights.to(device))

    def __len__(self) -> int:
        return len(self.positions)


@dataclass(frozen=True)
class ParticlePlacements:
    """Particles, or parts of such, to be drawn into images; n of them, tensors on one device."""

    #: Which image, shape (n,).
    image: Tensor
    #: Which particle of the library, shape (n,).
    which: Tensor
    #: Centres (x, y) in pixels, shape (n, 2).
    xy_px: Tensor
    #: Rotations, shape (n, 3, 3); the first two rows give x and y.
    rotations: Tensor
    #: Diameters in pixels, shape (n,).
    diameter_px: Tensor
    #: Factor on the projected thickness, shape (n,).
    scale: Tensor
    #: A part of a particle: only the blobs beyond so much along its own x axis, in diameters,
    #: are kept, shape (n,); -1 keeps all.
    beyond_diameters: Tensor

    @classmethod
    def concatenate(cls, parts: Sequence[ParticlePlacements]) -> ParticlePlacements:
        """Put stamps one after another."""
        return cls(*(torch.cat([getattr(p, name) for p in parts]) for name in cls._names()))

    @classmethod
    def _names(cls) -> tuple[str, ...]:
        return tuple(cls.__dataclass_fields__)

    def __len__(self) -> int:
        return len(self.image)


def draw_rotations(number: int, generator: torch.Generator) -> Tensor:
    """Draw rotations, evenly over all, shape (number, 3, 3); on the generator's device."""
    quaternion = torch.randn(number, 4, generator=generator, device=generator.device)
    return rotations_from_quaternions(quaternion)


def rotations_from_quaternions(quaternion: Tensor) -> Tensor:
    """Return the rotations of quaternions of any length, shape (n, 4) to (n, 3, 3)."""
    w, x, y, z = (quaternion / quaternion.norm(dim=1, keepdim=True)).unbind(1)
    rows = [
        torch.stack([1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)], 1),
        torch.stack([2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)], 1),
        torch.stack([2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)], 1),
    ]
    return torch.stack(rows, dim=1)


def add_projections(
    field: Tensor, library: ParticleLibrary, stamps: ParticlePlacements, window_px: int
) -> None:
    """Add particles' projections to images in place, averaged over each pixel.

    As `projection.add_projection`, which is its law: a Gaussian's mean over a pixel is a product
    of two differences of error functions. What lies beyond one edge comes in at the other.

    Parameters
    ----------
    field
        Projected density in units of a pixel of solid protein times its side, shape (n, h, w).
    library, stamps
        What to add where.
    window_px
        Side of the square around each centre that is drawn, even, at most h and w.
    """
    together = CPU_BATCH if field.device.type == "cpu" else GPU_BATCH
    _, height, width = field.shape
    flat = field.view(-1)
    reach = torch.arange(window_px, device=field.device)
    for first in range(0, len(stamps), together):
        own = slice(first, first + together)
        corner = torch.floor(stamps.xy_px[own]) - window_px // 2
        drawn = _project(library, stamps, own, stamps.xy_px[own] - corner, window_px)
        columns = (corner[:, :1].long() + reach) % width
        rows = (corner[:, 1:].long() + reach) % height
        place = stamps.image[own, None, None] * height + rows[:, :, None]
        place = place * width + columns[:, None, :]
        flat.index_add_(0, place.flatten(), drawn.flatten())


def _project(
    library: ParticleLibrary,
    stamps: ParticlePlacements,
    own: slice,
    centre: Tensor,
    window_px: int,
) -> Tensor:
    which, size = stamps.which[own], stamps.diameter_px[own, None]
    positions = library.positions[which]
    places = torch.einsum("nkj,nij->nki", positions, stamps.rotations[own, :2])
    places = places * size[..., None] + centre[:, None]
    sigmas = library.sigmas[which] * size
    weights = library.weights[which] * size**3 * stamps.scale[own, None]
    weights = weights * (positions[..., 0] > stamps.beyond_diameters[own, None])
    edges = torch.arange(window_px + 1, device=centre.device) - 0.5
    rate = 1 / (math.sqrt(2.0) * sigmas[..., None])
    columns, rows = (
        0.5 * torch.diff(torch.erf((edges - places[..., axis, None]) * rate), dim=2)
        for axis in (0, 1)
    )
    return torch.bmm(rows.transpose(1, 2), weights[..., None] * columns)
