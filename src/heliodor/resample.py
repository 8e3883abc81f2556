"""Fourier cropping: the band-limited image at a coarser sampling."""

from __future__ import annotations

import numpy as np

from heliodor.conventions import Image, Shape


def fourier_crop(image: Image, shape: Shape, workers: int = 1) -> Image:
    """Resample an image to a smaller shape by keeping its low frequencies.

    Pixel 0 stays where it is, so ``x_original = x_small * (W / w)``. On an even side the
    two halves of the Nyquist frequency are added, which is what sampling the band-limited
    image on the coarser grid gives. The columns that the crop drops are never transformed
    along the other axis.

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
    (big_h, big_w), (h, w) = image.shape, shape
    if not (1 <= h <= big_h and 1 <= w <= big_w):
        raise ValueError(f"cannot crop an image of {big_h} x {big_w} to {h} x {w}")
    if (h, w) == (big_h, big_w):
        return image.astype(np.float32, copy=True)
    import scipy.fft  # slow to import, and not needed where the scale is right already

    spectrum = scipy.fft.rfft(image.astype(np.float32, copy=False), axis=1, workers=workers)
    spectrum = spectrum[:, : w // 2 + 1]
    if w % 2 == 0 and w < big_w:
        spectrum[:, -1] *= 2  # its mirror frequency is dropped: a real image needs both
    if h < big_h:
        spectrum = scipy.fft.fft(spectrum, axis=0, workers=workers)
        low, high = (h + 1) // 2, h // 2
        cropped = np.concatenate([spectrum[:low], spectrum[big_h - high :]])
        if h % 2 == 0:
            cropped[low] += spectrum[low]
        spectrum = scipy.fft.ifft(cropped, axis=0, workers=workers)
    small = scipy.fft.irfft(spectrum, n=w, axis=1, workers=workers)
    return np.asarray(small * np.float32(h * w / (big_h * big_w)), dtype=np.float32)


def pad(image: Image, edge: int) -> Image:
    """Surround an image by its mirror image, as wide as half a receptive field.

    Training and scoring use this one function, so the edge of a micrograph looks the same to
    both. An image smaller than the edge is mirrored as often as it takes.
    """
    return np.pad(image, edge, mode="reflect")
