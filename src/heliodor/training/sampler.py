"""Minibatches of labeled and unlabeled regions, cut on the training device.

A minibatch consists of tiles: squares for which a network gives side x side outputs, `stride`
pixels apart, so that the convolutions that neighboring regions share are computed once. A tile
of one output is a crop as wide as the receptive field, the paper's region.

All working images are concatenated in one flat tensor, padded by mirror images so that a region
may be centered on any pixel. A minibatch is one gather from it; rotations by quarter
turns and mirrors only permute the positions that are gathered. Images without a label are never
drawn from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from heliodor.conventions import (
    FloatArray,
    Shape,
)
from heliodor.data.coordinates.labels import LabeledImage, choose_label_share, disc_pixels
from heliodor.data.micrographs.dead_borders import find_dead_border
from heliodor.data.micrographs.fourier_crop import mirror_pad
from heliodor.errors import BadInput
from heliodor.utils.array_store import ArrayStore

#: Labels of a region: none, a particle, a negative, or outside the micrograph or uncertain.
UNLABELLED, POSITIVE, NEGATIVE, OUTSIDE = 0, 1, 2, 3

#: The symmetries of a square, as what (row, column) becomes.
_SYMMETRIES = torch.tensor(
    [
        [[1, 0], [0, 1]],
        [[0, -1], [1, 0]],
        [[-1, 0], [0, -1]],
        [[0, 1], [-1, 0]],
        [[1, 0], [0, -1]],
        [[0, 1], [1, 0]],
        [[-1, 0], [0, 1]],
        [[0, -1], [-1, 0]],
    ]
)


@dataclass(frozen=True)
class Minibatch:
    """A minibatch, or one kind of its tiles."""

    #: Shape (n, 1, S, S).
    images: Tensor
    #: Label of the region of each output, int8, shape (n, side, side), on the CPU.
    labels: Tensor
    #: Row and column of the output for which a tile was drawn, shape (n, 2).
    anchors: Tensor


class Sampler:
    """Draws minibatches; the same seed gives the same regions on every device.

    Parameters
    ----------
    images
        Normalized working images with their labels.
    radius_px
        Training radius in working pixels.
    width
        The network's receptive field, an odd number of pixels.
    seed
        Of the draws.
    device
        Where the images are kept and the tiles are cut.
    stride, side
        Pixels between two outputs of the network, and outputs along a tile's side.
    store
        Where the images and what is known of them lie; in memory by default.

    Raises
    ------
    BadInput
        If there is no image, no label lies on any, or the labels leave nothing unlabeled.
    """

    def __init__(
        self,
        images: Sequence[LabeledImage],
        radius_px: float,
        width: int,
        seed: int,
        device: torch.device | str = "cpu",
        stride: int = 1,
        side: int = 1,
        store: ArrayStore | None = None,
    ) -> None:
        if not images:
            raise BadInput("there are no micrographs to train on")
        self._half, self._stride, self._side = width // 2, stride, side
        margin = self._half + stride * (side - 1)
        self._store = store or ArrayStore()
        shapes = [item.shape for item in images]
        padded = [(height + 2 * margin, width + 2 * margin) for height, width in shapes]
        offsets = _firsts(padded)
        flat = self._store.allocate(int(offsets[-1]), np.float32)
        for item, first, last in zip(images, offsets, offsets[1:], strict=False):
            flat[first:last] = mirror_pad(item.image, margin).ravel()
            self._store.release_pages()
        self._pixels = torch.from_numpy(flat).to(device)
        self._generator = torch.Generator().manual_seed(seed)
        # Region -> its pixel in the flat tensor, and the row length there.
        firsts = _firsts(shapes)
        self._first = torch.from_numpy(firsts)
        self._columns = torch.tensor([item.shape[1] for item in images])
        self._pitch = torch.tensor([p[1] for p in padded])
        self._offset = torch.from_numpy(offsets[:-1]) + margin * (self._pitch + 1)
        positive, counts = _regions([item.xy_px for item in images], images, radius_px)
        if not len(positive):
            raise BadInput("no label lies on any of the training micrographs")
        picked, picked_counts = _regions([item.picked_xy_px for item in images], images, radius_px)
        negative, _ = _regions([item.negative_xy_px for item in images], images, radius_px)
        own = self._store.allocate(int(firsts[-1]), np.int8)
        by_image = np.split(own, firsts[1:-1])
        for part, item in zip(by_image, images, strict=True):
            part[:] = _nothing_known(item)
            self._store.release_pages()
        known = torch.from_numpy(own)
        known[negative] = NEGATIVE
        self._share = choose_label_share(len(positive), len(picked))
        known[picked] = OUTSIDE if self._share == 1 else POSITIVE
        known[positive] = POSITIVE
        if self._share == 1:  # nothing is drawn because of them
            picked, picked_counts = picked[:0], [0] * len(images)
        self._positive, self._picked = positive, picked
        self._negative = negative[known[negative] == NEGATIVE]
        self._known = known
        # Micrographs without a label do not count, as nothing is drawn from them.
        if not any(
            count and (part == UNLABELLED).any()
            for count, part in zip(np.add(counts, picked_counts), by_image, strict=True)
        ):
            raise BadInput("the labels cover the whole micrographs; check the diameter")
        surrounded = self._store.allocate(int(offsets[-1]), np.int8)
        for part, shape, first, last in zip(by_image, shapes, offsets, offsets[1:], strict=False):
            edged = np.pad(part.reshape(shape), margin, constant_values=OUTSIDE)
            surrounded[first:last] = edged.ravel()
            self._store.release_pages()
        self._known_padded = torch.from_numpy(surrounded)

    @property
    def labelled_pixels(self) -> int:
        """Number of positive regions."""
        return len(self._positive) + len(self._picked)

    @property
    def negative_pixels(self) -> int:
        """Number of negative regions."""
        return len(self._negative)

    def draw(self, positives: int, unlabelled: int, negatives: int = 0) -> Minibatch:
        """Return tiles drawn for positive, then for unlabeled, then for negative regions.

        Each is drawn for one region, its anchor, evenly among those of its kind; but positive ones
        around labels as often as those around picks. The anchor is any of the tile's outputs; the
        other outputs are the regions around it.
        """
        regions = torch.cat(
            [
                self._draw_positive(positives),
                self._draw_unlabelled(unlabelled),
                self._among(self._negative, negatives),
            ]
        )
        random = self._generator
        turns = torch.randint(len(_SYMMETRIES), (len(regions),), generator=random)
        anchors = torch.randint(self._side, (len(regions), 2), generator=random)
        return self.cut(regions, turns, anchors)

    def _among(self, regions: Tensor, number: int) -> Tensor:
        if not number:
            return regions[:0]
        return regions[torch.randint(len(regions), (number,), generator=self._generator)]

    def _draw_positive(self, number: int) -> Tensor:
        """Draw positive regions: labels, and picks if there are any; see `choose_label_share`."""
        drawn = self._among(self._positive, number)
        if not len(self._picked):
            return drawn
        picked = self._among(self._picked, number)
        chance = torch.rand(number, generator=self._generator, dtype=torch.float64)
        return torch.where(chance < self._share, drawn, picked)

    def _draw_unlabelled(self, number: int) -> Tensor:
        """Draw unlabeled regions from the micrographs in proportion to their labels.

        Labeled and unlabeled regions then come from the same micrographs equally often, and the
        network cannot distinguish them by defocus, ice or dose instead of by particles.
        """
        found = torch.empty(0, dtype=torch.int64)
        while len(found) < number:
            image = self._find_image(self._draw_positive(number + 8))
            first, size = self._first[image], self._first[image + 1] - self._first[image]
            share = torch.rand(len(image), generator=self._generator, dtype=torch.float64)
            drawn = first + (share * size).to(torch.int64)
            found = torch.cat([found, drawn[self._known[drawn] == UNLABELLED]])
        return found[:number]

    def cut(self, regions: Tensor, turns: Tensor, anchors: Tensor | None = None) -> Minibatch:
        """Cut tiles around regions (positions counted through all images).

        Parameters
        ----------
        regions, turns
            The anchors' regions, and which of the eight symmetries to apply, shape (n,).
        anchors
            Which output of its tile is centered on the region, shape (n, 2); the first by default.
        """
        if anchors is None:
            anchors = torch.zeros((len(regions), 2), dtype=torch.int64)
        image = self._find_image(regions)
        within = regions - self._first[image]
        columns, pitch = self._columns[image], self._pitch[image]
        centre = self._offset[image] + within // columns * pitch + within % columns
        # What one step down and one step right in the tile mean in the flat tensor.
        symmetry = _SYMMETRIES[turns]
        down, right = (symmetry[:, 0, k] * pitch + symmetry[:, 1, k] for k in (0, 1))
        corner = centre - self._stride * (down * anchors[:, 0] + right * anchors[:, 1])
        placed = torch.stack([corner, down, right])
        known = _gather(self._known_padded, placed, 0, self._stride, self._side)
        width = 2 * self._half + 1 + self._stride * (self._side - 1)
        tiles = _gather(
            self._pixels, copy_to_device(placed, self._pixels.device), -self._half, 1, width
        )
        self._store.release_pages()
        return Minibatch(tiles[:, None], known, anchors)

    def _find_image(self, regions: Tensor) -> Tensor:
        """Return the index of each region's image."""
        return torch.searchsorted(self._first, regions, right=True) - 1

    @property
    def random(self) -> torch.Generator:
        """The random generator; its state is all that changes."""
        return self._generator


def copy_to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor from the CPU to a device, without waiting for pending work of a GPU."""
    if device.type == "cuda":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def _gather(source: Tensor, placed: Tensor, first: int, step: int, number: int) -> Tensor:
    """Gather squares of a flat tensor: `number` pixels along a side, `step` apart.

    `placed` holds for each its corner, which is pixel 0, and the steps down and right.
    """
    steps = torch.arange(first, first + step * number, step, device=source.device)
    corner, down, right = placed[..., None]
    rows = corner + down * steps
    return source[rows[:, :, None] + (right * steps)[:, None, :]]


def _firsts(shapes: Sequence[Shape]) -> NDArray[np.int64]:
    """Return the offsets of concatenated images of these shapes, and the end of the last."""
    sizes = [height * width for height, width in shapes]
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)


def _nothing_known(item: LabeledImage) -> NDArray[np.int8]:
    """Return the labels of an image that nobody labeled: outside in margin and dead borders."""
    known = np.full(item.shape, OUTSIDE, dtype=np.int8)
    border = find_dead_border(item.image).at_least(item.margin_px)
    known[border.live_region(item.shape)] = UNLABELLED
    return known.ravel()


def _regions(
    xy_px: Sequence[FloatArray], images: Sequence[LabeledImage], radius_px: float
) -> tuple[Tensor, list[int]]:
    """Return the pixels around points, counted through all images, and the number per image."""
    first, parts = 0, []
    for xy, item in zip(xy_px, images, strict=True):
        parts.append(disc_pixels(xy, item.shape, radius_px) + first)
        first += item.image.size
    return torch.from_numpy(np.concatenate(parts).astype(np.int64)), [len(p) for p in parts]
