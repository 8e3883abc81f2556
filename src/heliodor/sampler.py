"""Minibatches of labelled and unlabelled regions, cut on the device that trains.

All working images lie one behind the other in one flat tensor, padded by mirror images so
that a region may be centred on any pixel. A minibatch is one gather from it; rotations by
quarter turns and mirrors only permute the positions that are gathered. Images without a label
are never drawn from.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from heliodor.errors import BadInput
from heliodor.labels import LabelledImage, disc_pixels
from heliodor.resample import pad


class Sampler:
    """Draws minibatches; the same seed gives the same regions on every device.

    Parameters
    ----------
    images
        Normalised working images with their labels.
    radius_px
        Training radius in working pixels.
    width
        The network's receptive field, an odd number of pixels.
    seed
        Of the draws.
    device
        Where the images are kept and the crops are cut.

    Raises
    ------
    BadInput
        If there is no image, no label lies on any, or nothing is left unlabelled beside them.
    """

    def __init__(
        self,
        images: Sequence[LabelledImage],
        radius_px: float,
        width: int,
        seed: int,
        device: torch.device | str = "cpu",
    ) -> None:
        if not images:
            raise BadInput("there is no micrograph to train on")
        edge = width // 2
        padded = [pad(item.image, edge) for item in images]
        offsets = np.concatenate([[0], np.cumsum([p.size for p in padded])]).astype(np.int64)
        flat = np.concatenate([p.ravel() for p in padded], dtype=np.float32)
        self._pixels = torch.from_numpy(flat).to(device)
        self._generator = torch.Generator().manual_seed(seed)
        # Region -> corner of its crop in the flat tensor, and the row length there.
        sizes = np.array([item.image.size for item in images], dtype=np.int64)
        self._first = torch.from_numpy(np.concatenate([[0], np.cumsum(sizes)]))
        self._columns = torch.tensor([item.shape[1] for item in images])
        self._pitch = torch.tensor([p.shape[1] for p in padded])
        self._offset = torch.from_numpy(offsets[:-1])
        positions = [
            disc_pixels(item.xy_px, item.shape, radius_px) + int(first)
            for item, first in zip(images, self._first, strict=False)
        ]
        self._positive = torch.from_numpy(np.concatenate(positions).astype(np.int64))
        per_image = torch.tensor([len(found) for found in positions])
        self._positive_image = torch.repeat_interleave(torch.arange(len(images)), per_image)
        self._is_positive = torch.zeros(int(self._first[-1]), dtype=torch.bool)
        self._is_positive[self._positive] = True
        if not len(self._positive):
            raise BadInput("no label lies on any of the training micrographs")
        # Micrographs without a label do not count: nothing is drawn from them.
        if all(len(found) in (0, size) for found, size in zip(positions, sizes, strict=True)):
            raise BadInput("the labels cover the whole micrographs; check the diameter")
        self._turns = _turns(width)

    @property
    def labelled_pixels(self) -> int:
        """Positive regions in all."""
        return len(self._positive)

    def draw(self, positives: int, unlabelled: int) -> Tensor:
        """Return crops, shape (positives + unlabelled, 1, width, width), positives first."""
        random = self._generator
        chosen = torch.randint(len(self._positive), (positives,), generator=random)
        regions = torch.cat([self._positive[chosen], self._draw_unlabelled(unlabelled)])
        turns = torch.randint(len(self._turns), (len(regions),), generator=random)
        return self.cut(regions, turns)

    def _draw_unlabelled(self, number: int) -> Tensor:
        """Draw unlabelled regions from the micrographs in proportion to their labels.

        Labelled and unlabelled regions then come from the same micrographs equally often, and
        the network cannot tell them apart by defocus, ice or dose instead of by particles.
        """
        found = torch.empty(0, dtype=torch.int64)
        while len(found) < number:
            chosen = torch.randint(len(self._positive), (number + 8,), generator=self._generator)
            image = self._positive_image[chosen]
            first, size = self._first[image], self._first[image + 1] - self._first[image]
            share = torch.rand(len(image), generator=self._generator, dtype=torch.float64)
            drawn = first + (share * size).to(torch.int64)
            found = torch.cat([found, drawn[~self._is_positive[drawn]]])
        return found[:number]

    def cut(self, regions: Tensor, turns: Tensor) -> Tensor:
        """Cut the crops centred on regions (positions counted through all images)."""
        image = torch.searchsorted(self._first, regions, right=True) - 1
        within = regions - self._first[image]
        columns, pitch = self._columns[image], self._pitch[image]
        corner = self._offset[image] + within // columns * pitch + within % columns
        rows_columns = self._turns[turns]  # (n, 2, width, width)
        index = corner[:, None, None] + rows_columns[:, 0] * pitch[:, None, None]
        index += rows_columns[:, 1]
        return self._pixels[index.to(self._pixels.device)][:, None]

    def state(self) -> Tensor:
        """Return the state of the random draws."""
        return self._generator.get_state()


def _turns(width: int) -> Tensor:
    """Return the eight ways to lay a square on itself: row and column to read, per pixel."""
    plain = torch.stack(torch.meshgrid(torch.arange(width), torch.arange(width), indexing="ij"))
    turned = [torch.rot90(plain, k, (1, 2)) for k in range(4)]
    return torch.stack([*turned, *(t.flip(2) for t in turned)])
