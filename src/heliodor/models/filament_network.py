"""Apply a network of filaments to a micrograph."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray

from heliodor.conventions import Image, Shape, working_shape
from heliodor.data.micrographs.dead_borders import DeadBorder, find_dead_border
from heliodor.data.micrographs.fourier_crop import fourier_crop, fourier_upsample
from heliodor.data.micrographs.working_images import MAX_UPSAMPLING
from heliodor.errors import BadInput
from heliodor.models.filament_maps import FilamentMaps
from heliodor.models.filament_model_file import FilamentModel, check_filament_width
from heliodor.models.filament_unet import (
    ANGLE,
    AXIS,
    CONTAMINANT,
    LATTICE_FIRST_PX,
    LATTICE_STEP_PX,
    MULTIPLE_PX,
    OFFSET,
    OUTPUTS,
    REACH_PX,
    FilamentNetwork,
)

#: Log-odds of the axis in dead borders.
DEAD = -20.0
#: Pixels of the mirror image along each edge, at least; as in training.
MIRRORED_PX = 16
#: Side of the tiles in which large images are scored, without what surrounds them.
TILE_PX = 1024


def predict_filament_maps(
    model: FilamentModel,
    image: Image,
    pixel_size_angstrom: float,
    width_angstrom: float,
    device: torch.device | str = "cpu",
) -> FilamentMaps:
    """Say where the filaments of a micrograph are.

    Parameters
    ----------
    model
        The model.
    image
        The micrograph, shape (h, w); protein is dark.
    pixel_size_angstrom
        Its sampling.
    width_angstrom
        Width of the filaments.
    device
        Where to compute.

    Returns
    -------
    FilamentMaps
        Log-odds of the axis are `DEAD` in dead borders.

    Raises
    ------
    BadInput
        If the width is not plausible, or the image too coarse for it, too small or blank.
    """
    shape = choose_working_shape(
        (image.shape[0], image.shape[1]),
        pixel_size_angstrom,
        check_filament_width(width_angstrom),
        model.card.working_width_px,
    )
    working = resample(image, shape)
    normalized = model.normalizer.apply(working)
    outputs = apply_network(model.network, normalized, device).astype(np.float64)
    dead = _find_dead_points(normalized, outputs.shape[1:])
    axis = model.card.slope * outputs[AXIS] + model.card.shift
    axis[dead] = DEAD
    across, down = image.shape[1] / shape[1], image.shape[0] / shape[0]
    offsets = outputs[OFFSET] * LATTICE_STEP_PX * np.array([across, down])[:, None, None]
    return FilamentMaps(
        axis=axis,
        double_angle=outputs[ANGLE],
        offset_px=offsets,
        contaminant=outputs[CONTAMINANT],
        first_px=(LATTICE_FIRST_PX * across, LATTICE_FIRST_PX * down),
        spacing_px=LATTICE_STEP_PX * math.sqrt(across * down),
    )


def choose_working_shape(
    shape: Shape, pixel_size_angstrom: float, width_angstrom: float, working_width_px: float
) -> Shape:
    """Return the shape at which a micrograph is scored.

    Raises
    ------
    BadInput
        If its pixels are too large, or it is smaller than the width of a filament.
    """
    wanted = width_angstrom / working_width_px
    if pixel_size_angstrom > MAX_UPSAMPLING * wanted:
        raise BadInput(
            f"{pixel_size_angstrom:.3g} Å/pixel is too coarse for filaments that are"
            f" {width_angstrom:g} Å wide, which need {MAX_UPSAMPLING * wanted:.3g} Å/pixel or"
            " less; use less binned micrographs, or check the width and the pixel size"
        )
    if min(shape) * pixel_size_angstrom < 2.0 * width_angstrom:
        raise BadInput(
            f"a micrograph of {shape[1]} x {shape[0]} pixels is too small for filaments that are"
            f" {width_angstrom:g} Å wide; check the width and the pixel size"
        )
    return working_shape(shape, pixel_size_angstrom, wanted, finer=True)


def resample(image: Image, shape: Shape) -> Image:
    """Resample an image in Fourier space, coarser or finer."""
    if shape[0] > image.shape[0] or shape[1] > image.shape[1]:
        return fourier_upsample(image, shape)
    return fourier_crop(image, shape)


def apply_network(
    network: FilamentNetwork, image: Image, device: torch.device | str = "cpu"
) -> Image:
    """Return the outputs of a network on a normalized image with mirrored edges.

    Large images are scored in tiles with so much of their surroundings that the result is the
    same, up to rounding, as that of the whole image.

    Parameters
    ----------
    network
        In evaluation mode; it is moved to the device.
    image
        Shape (h, w).
    device
        Where to compute.

    Returns
    -------
    ndarray of float32, shape (OUTPUTS, h', w')
        At the points 1.5, 5.5 and so on, as many as lie in the image.
    """
    height, width = image.shape
    padded = mirror_image(image)
    network = network.to(device)
    step, halo = LATTICE_STEP_PX, -(-REACH_PX // MULTIPLE_PX) * MULTIPLE_PX
    out = np.empty((OUTPUTS, padded.shape[0] // step, padded.shape[1] // step), np.float32)
    for top in range(0, padded.shape[0], TILE_PX):
        for left in range(0, padded.shape[1], TILE_PX):
            firsts = [max(0, side - halo) for side in (top, left)]
            lasts = [
                min(side + TILE_PX, whole)
                for side, whole in zip((top, left), padded.shape, strict=True)
            ]
            seen = tuple(
                slice(first, last + halo) for first, last in zip(firsts, lasts, strict=True)
            )
            tile = torch.from_numpy(np.ascontiguousarray(padded[seen]))[None, None]
            tile = tile.to(device, memory_format=torch.channels_last)
            with torch.inference_mode():
                scored = network(tile)[0].float().cpu().numpy()
            own = [
                slice((side - first) // step, (last - first) // step)
                for side, first, last in zip((top, left), firsts, lasts, strict=True)
            ]
            target = [
                slice(side // step, last // step)
                for side, last in zip((top, left), lasts, strict=True)
            ]
            out[:, target[0], target[1]] = scored[:, own[0], own[1]]
    rows, columns = (
        slice(MIRRORED_PX // step, MIRRORED_PX // step + count_points(side))
        for side in (height, width)
    )
    return np.ascontiguousarray(out[:, rows, columns])


def count_points(side_px: int) -> int:
    """Return how many points of the lattice lie on a side of an image."""
    return max(1, math.floor((side_px - 1 - LATTICE_FIRST_PX) / LATTICE_STEP_PX) + 1)


def mirror_image(image: Image) -> Image:
    """Pad an image with its mirror image to sides that the network can halve."""
    pads = []
    for side in image.shape:
        full = -(-(side + 2 * MIRRORED_PX) // MULTIPLE_PX) * MULTIPLE_PX
        pads.append((MIRRORED_PX, full - side - MIRRORED_PX))
    return np.pad(image.astype(np.float32, copy=False), pads, mode="reflect")


def _find_dead_points(normalized: Image, shape: Shape | tuple[int, ...]) -> NDArray[np.bool_]:
    """Return which points of the lattice lie in dead borders, shape (h, w)."""
    border = find_dead_border(normalized)
    if border == DeadBorder():
        return np.zeros(shape, bool)
    alive = np.zeros(normalized.shape, bool)
    alive[border.live_region(normalized.shape)] = True
    rows, columns = (
        np.rint(LATTICE_FIRST_PX + LATTICE_STEP_PX * np.arange(count)).astype(int).clip(0, last)
        for count, last in zip(shape, (side - 1 for side in normalized.shape), strict=True)
    )
    return np.asarray(~alive[rows[:, None], columns])
