"""The decoder of the autoencoder: reconstructs a crop from a network's features.

With few labels, the reconstruction error regularizes the features of the classifier (Bepler et
al., Methods 5 and 6, Results 4).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

#: Number of channels before the last layer.
BASE_CHANNELS = 32
#: The reconstruction helps up to this number of labeled particles.
MAX_LABELED = 250


def choose_decoder_layout(width_px: int) -> tuple[int, int]:
    """Choose the decoder's first side s and its number of doublings.

    The decoder's images are 2 s 2^doublings - 1 pixels wide, with s = 4, 5, 6 or 7. The layout
    returned is that with the smallest width of at least `width_px`.

    Parameters
    ----------
    width_px
        R, the width of the crops, 1 or more.

    Returns
    -------
    int, int
        s and the number of doublings: 4 and 2 for the paper's 31 pixels.
    """
    side, doublings = max(4, (width_px + 2) // 2), 0
    while side > 7:
        side, doublings = (side + 1) // 2, doublings + 1
    return side, doublings


class Decoder(nn.Module):
    """Transpose convolutions from features to an image (Methods 6, after DCGAN).

    The first gives s x s pixels; 4 x 4 ones with stride 2 double the side and halve the channels,
    down to 32; the last, 3 x 3 with stride 2, gives the image. Batch normalization and leaky ReLU
    follow each but the last. For 31 pixels this is the paper's decoder, with
    128, 64 and 32 channels and sides 4, 8, 16 and 31; see `choose_decoder_layout` for
    others, whose images may be some pixels too wide and are cropped around their center.

    Parameters
    ----------
    channels
        Number of features of a crop.
    width_px
        R, the width of the crops: the network's receptive field.
    """

    def __init__(self, channels: int, width_px: int) -> None:
        super().__init__()
        self.width_px = width_px
        side, doublings = choose_decoder_layout(width_px)
        outputs = BASE_CHANNELS * 2**doublings
        layers = _decoder_block(nn.ConvTranspose2d(channels, outputs, side, bias=False))
        for _ in range(doublings):
            inputs, outputs = outputs, outputs // 2
            layers += _decoder_block(
                nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1, bias=False)
            )
        layers.append(nn.ConvTranspose2d(outputs, 1, 3, stride=2, padding=1))
        self.layers = nn.Sequential(*layers)
        # DCGAN's initialization: the first images are nearly 0, the mean of normalized crops.
        for layer in layers:
            if isinstance(layer, nn.ConvTranspose2d):
                nn.init.normal_(layer.weight, std=0.02)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    def forward(self, features: Tensor) -> Tensor:
        """Reconstruct crops.

        Parameters
        ----------
        features
            Shape (n, channels) or (n, channels, 1, 1), as `Network.features` returns for crops.

        Returns
        -------
        Tensor
            Images, shape (n, 1, R, R).
        """
        image: Tensor = self.layers(features.flatten(1)[:, :, None, None])
        first = (image.shape[-1] - self.width_px) // 2
        last = first + self.width_px
        return image[:, :, first:last, first:last]


def _decoder_block(layer: nn.ConvTranspose2d) -> list[nn.Module]:
    # The paper does not give the slope; 0.2 is DCGAN's.
    return [layer, nn.BatchNorm2d(layer.out_channels), nn.LeakyReLU(0.2)]


def reconstruction_error(images: Tensor, decoded: Tensor) -> Tensor:
    """Return the expected reconstruction error, E ||x - d(f(x))||^2 (Methods 5).

    Parameters
    ----------
    images, decoded
        Crops and their reconstructions, both of shape (n, 1, R, R).

    Returns
    -------
    Tensor
        A scalar: the mean over images of the sum over pixels.
    """
    if images.shape != decoded.shape:
        # Broadcasting would compare each image with all others.
        raise ValueError(f"shapes {tuple(images.shape)} and {tuple(decoded.shape)} differ")
    return torch.square(images - decoded).flatten(1).sum(dim=1).mean()


def choose_reconstruction_weight(label_count: int) -> float:
    """Return gamma, the weight of the reconstruction error, for a number of labels.

    10 / N up to 250 labeled particles, and 0 beyond, where the reconstruction hurts (Results,
    "Augmentation with autoencoder", and Figure 5b).

    Parameters
    ----------
    label_count
        N, the number of labeled particles, 1 or more.
    """
    return 10 / label_count if label_count <= MAX_LABELED else 0.0
