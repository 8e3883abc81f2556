"""The power spectrum of a micrograph with the rings of its CTF, as the page shows it."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import numpy as np

from heliodor.app.server.tiles import MicrographTiles, count_levels, encode_jpeg, level_shape
from heliodor.data.micrographs.ctf import CtfParameters, find_zeros
from heliodor.data.micrographs.power_spectrum import average_power, flatten_spectrum
from heliodor.errors import BadInput

if TYPE_CHECKING:
    from heliodor.conventions import FloatArray, Image

#: The spectrum is shown up to this resolution, or that of the pixels: finer rings are too narrow.
_FINEST_ANGSTROM = 3.5
#: Most rings that are drawn, and the directions in which each is computed.
_MAX_RINGS = 12
_ANGLES: FloatArray = np.linspace(0.0, 360.0, 121)
#: Gray levels per standard deviation of the flattened spectrum.
_GRAY_PER_DEVIATION = 45.0


def describe_spectrum(
    tiles: MicrographTiles, number: int, ctf: CtfParameters | None
) -> dict[str, Any]:
    """Return the power spectrum of a micrograph for the page.

    Returns
    -------
    dict
        `image`, a JPEG file in base64; `nyquist_angstrom`, the resolution at the middle of its
        edges (None if the pixel size is unknown); `ctf`, the parameters, and `rings`, the zeros
        of the CTF as lists of (x, y) from the center, in halves of the image's side.

    Raises
    ------
    BadInput
        If the micrograph cannot be read.
    """
    shape = tiles.header(number).shape
    try:
        size: float | None = tiles.pixel_size(number)
    except BadInput:
        size = None
    level = _choose_level(size, count_levels(shape))
    used = level_shape(shape, level)
    nyquist = None if size is None else 2.0 * size * shape[1] / used[1]
    gray = tiles.cache.get(
        ("spectrum", number, tiles.stamp(number)),
        lambda: _render(tiles.image(number, level)),
        len,
    )
    rings = [] if ctf is None or nyquist is None else _draw_rings(ctf, nyquist)
    return {
        "image": base64.b64encode(gray).decode(),
        "nyquist_angstrom": nyquist,
        "ctf": None if ctf is None else vars(ctf),
        "rings": rings,
    }


def _choose_level(pixel_size_angstrom: float | None, levels: int) -> int:
    """Return the coarsest level that still reaches the finest resolution shown."""
    if pixel_size_angstrom is None:
        return 0
    fits = [
        level
        for level in range(levels)
        if 2.0 * pixel_size_angstrom * 2**level <= _FINEST_ANGSTROM
    ]
    return max(fits, default=0)


def _render(image: Image) -> bytes:
    level = flatten_spectrum(average_power(image))
    gray = np.clip(128.0 + _GRAY_PER_DEVIATION * level, 0, 255).astype(np.uint8)
    return encode_jpeg(gray)


def _draw_rings(ctf: CtfParameters, nyquist_angstrom: float) -> list[list[list[float | None]]]:
    """Return each zero of the CTF as a line of points; None where it leaves the spectrum."""
    # Up to the corners, where the frequency is higher than at the edges.
    zeros = find_zeros(ctf, _ANGLES, np.sqrt(2.0) / nyquist_angstrom)[:_MAX_RINGS]
    radius = zeros * nyquist_angstrom
    x, y = radius * np.cos(np.radians(_ANGLES)), radius * np.sin(np.radians(_ANGLES))
    rings = np.round(np.stack([x, y], axis=-1), 4)
    return [
        [[None, None] if np.isnan(point).any() else point.tolist() for point in ring]
        for ring in rings
    ]
