"""A stand-in for the network of filaments, on micrographs whose axes it knows."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from heliodor.conventions import FloatArray, Image
from heliodor.data.filaments.filament import Filament, Filaments
from heliodor.data.micrographs.micrograph import write_mrc
from heliodor.models.filament_maps import FilamentMaps
from helpers.filament_maps import make_maps

PIXEL, WIDTH_ANGSTROM = 3.0, 60.0
#: (height, width)
SHAPE = (260, 320)


def axes_of(count: int) -> list[FloatArray]:
    """Return parallel axes on a micrograph."""
    ys = np.linspace(50.0, 210.0, count)
    return [np.linspace((30.0, y), (290.0, y + 15.0), 9) for y in ys]


def draw(count: int, seed: int) -> Image:
    """Draw a micrograph with dark bands along axes; its brightness says how many."""
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]].astype(float)
    image = np.random.default_rng(seed).normal(0.0, 0.5, SHAPE)
    for axis in axes_of(count):
        slope = (axis[-1, 1] - axis[0, 1]) / (axis[-1, 0] - axis[0, 0])
        aside = y - axis[0, 1] - slope * (x - axis[0, 0])
        inside = (np.abs(aside) < 0.5 * WIDTH_ANGSTROM / PIXEL) & (x >= 30) & (x <= 290)
        image -= np.where(inside, 1.0, 0.0)
    return np.asarray(image + 100.0 * count, dtype=np.float32)


def write_micrographs(folder: Path, number: int) -> Path:
    """Write micrographs with 2, 3, ... filaments into a folder, and return it."""
    for index in range(1, number + 1):
        write_mrc(folder / f"mic_{index}.mrc", draw(index + 1, index), PIXEL)
    return folder


def truth(folder: Path, number: int) -> Filaments:
    """Return the filaments of `write_micrographs`."""
    names = [str(folder / f"mic_{index}.mrc") for index in range(1, number + 1)]
    found = [
        Filament(name, axis, tube, WIDTH_ANGSTROM)
        for index, name in enumerate(names, 1)
        for tube, axis in enumerate(axes_of(index + 1), 1)
    ]
    return Filaments(tuple(names), tuple(found), dict.fromkeys(names, PIXEL))


class KnownAxes:
    """Returns the maps of the axes that `draw` drew."""

    fingerprint, width_angstrom = "known axes", WIDTH_ANGSTROM

    def __init__(self) -> None:
        self.calls = 0

    def predict(self, image: Image, pixel_size_angstrom: float) -> FilamentMaps:
        """Return the maps, with noise that follows from the micrograph."""
        self.calls += 1
        count = round(float(image.mean()) / 100.0 + 0.05)
        width = self.width_angstrom / pixel_size_angstrom
        return make_maps(axes_of(count), SHAPE, width, noise=0.5, seed=count)
