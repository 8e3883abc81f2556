"""Winograd (Cook-Toom) convolution along one axis, which needs fewer multiplications.

m outputs of a convolution with k taps depend on n = m + k - 1 inputs. Computed as a product of
polynomials evaluated at n points, they take n multiplications instead of m k: here 8 instead of
20. PyTorch's convolution is used along the other axis, so only additions are done here.

Source: Winograd, Arithmetic Complexity of Computations, 1980; Lavin and Gray, Fast algorithms for
convolutional neural networks, 2016.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from heliodor.conventions import FloatArray

#: Number of outputs that are computed together.
OUTPUTS = 4
#: Evaluation points for five taps, besides infinity; small, to limit rounding errors.
POINTS = (0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5)
#: Number of taps of the convolution.
TAPS = len(POINTS) + 2 - OUTPUTS
#: Columns computed at a time, so that they stay in the cache.
BLOCK_PX = 64


def winograd_transforms() -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the transforms of inputs (n, n), of taps (n, k), and of products to outputs (m, n).

    For inputs d and taps g, ``back @ ((taps @ g) * (inputs @ d))`` are the m values
    ``sum_j g[j] d[i + j]``.
    """
    n = OUTPUTS + TAPS - 1

    def evaluation(coefficients: int) -> FloatArray:
        rows = np.vander(np.array(POINTS), coefficients, increasing=True)
        return np.vstack([rows, np.eye(coefficients)[-1]])  # at infinity: the leading one

    # Transposing the polynomial product exchanges inputs and outputs.
    inputs = np.linalg.inv(evaluation(n)).T
    # Scaling by powers of two is exact and gives all factors a similar size.
    scale = np.exp2(np.round(np.log2(np.abs(inputs).max(axis=1))))[:, None]
    return inputs / scale, evaluation(TAPS) * scale, evaluation(OUTPUTS).T


class WinogradConvolution:
    """A convolution with 5 x 5 taps and fixed weights, without stride.

    Parameters
    ----------
    weight
        Shape (outputs, inputs, 5, 5).
    step
        Dilation.
    """

    def __init__(self, weight: Tensor, step: int) -> None:
        inputs, taps, back = winograd_transforms()
        self._inputs, self._back = inputs.tolist(), back.tolist()
        self._channels = len(weight)
        self._step = step
        factors = torch.einsum("nj,kcij->nkci", torch.from_numpy(taps), weight.double())
        last = torch.channels_last
        self._columns = [f[..., None].float().contiguous(memory_format=last) for f in factors]

    def __call__(self, x: Tensor) -> Tensor:
        """Convolve a channels-last image.

        Parameters
        ----------
        x
            Shape (1, inputs, height, width).

        Returns
        -------
        Tensor
            Shape (1, outputs, height - 4 step, width - 4 step), channels-last.
        """
        height, width = x.shape[2:]
        step, n = self._step, len(self._inputs)
        rows, columns = height - (TAPS - 1) * step, width - (TAPS - 1) * step
        tiles = -(-columns // (OUTPUTS * step))
        # One additional tile, because the last one reads beyond its right edge.
        full = (tiles + 1) * OUTPUTS * step
        x = nn.functional.pad(x.permute(0, 2, 3, 1)[0], (0, 0, 0, max(0, full - width)))
        split = x[:, :full].view(height, tiles + 1, OUTPUTS, step, -1)
        out = x.new_empty(rows, tiles, OUTPUTS, step, self._channels)
        block = max(1, BLOCK_PX // (OUTPUTS * step))
        for first in range(0, tiles, block):
            last = min(first + block, tiles)
            pixels = [
                split[:, first + j // OUTPUTS : last + j // OUTPUTS, j % OUTPUTS] for j in range(n)
            ]
            self._convolve(pixels, out[:, first:last])
        return out.flatten(1, 3)[None, :, :columns].permute(0, 3, 1, 2)

    def _convolve(self, pixels: list[Tensor], out: Tensor) -> None:
        """Convolve a block of tiles, given as the n input pixels of all tiles."""
        height, tiles, step, channels = pixels[0].shape
        factor = out.new_empty(height, tiles, step, channels)
        for i, column in enumerate(self._columns):
            _weighted_sum(factor, pixels, self._inputs[i])
            image = factor.flatten(1, 2)[None].permute(0, 3, 1, 2)
            product = nn.functional.conv2d(image, column, dilation=(step, 1))
            product = product.permute(0, 2, 3, 1).view(-1, tiles, step, self._channels)
            for j, weights in enumerate(self._back):
                if i == 0:
                    torch.mul(product, weights[0], out=out[:, :, j])
                elif weights[i]:
                    out[:, :, j].add_(product, alpha=weights[i])


def _weighted_sum(out: Tensor, parts: list[Tensor], weights: list[float]) -> None:
    """Write the weighted sum of parts to `out`, skipping zero weights."""
    used = [(part, weight) for part, weight in zip(parts, weights, strict=True) if weight]
    torch.mul(used[0][0], used[0][1], out=out)
    for part, weight in used[1:]:
        out.add_(part, alpha=weight)
