"""A network made ready for scoring: the same function, at the speed of the machine.

Scores are those of the network in evaluation mode, to rounding. Normalisation is folded into the
convolutions and channels lie next to each other in memory. The dense twin takes an image through
all layers a strip of rows at a time: each convolution keeps the last rows that it was given for
those that follow, so nothing is computed twice, and the memory is that of a strip.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

from heliodor.models.layers import Convolution, Residual
from heliodor.models.networks import Network
from heliodor.models.winograd import TAPS, WinogradConvolution

#: Rows of a strip, on CPUs, whose caches are small, and on other devices.
STRIP_PX = 24
DEVICE_STRIP_PX = 512
#: Input channels from which on a convolution with fewer multiplications pays.
MIN_WINOGRAD_CHANNELS = 16

#: Takes the strips of one image one after another, shape (1, channels, rows, columns).
LayerStream = Callable[[Tensor], Tensor]


class _RowBuffer:
    """The last rows of a strip, without which those of the next one cannot be computed."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._rows: Tensor | None = None

    def join(self, strip: Tensor) -> Tensor:
        """Return the kept rows with new ones below them, and keep the last of these."""
        if self._rows is not None:
            strip = torch.cat([self._rows, strip], dim=2)
        self._rows = strip[:, :, strip.shape[2] - self._number :]
        return strip


class _FoldedConvolution:
    """A convolution and the normalisation that follows it, as one convolution.

    Parameters
    ----------
    conv, norm
        The convolution, and what is applied to its output, or to the sum of it and a shortcut.
    stride, step
        Its stride, and the distance of neighbouring inputs that its own dilation multiplies.
    """

    def __init__(self, conv: nn.Conv2d, norm: nn.Module, stride: int = 1, step: int = 1) -> None:
        weight = conv.weight.detach().double()
        bias = weight.new_zeros(len(weight)) if conv.bias is None else conv.bias.detach().double()
        #: What a shortcut is to be multiplied by; None for 1.
        self.scale: Tensor | None = None
        if isinstance(norm, nn.BatchNorm2d):
            mean, variance = cast(Tensor, norm.running_mean), cast(Tensor, norm.running_var)
            scale = norm.weight.detach().double() / (variance.double() + norm.eps).sqrt()
            weight = weight * scale[:, None, None, None]
            bias = (bias - mean.double()) * scale + norm.bias.detach().double()
            self.scale = scale.float()[:, None, None]
        self._stride, self._step = stride, step * conv.dilation[0]
        taps, inputs = conv.kernel_size[0], conv.in_channels
        #: Rows and columns that it consumes.
        self.reach = self._step * (taps - 1)
        self._bias = bias.float()
        self._weight = weight.float().contiguous(memory_format=torch.channels_last)
        short = taps == TAPS and inputs >= MIN_WINOGRAD_CHANNELS and stride == 1
        on_cpu = weight.device.type == "cpu"
        self._short = WinogradConvolution(weight, self._step) if short and on_cpu else None

    def __call__(self, x: Tensor) -> Tensor:
        if self._short is not None:
            return self._short(x).add_(self._bias[:, None, None])
        return nn.functional.conv2d(
            x, self._weight, self._bias, stride=self._stride, dilation=self._step
        )


class InferenceNetwork:
    """A network with the weights that it has now, on the device that it is on.

    Parameters
    ----------
    network
        In evaluation mode.
    dense
        Whether it scores every pixel, or every `stride`-th one.
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
            own = network.contaminant
            self._contaminant = None if own is None else _FoldedConvolution(own, nn.Identity())
        #: Of the features' rows and columns, those of the strided network.
        self._every = network.stride // self._stride

    def __call__(self, image: Tensor) -> Tensor:
        """Return log-odds.

        Parameters
        ----------
        image
            Normalised, shape (h, w), each side at least the receptive field R.

        Returns
        -------
        Tensor
            Shape (h - R + 1, w - R + 1) where dense, else the first and every `stride`-th of
            these; on the CPU.
        """
        return self._score_in_strips(image, None)[0]

    def score_with_contaminants(self, image: Tensor, first_row: int = 0) -> tuple[Tensor, Tensor]:
        """Return log-odds, and those of contaminants at every `stride`-th pixel, from one pass.

        Parameters
        ----------
        image
            As for a call.
        first_row
            The row of the whole image that the first row of the result is: of contaminants
            there are the rows of the whole that the stride divides.

        Returns
        -------
        scores, contaminants
            The first as of a call, to the last bit.

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
        """Return the last layer's features, from which all that is told follows.

        Parameters
        ----------
        image
            As for a call.

        Returns
        -------
        Tensor
            Of every `stride`-th pixel of a network that is not dense, shape (1, channels, h', w').
        """
        rows = (len(image) - self._field) // self._stride + 1
        with torch.inference_mode():
            # No rows beyond those that are used, as for a call.
            x = image[None, None, : (rows - 1) * self._stride + self._field].to(self._device)
            for start in self._layers:
                x = start()(x)
            return x

    def classify_features(self, features: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return what is told from features: of a particle and, where it is, a contaminant.

        Shape (h', w') each, on the CPU; as `score_with_contaminants` returns it.
        """
        with torch.inference_mode():
            own = self._contaminant
            contaminant = None if own is None else own(features)[0, 0].cpu()
            return self._classifier(features)[0, 0].cpu(), contaminant

    def _score_in_strips(
        self, image: Tensor, first_row: int | None
    ) -> tuple[Tensor, list[Tensor]]:
        """Return log-odds, and where a first row is given those of contaminants, in parts."""
        rows, columns = ((side - self._field) // self._stride + 1 for side in image.shape)
        strip_px = STRIP_PX if self._device.type == "cpu" else DEVICE_STRIP_PX
        # Strides and strips would have to agree; a strided network needs little memory anyway.
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
                    start = -(first_row + top) % self._every
                    lattice = x[:, :, start :: self._every, :: self._every]
                    if lattice.shape[2]:  # the last strip may have no such row
                        parts.append(self._contaminant(lattice)[0, 0].cpu())
                read = end
        return out, parts


def _stream_convolution(layer: Convolution, dense: bool, step: int) -> Callable[[], LayerStream]:
    """Return what begins the passage of an image through a layer."""
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
    """Return what begins the passage of an image through a layer."""
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
