"""The network of filaments: axes, their directions and contamination at points of a lattice.

A residual U-Net: each output depends on a region 35 filament widths wide, so that faint
filaments are found by their length, and crossings and bundles are told apart.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from heliodor.errors import BadInput

#: Width of a filament in the network's pixels.
WORKING_WIDTH_PX = 12.0
#: Distance of the outputs in the network's pixels, and position of the first.
LATTICE_STEP_PX, LATTICE_FIRST_PX = 4, 1.5
#: The sides of an input must be multiples of this.
MULTIPLE_PX = 16
#: An output depends on pixels up to this distance.
REACH_PX = 208
#: Channels of the output: axis, cosine and sine of twice the angle, offset (x, y) in lattice
#: steps, contamination.
AXIS, ANGLE, OFFSET, CONTAMINANT = 0, slice(1, 3), slice(3, 5), 5
OUTPUTS = 6
#: Most channels of a network.
MOST_WIDTH = 256


class _Block(nn.Module):
    """Two 3 x 3 convolutions with batch normalization, and a shortcut."""

    def __init__(self, channels: int, dilation: int = 1) -> None:
        super().__init__()
        self.conv0 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm0 = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(
            channels, channels, 3, padding=dilation, dilation=dilation, bias=False
        )
        self.norm1 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        inner = torch.relu(self.norm0(self.conv0(x)))
        return torch.relu(x + self.norm1(self.conv1(inner)))


class _Change(nn.Module):
    """A convolution with batch normalization that changes channels and, if strided, halves."""

    def __init__(self, inputs: int, outputs: int, size: int, stride: int = 1) -> None:
        super().__init__()
        # Even sizes with stride 2 keep the lattice symmetric: mirrored images give mirrored maps.
        self.conv = nn.Conv2d(
            inputs, outputs, size, stride, padding=(size - stride) // 2, bias=False
        )
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.norm(self.conv(x)))


class FilamentNetwork(nn.Module):
    """The network.

    Parameters
    ----------
    width
        Channels at the lattice of the output; half as many above, and more below.
    """

    name = "filament-unet"

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        check_width(width)
        top, low, lowest = width // 2, width * 3 // 2, 2 * width
        self.width = width
        self.halve0 = nn.Sequential(_Change(1, top, 6, 2), _Block(top))
        self.halve1 = nn.Sequential(_Change(top, width, 4, 2), _Block(width), _Block(width))
        self.halve2 = nn.Sequential(_Change(width, low, 4, 2), _Block(low), _Block(low, 2))
        self.bottom = nn.Sequential(_Change(low, lowest, 4, 2), _Block(lowest), _Block(lowest, 2))
        self.rise2 = _Change(lowest + low, low, 1)
        self.join2 = _Block(low)
        self.rise1 = _Change(low + width, width, 1)
        self.join1 = nn.Sequential(_Block(width), _Block(width))
        self.head = nn.Conv2d(width, OUTPUTS, 1)
        if self.head.weight.is_meta:
            return
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        for block in self.modules():
            if isinstance(block, _Block):
                nn.init.constant_(block.norm1.weight, 0.3)
        nn.init.normal_(self.head.weight, std=0.25 * width**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs.

        Parameters
        ----------
        x
            Normalized images, shape (n, 1, h, w), multiples of `MULTIPLE_PX`.

        Returns
        -------
        Tensor
            Shape (n, `OUTPUTS`, h / 4, w / 4), at the pixels 1.5, 5.5 and so on.
        """
        fine = self.halve1(self.halve0(x))
        coarse = self.halve2(fine)
        lowest = self.bottom(coarse)
        coarse = self.join2(self.rise2(torch.cat([_double(lowest), coarse], dim=1)))
        fine = self.join1(self.rise1(torch.cat([_double(coarse), fine], dim=1)))
        out: Tensor = self.head(fine)
        return out


def _double(x: Tensor) -> Tensor:
    return interpolate(x, scale_factor=2.0, mode="nearest")


def check_width(width: int) -> None:
    """Raise BadInput if a network cannot have this number of channels."""
    if not 2 <= width <= MOST_WIDTH or width % 2:
        raise BadInput(
            f"the width of a network of filaments must be even and 2 to {MOST_WIDTH}, not {width}"
        )


def tensor_shapes(width: int) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a network's tensors without allocating them."""
    with torch.device("meta"):
        network = FilamentNetwork(width)
    return {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}
