"""Dense scores: the log-odds of a particle at every pixel of a working image."""

from __future__ import annotations

import functools
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from heliodor.conventions import Image, IndexArray
from heliodor.data.micrographs.fourier_crop import mirror_pad
from heliodor.models.inference_network import InferenceNetwork
from heliodor.models.networks import Network
from heliodor.utils.compute import one_thread_each

#: Fewest rows that a thread scores: each computes the surroundings of its first row again.
BAND_PX = 128


class NetworkOutput(NamedTuple):
    """The output of a network for an image."""

    #: Log-odds of a particle at every pixel, shape (h, w).
    particle: Image
    #: Log-odds of a contaminant at the pixels [::stride, ::stride]; None for networks without that
    #: output.
    contaminant: Image | None


def score_image(network: Network, image: Image, device: torch.device | str = "cpu") -> Image:
    """Score every pixel of a normalized working image.

    Parameters
    ----------
    network
        In evaluation mode; it is moved to the device.
    image
        Shape (h, w), normalized.

    Returns
    -------
    ndarray of float32, shape (h, w)
        Log-odds.
    """
    return score_inner(network, mirror_pad(image, network.receptive_field // 2), device)


def score_inner(network: Network, image: Image, device: torch.device | str = "cpu") -> Image:
    """Score every pixel whose surroundings lie in the image.

    Parameters
    ----------
    network
        In evaluation mode; it is moved to the device.
    image
        Shape (h, w), normalized, each side at least the receptive field R.

    Returns
    -------
    ndarray of float32, shape (h - R + 1, w - R + 1)
        Log-odds.
    """
    return _inner(network, image, device, False).particle


def _inner(
    network: Network, image: Image, device: torch.device | str, both: bool
) -> NetworkOutput:
    """Do as `score_inner`, and if `both` also score contaminants."""
    field = network.receptive_field
    twin = InferenceNetwork(network.to(device))
    pixels = torch.from_numpy(image.astype(np.float32))

    def scored(first: int, part: torch.Tensor) -> NetworkOutput:
        if not both:
            return NetworkOutput(twin(part).numpy(), None)
        return NetworkOutput(*(own.numpy() for own in twin.score_with_contaminants(part, first)))

    if torch.device(device).type != "cpu":
        return scored(0, pixels)
    rows = len(image) - field + 1
    with one_thread_each() as threads:
        bands = np.array_split(np.arange(rows), max(1, min(threads, rows // BAND_PX)))
        firsts = [int(own[0]) for own in bands]
        parts = [pixels[own[0] : own[-1] + field] for own in bands]
        if len(parts) == 1:
            return scored(0, parts[0])
        with ThreadPoolExecutor(len(parts)) as pool:
            maps = list(pool.map(scored, firsts, parts))
        particle = np.concatenate([own.particle for own in maps])
        contaminants = [own.contaminant for own in maps if own.contaminant is not None]
        return NetworkOutput(particle, np.concatenate(contaminants) if contaminants else None)


def score_coarsely(
    network: Network, image: Image, device: torch.device | str = "cpu"
) -> tuple[Image, int]:
    """Score every `stride`-th pixel at a fraction of the cost, for validation.

    Returns
    -------
    ndarray of float32, int
        Log-odds of the pixels [::stride, ::stride], and the stride.
    """
    return InferenceNetwork(network.to(device), dense=False)(
        _padded(network, image)
    ).numpy(), network.stride


def score_lattice(
    network: Network, image: Image, step: int, device: torch.device | str = "cpu"
) -> Image:
    """Score every `step`-th pixel of every `step`-th row.

    The strided network scores every `stride`-th pixel; applied to shifts of the image it scores
    the lattice.

    Parameters
    ----------
    network, image
        As for `score_image`.
    step
        A divisor of the network's stride.

    Returns
    -------
    ndarray of float32
        `score_image(...)[::step, ::step]`, to rounding.
    """
    return _lattice(network, image, step, device, False).particle


def _lattice(
    network: Network, image: Image, step: int, device: torch.device | str, both: bool
) -> NetworkOutput:
    """Do as `score_lattice`, and if `both` also score contaminants."""
    stride = network.stride
    if stride % step:
        raise ValueError(f"a step of {step} does not divide the stride {stride}")
    height, width = image.shape
    padded, twin = _padded(network, image), InferenceNetwork(network.to(device), dense=False)
    out = np.empty((-(-height // step), -(-width // step)), dtype=np.float32)
    every, contaminant = stride // step, None
    for top in range(0, min(stride, height), step):
        for left in range(0, min(stride, width), step):
            if both and top == left == 0:
                scores, contaminants = (
                    own.numpy() for own in twin.score_with_contaminants(padded)
                )
                contaminant = contaminants
            else:
                scores = twin(padded[top:, left:]).numpy()
            out[top // step :: every, left // step :: every] = scores
    return NetworkOutput(out, contaminant)


def _padded(network: Network, image: Image) -> torch.Tensor:
    return torch.from_numpy(mirror_pad(image.astype(np.float32), network.receptive_field // 2))


def lattice_step(network: Network, radius_px: float) -> int:
    """Return how far apart pixels may be scored without missing particles.

    A network is trained to score all pixels within the training radius of a particle as particle,
    so its scores are smooth on that scale.

    Parameters
    ----------
    radius_px
        Training radius in working pixels; 0 if it is not known.

    Returns
    -------
    int
        A divisor of the network's stride, no larger than the radius, at least 1.
    """
    stride = network.stride
    fitting = [d for d in range(1, stride + 1) if stride % d == 0 and d <= radius_px]
    return max(fitting, default=1)


def score_smoothly(
    network: Network, image: Image, step: int, device: torch.device | str = "cpu"
) -> Image:
    """Approximate `score_image` by a smooth surface through the scores of a lattice.

    Parameters
    ----------
    network, image, step
        As for `score_lattice`.

    Returns
    -------
    ndarray of float32, shape (h, w)
        Log-odds, exact on the lattice.
    """
    return _smoothly(network, image, step, device, False).particle


def score_with_contaminants(
    network: Network, image: Image, step: int, device: torch.device | str = "cpu"
) -> NetworkOutput:
    """Do as `score_smoothly`, and score contaminants in the same pass if the network can.

    Parameters
    ----------
    network, image, step
        As for `score_lattice`.

    Returns
    -------
    NetworkOutput
        Its `particle` is what `score_smoothly` returns, to the last bit.
    """
    return _smoothly(network, image, step, device, network.contaminant is not None)


class OutputAndFeatures(NamedTuple):
    """The output of a network for an image, and the features it is computed from."""

    maps: NetworkOutput
    #: The last layer's features of the pixels [::stride, ::stride], shape (channels, h', w').
    features: Image


def score_with_features(
    network: Network, image: Image, step: int, device: torch.device | str = "cpu"
) -> OutputAndFeatures:
    """Do as `score_with_contaminants` and also return the features, in one pass where possible.

    Parameters
    ----------
    network, image, step
        As for `score_lattice`.

    Returns
    -------
    Seen
        Its maps are what `score_with_contaminants` returns, to the last bit.
    """
    twin = InferenceNetwork(network.to(device), dense=False)
    features = twin.compute_features(_padded(network, image))
    if step == network.stride and min(image.shape) > 3 * step:
        lattice, contaminant = twin.classify_features(features)
        contaminants = None if contaminant is None else contaminant.numpy()
        maps = NetworkOutput(_surface(lattice.numpy(), image.shape, step), contaminants)
    else:
        maps = score_with_contaminants(network, image, step, device)
    return OutputAndFeatures(maps, features[0].cpu().numpy())


def compute_turned_features(
    network: Network, image: Image, rows_columns: IndexArray, device: torch.device | str = "cpu"
) -> NDArray[np.float32]:
    """Return the features of some pixels from their surroundings, turned by 90 degrees.

    Parameters
    ----------
    network
        In evaluation mode; it is moved to the device.
    image
        Shape (h, w), normalized.
    rows_columns
        Rows and columns of the feature map, which has the pixels [::stride, ::stride]; shape
        (m, 2).

    Returns
    -------
    ndarray of float32, shape (m, channels)
    """
    field, stride = network.receptive_field, network.stride
    padded = mirror_pad(image.astype(np.float32), field // 2)
    turned = [
        np.rot90(padded[top : top + field, left : left + field])
        for top, left in (np.reshape(rows_columns, (-1, 2)) * stride).tolist()
    ]
    if not turned:
        return np.zeros((0, network.classifier.in_channels), np.float32)
    with torch.inference_mode():
        seen = network.to(device).features(torch.from_numpy(np.stack(turned))[:, None].to(device))
    return seen[:, :, 0, 0].float().cpu().numpy()


def _smoothly(
    network: Network, image: Image, step: int, device: torch.device | str, both: bool
) -> NetworkOutput:
    if step == 1 or min(image.shape) <= 3 * step:
        return _inner(network, mirror_pad(image, network.receptive_field // 2), device, both)
    lattice, contaminant = _lattice(network, image, step, device, both)
    return NetworkOutput(_surface(lattice, image.shape, step), contaminant)


def _surface(lattice: Image, shape: tuple[int, ...], step: int) -> Image:
    """Return the smooth surface of the given shape through the scores of a lattice."""
    height, width = shape
    surface = surface_matrix(height, step) @ lattice @ surface_matrix(width, step).T
    return np.asarray(surface, dtype=np.float32)


@functools.lru_cache(maxsize=16)
def surface_matrix(side: int, step: int) -> Image:
    """Return the matrix that interpolates every `step`-th of `side` pixels by a cubic spline.

    Applied to rows and columns it gives a smooth surface through a lattice. Beyond the last score
    its value is kept.

    Returns
    -------
    ndarray of float32, shape (side, ceil(side / step))
        Read-only.
    """
    from scipy.interpolate import make_interp_spline  # slow to import

    knots = np.arange(0, side, step)
    spline = make_interp_spline(knots, np.eye(len(knots)))
    matrix = np.asarray(spline(np.minimum(np.arange(side), knots[-1])), dtype=np.float32)
    matrix.flags.writeable = False
    return matrix
