"""Fourier cropping: the band-limited image at a coarser sampling."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from heliodor.conventions import Image, Shape
from heliodor.data.micrographs.row_blocks import BLOCK_PX, split_into_row_blocks


class FourierCrop:
    """The Fourier crop of an image that is read block by block; see `fourier_crop`.

    Blocks may come in any order, and again if their pixels have changed. Only the frequencies
    along the rows that are kept are held in memory, never the whole image.
    """

    def __init__(self, original: Shape, shape: Shape, workers: int = 1):
        (big_h, big_w), (h, w) = original, shape
        if not (1 <= h <= big_h and 1 <= w <= big_w):
            raise ValueError(f"cannot crop an image of {big_h} x {big_w} to {h} x {w}")
        self._original, self._shape, self._workers = original, shape, workers
        self._same = original == shape
        #: The rows' spectra, or the rows themselves where nothing is cropped.
        self._rows: NDArray[Any] = (
            np.empty(original, np.float32)
            if self._same
            else np.empty((big_h, w // 2 + 1), np.complex64)
        )

    def add(self, rows: slice, block: Image) -> None:
        """Add the pixels of some rows, shape (number of rows, W)."""
        if self._same:
            self._rows[rows] = block
            return
        import scipy.fft  # slow to import, and not needed where the scale is right already

        w = self._shape[1]
        spectrum = scipy.fft.rfft(block, axis=1, workers=self._workers)
        self._rows[rows] = spectrum[:, : w // 2 + 1]
        if w % 2 == 0 and w < self._original[1]:
            self._rows[rows, -1] *= 2  # its mirror is dropped: a real image needs both

    def image(self) -> Image:
        """Return the cropped image, shape (h, w), once all rows have been added."""
        if self._same:
            return np.asarray(self._rows.copy())
        import scipy.fft

        (big_h, big_w), (h, w) = self._original, self._shape
        spectrum = self._rows if h == big_h else self._cropped_columns()
        small = scipy.fft.irfft(spectrum, n=w, axis=1, workers=self._workers)
        return np.asarray(small * np.float32(h * w / (big_h * big_w)), dtype=np.float32)

    def _cropped_columns(self) -> NDArray[np.complex64]:
        """Crop along the columns, as many columns at a time as fit into the cache."""
        import scipy.fft

        big_h, h = self._original[0], self._shape[0]
        low, high = (h + 1) // 2, h // 2
        cropped = np.empty((h, self._rows.shape[1]), np.complex64)
        some = max(1, BLOCK_PX // 2 // big_h)
        for first in range(0, cropped.shape[1], some):
            columns = slice(first, first + some)
            spectrum = scipy.fft.fft(self._rows[:, columns], axis=0, workers=self._workers)
            kept = np.concatenate([spectrum[:low], spectrum[big_h - high :]])
            if h % 2 == 0:
                kept[low] += spectrum[low]
            cropped[:, columns] = scipy.fft.ifft(kept, axis=0, workers=self._workers)
        return cropped


def fourier_crop(image: Image, shape: Shape, workers: int = 1) -> Image:
    """Resample an image to a smaller shape by keeping its low frequencies.

    Pixel 0 stays where it is, so ``x_original = x_small * (W / w)``. On an even side the
    two halves of the Nyquist frequency are added, which is what sampling the band-limited
    image on the coarser grid gives. Columns that are dropped are never transformed along the
    other axis.

    Parameters
    ----------
    image
        Shape (H, W).
    shape
        (h, w) of the result, at most (H, W) on each side.
    workers
        Threads for the transforms.

    Returns
    -------
    ndarray of float32, shape (h, w)
        Pixel values keep their scale: the mean is unchanged.

    Raises
    ------
    ValueError
        If the shape is larger than the image or empty.
    """
    height, width = image.shape
    crop = FourierCrop((height, width), shape, workers)
    for rows in split_into_row_blocks((height, width)):
        crop.add(rows, image[rows].astype(np.float32, copy=False))
    return crop.image()


def fourier_upsample(image: Image, shape: Shape) -> Image:
    """Resample an image to a larger shape: the same band-limited image on a finer grid.

    The inverse of `fourier_crop`: pixel 0 stays where it is, and no detail is added.

    Parameters
    ----------
    image
        Shape (H, W).
    shape
        (h, w) of the result, at least (H, W) on each side.

    Returns
    -------
    ndarray of float32, shape (h, w)
        Pixel values keep their scale.

    Raises
    ------
    ValueError
        If the shape is smaller than the image.
    """
    import scipy.fft

    (height, width), (h, w) = image.shape, shape
    if h < height or w < width:
        raise ValueError(f"{h} x {w} is not finer than an image of {height} x {width}")
    spectrum = scipy.fft.rfft2(image.astype(np.float32, copy=False))
    # The Nyquist frequency of an even side is split between its two halves.
    if width % 2 == 0 and w > width:
        spectrum[:, -1] /= 2
    fine = np.zeros((h, w // 2 + 1), np.complex64)
    low, high = (height + 1) // 2, height // 2
    columns = spectrum.shape[1]
    fine[:low, :columns] = spectrum[:low]
    if high:
        fine[-high:, :columns] = spectrum[low:]
    if height % 2 == 0 and h > height:
        fine[-high, :columns] /= 2
        fine[high, :columns] = fine[-high, :columns]
    out = scipy.fft.irfft2(fine, s=shape)
    return np.asarray(out * np.float32(h * w / (height * width)), dtype=np.float32)


def mirror_pad(image: Image, edge: int) -> Image:
    """Pad an image with its mirror image, usually by half a receptive field.

    Training and scoring both use this function, so that the edges of a micrograph look the same
    in both. An image smaller than `edge` is mirrored repeatedly.
    """
    return np.pad(image, edge, mode="reflect")
