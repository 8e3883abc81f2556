"""Networks optimized for scoring.

The scores are those of the network in evaluation mode, up to rounding. Batch normalization is
folded into the convolutions, and memory is laid out channels-last. A dense network passes an image
through all layers in strips of rows: each convolution keeps its last input rows for the next
strip, so nothing is computed twice and only a strip has to fit into memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

from heliodor.models.layers import Convolution, Residual
from heliodor.models.networks import Network
from heliodor.models.winograd import TAPS, WinogradConvolution

#: Rows of a strip on CPUs, whose caches are small, and on other devices.
STRIP_PX = 24
DEVICE_STRIP_PX = 512
#: Minimum number of input channels for which a Winograd convolution is faster.
MIN_WINOGRAD_CHANNELS = 16

#: A layer applied to the strips of one image in order, each of shape (1, channels, rows, columns).
LayerStream = Callable[[Tensor], Tensor]


class _RowBuffer:
    """The last rows of a strip, which the next strip needs."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._rows: Tensor | None = None

    def join(self, strip: Tensor) -> Tensor:
        """Return a strip below the kept rows, and keep its last rows."""
        if self._rows is not None:
            strip = torch.cat([self._rows, strip], dim=2)
        self._rows = strip[:, :, strip.shape[2] - self._count :]
        return strip


class _FoldedConvolution:
    """A convolution and the batch normalization after it, combined into one convolution.

    Parameters
    ----------
    conv, norm
        The convolution, and the normalization of its output or of its sum with a shortcut.
    stride, step
        The stride, and the factor by which the convolution's own dilation is multiplied.
    """

    def __init__(self, conv: nn.Conv2d, norm: nn.Module, stride: int = 1, step: int = 1) -> None:
        weight = conv.weight.detach().double()
        bias = weight.new_zeros(len(weight)) if conv.bias is None else conv.bias.detach().double()
        #: Factor for a shortcut that is added to the output; None for 1.
        self.scale: Tensor | None = None
        if isinstance(norm, nn.BatchNorm2d):
            mean, variance = cast(Tensor, norm.running_mean), cast(Tensor, norm.running_var)
            scale = norm.weight.detach().double() / (variance.double() + norm.eps).sqrt()
            weight = weight * scale[:, None, None, None]
            bias = (bias - mean.double()) * scale + norm.bias.detach().double()
            self.scale = scale.float()[:, None, None]
        self._stride, self._step = stride, step * conv.dilation[0]
        taps, inputs = conv.kernel_size[0], conv.in_channels
        #: Number of rows and columns by which the output is smaller.
        self.reach = self._step * (taps - 1)
        self._bias = bias.float()
        self._weight = weight.float().contiguous(memory_format=torch.channels_last)
        winograd = taps == TAPS and inputs >= MIN_WINOGRAD_CHANNELS and stride == 1
        on_cpu = weight.device.type == "cpu"
        self._winograd = WinogradConvolution(weight, self._step) if winograd and on_cpu else None

    def __call__(self, x: Tensor) -> Tensor:
        if self._winograd is not None:
            return self._winograd(x).add_(self._bias[:, None, None])
        return nn.functional.conv2d(
            x, self._weight, self._bias, stride=self._stride, dilation=self._step
        )


class InferenceNetwork:
    """An optimized copy of a network, with its current weights and on its current device.

    Parameters
    ----------
    network
        A network in evaluation mode.
    dense
        Whether to score every pixel, or every `stride`-th pixel.
    """

    def __init__(self, network: Network, dense: bool = True) -> None:
        self._field, self._dense = network.receptive_field, dense
        self._stride = 1 if dense else network.stride
        self._device = network.classifier.weight.device
        self._layers: list[Callable[[], LayerStream]] = []
        step = 1
        with torch.inference_mode():
            for layer in network.layers:
                if isinstance(layer, Residual):
                    self._layers.append(_stream_residual(layer, dense, step))
                else:
                    self._layers.append(_stream_convolution(cast(Convolution, layer), dense, step))
                step *= cast(int, layer.stride) if dense else 1
            self._classifier = _FoldedConvolution(network.classifier, nn.Identity())
            classifier = network.contaminant
            self._contaminant = (
                None if classifier is None else _FoldedConvolution(classifier, nn.Identity())
            )
        #: Contaminants are scored at every n-th row and column of the features.
        self._contaminant_step = network.stride // self._stride

    def __call__(self, image: Tensor) -> Tensor:
        """Return log-odds.

        Parameters
        ----------
        image
            Normalized, shape (h, w), each side at least the receptive field R.

        Returns
        -------
        Tensor
            Shape (h - R + 1, w - R + 1) if dense, otherwise the first and every `stride`-th of
            these rows and columns; on the CPU.
        """
        return self._score_in_strips(image, None)[0]

    def score_with_contaminants(self, image: Tensor, first_row: int = 0) -> tuple[Tensor, Tensor]:
        """Return log-odds of particles, and of contaminants at every `stride`-th pixel.

        Parameters
        ----------
        image
            As for `__call__`.
        first_row
            The row of the whole image at which this part of it starts: contaminants are scored
            at rows of the whole image that are multiples of the stride.

        Returns
        -------
        scores, contaminants
            The scores are identical to those of `__call__`.

        Raises
        ------
        ValueError
            If the network has no classifier of contaminants.
        """
        if self._contaminant is None:
            raise ValueError("the network has no classifier of contaminants")
        scores, parts = self._score_in_strips(image, first_row)
        return scores, torch.cat(parts)

    def compute_features(self, image: Tensor) -> Tensor:
        """Return the last layer's features, the input of the classifiers.

        Parameters
        ----------
        image
            As for `__call__`.

        Returns
        -------
        Tensor
            Shape (1, channels, h', w'); of every `stride`-th pixel if the network is not dense.
        """
        rows = (len(image) - self._field) // self._stride + 1
        with torch.inference_mode():
            # Only the rows that are used, as in `__call__`.
            x = image[None, None, : (rows - 1) * self._stride + self._field].to(self._device)
            for start in self._layers:
                x = start()(x)
            return x

    def classify_features(self, features: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the log-odds of particles and, if there is a classifier, of contaminants.

        Shape (h', w') each, on the CPU; as `score_with_contaminants` returns it.
        """
        with torch.inference_mode():
            classifier = self._contaminant
            contaminant = None if classifier is None else classifier(features)[0, 0].cpu()
            return self._classifier(features)[0, 0].cpu(), contaminant

    def _score_in_strips(
        self, image: Tensor, first_row: int | None
    ) -> tuple[Tensor, list[Tensor]]:
        """Return log-odds and, if a first row is given, those of contaminants, per strip."""
        rows, columns = ((side - self._field) // self._stride + 1 for side in image.shape)
        strip_px = STRIP_PX if self._device.type == "cpu" else DEVICE_STRIP_PX
        # A strided network needs little memory, and strips would have to match its strides.
        strip_px = strip_px if self._dense else rows
        out, parts = torch.empty(rows, columns), list[Tensor]()
        with torch.inference_mode():
            streams = [start() for start in self._layers]
            read = 0
            for top in range(0, rows, strip_px):
                bottom = min(top + strip_px, rows)
                end = (bottom - 1) * self._stride + self._field
                x = image[None, None, read:end].to(self._device)
                for stream in streams:
                    x = stream(x)
                out[top:bottom] = self._classifier(x)[0, 0].cpu()
                if first_row is not None and self._contaminant is not None:
                    start = -(first_row + top) % self._contaminant_step
                    lattice = x[:, :, start :: self._contaminant_step, :: self._contaminant_step]
                    if lattice.shape[2]:  # the last strip may have no such row
                        parts.append(self._contaminant(lattice)[0, 0].cpu())
                read = end
        return out, parts


def _stream_convolution(layer: Convolution, dense: bool, step: int) -> Callable[[], LayerStream]:
    """Return a function that starts passing the strips of an image through a layer."""
    folded = _FoldedConvolution(layer.conv, layer.norm, 1 if dense else layer.stride, step)
    slope = layer.activation.weight.detach() if isinstance(layer.activation, nn.PReLU) else None

    def start() -> LayerStream:
        kept = _RowBuffer(folded.reach)

        def push(strip: Tensor) -> Tensor:
            out = folded(kept.join(strip))
            return torch.relu_(out) if slope is None else torch.prelu(out, slope)

        return push

    return start


def _stream_residual(layer: Residual, dense: bool, step: int) -> Callable[[], LayerStream]:
    """Return a function that starts passing the strips of an image through a layer."""
    stride = 1 if dense else layer.stride
    first = _FoldedConvolution(layer.conv0, layer.norm0, 1, step)
    second = _FoldedConvolution(layer.conv1, layer.norm1, stride, step)
    project = None if layer.project is None else layer.project.weight.detach()
    if project is not None and second.scale is not None:
        project = project * second.scale[..., None]
    edge = (first.reach + second.reach) // 2

    def start() -> LayerStream:
        outer, inner, beside = (
            _RowBuffer(first.reach),
            _RowBuffer(second.reach),
            _RowBuffer(2 * edge),
        )

        def push(strip: Tensor) -> Tensor:
            out = second(inner.join(torch.relu_(first(outer.join(strip)))))
            shortcut = beside.join(strip)[:, :, edge:-edge:stride, edge:-edge:stride]
            if project is not None:
                out += nn.functional.conv2d(shortcut, project)
            elif second.scale is not None:
                out.addcmul_(shortcut, second.scale)
            else:
                out += shortcut
            return torch.relu_(out)

        return push

    return start
