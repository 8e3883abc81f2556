"""Images of micrographs for the page: tiles at every zoom level, and thumbnails."""

from __future__ import annotations

import io
import math
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from heliodor.app.server.cache import Cache
from heliodor.conventions import Image, Shape
from heliodor.data.micrographs.fourier_crop import fourier_crop
from heliodor.data.micrographs.headers import MicrographHeader, read_header
from heliodor.data.micrographs.micrograph import open_micrograph
from heliodor.data.micrographs.sources import Source
from heliodor.data.micrographs.working_images import choose_pixel_size
from heliodor.errors import BadInput
from heliodor.utils.files import atomic_write
from heliodor.utils.hashing import stamp_file
from heliodor.utils.statistics import robust_deviation

GrayImage = NDArray[np.uint8]

#: The side of a tile, and the longest side of a thumbnail.
TILE_PX, THUMBNAIL_PX = 512, 128
#: Black and white are so many robust standard deviations from the median, `MEDIAN_GRAY`.
GRAY_DEVIATIONS, MEDIAN_GRAY = 4.0, 128.0
#: Memory for images.
CACHE_BYTES = 512 * 2**20
#: The median and the deviation are computed from about so many pixels.
_SAMPLE_SIZE = 200_000
_JPEG_QUALITY = 85
#: The longest side of a preview; the engine makes smaller ones.
MAX_PREVIEW_PX = 8192
#: Larger images, as a share of the memory, are read from the file each time.
_MAX_CACHED_SHARE = 1 / 8


def count_levels(shape: Shape) -> int:
    """Return the number of zoom levels; the last one fits into one tile."""
    return 1 + max(0, math.ceil(math.log2(max(shape) / TILE_PX)))


def level_shape(shape: Shape, level: int) -> Shape:
    """Return (height, width) at a level; each is half of the one before, rounded up."""
    return -(-shape[0] >> level), -(-shape[1] >> level)


def to_gray(image: Image) -> GrayImage:
    """Return an image as bytes: median at 128, black and white four robust deviations away."""
    sample = image.ravel()[:: max(1, image.size // _SAMPLE_SIZE)]
    middle = float(np.median(sample))
    spread = robust_deviation(sample, middle) or float(sample.std()) or 1.0
    scaled = image * np.float32(127.5 / (GRAY_DEVIATIONS * spread))
    scaled += np.float32(MEDIAN_GRAY - middle * 127.5 / (GRAY_DEVIATIONS * spread))
    return np.clip(scaled, 0, 255, out=scaled).astype(np.uint8)


def low_pass(image: Image, pixel_size_angstrom: float, low_pass_angstrom: float) -> Image:
    """Apply a Gaussian low-pass filter.

    Parameters
    ----------
    image
        Shape (h, w).
    pixel_size_angstrom
        Its pixel size.
    low_pass_angstrom
        The wavelength whose amplitude is halved.
    """
    import scipy.fft

    height, width = image.shape
    ratio = low_pass_angstrom / pixel_size_angstrom
    down = np.exp2(-((np.fft.fftfreq(height) * ratio) ** 2)).astype(np.float32)
    across = np.exp2(-((np.fft.rfftfreq(width) * ratio) ** 2)).astype(np.float32)
    spectrum = scipy.fft.rfft2(image)
    spectrum *= down[:, None]
    spectrum *= across
    return np.asarray(scipy.fft.irfft2(spectrum, s=image.shape), dtype=np.float32)


def encode_jpeg(picture: GrayImage | Pillow.Image, comment: str = "") -> bytes:
    """Return an image as a JPEG file with a comment."""
    if not isinstance(picture, Pillow.Image):
        picture = Pillow.fromarray(picture)
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=_JPEG_QUALITY, comment=comment.encode())
    return stream.getvalue()


def open_preview(path: Path) -> Pillow.Image:
    """Open a preview that the engine wrote, whose pixels have not been read yet.

    Raises
    ------
    BadInput
        If it is not a preview.
    """
    try:
        picture = Pillow.open(path, formats=["JPEG"])
    except Exception as error:  # the library raises many types for damaged files
        raise BadInput(f"{path} is not an image ({error})") from error
    if max(picture.size) > MAX_PREVIEW_PX:
        picture.close()
        raise BadInput(f"{path} is larger than a preview")
    return picture


class MicrographTiles:
    """The images of the micrographs of a project; any thread may call.

    Parameters
    ----------
    sources
        The micrographs; the index of one is its number.
    thumbnails
        The folder of their thumbnails.
    pixel_size_angstrom
        The pixel size that the user gave, if any.
    keep_bytes
        Memory for images, in bytes.
    on_replaced
        Called with a micrograph whose file was found to be another one than before.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        thumbnails: Path,
        pixel_size_angstrom: float | None = None,
        keep_bytes: int = CACHE_BYTES,
        on_replaced: Callable[[int], object] = lambda number: None,
    ) -> None:
        self._sources = sources
        self._thumbnails = thumbnails
        self._pixel_size_override = pixel_size_angstrom
        #: With the stamp of the file of each.
        self._headers: dict[int, tuple[str, MicrographHeader]] = {}
        self._on_replaced = on_replaced
        self._stamps: dict[int, str] = {}
        self._versions: Counter[int] = Counter()
        self._stamps_lock = threading.Lock()
        self.cache = Cache(keep_bytes)

    def header(self, number: int) -> MicrographHeader:
        """Return the header of a micrograph.

        Raises
        ------
        BadInput
            If its file cannot be read; it is tried again the next time.
        """
        stamp = self.stamp(number)
        stored = self._headers.get(number)
        if stored is None or stored[0] != stamp:
            stored = self._headers[number] = stamp, read_header(self._sources[number].path)
        return stored[1]

    def known_header(self, number: int) -> MicrographHeader | None:
        """Return the header of a micrograph if it has been read, without looking at the file."""
        stored = self._headers.get(number)
        return None if stored is None else stored[1]

    def stamp(self, number: int) -> str:
        """Return what `stamp_file` does for a micrograph's file, and note if it was replaced."""
        stamp = stamp_file(self._sources[number].path)
        with self._stamps_lock:
            before = self._stamps.get(number, stamp)
            is_replaced = "" not in (before, stamp) and before != stamp
            if stamp:
                self._stamps[number] = stamp
            if is_replaced:
                self._versions[number] += 1
        if is_replaced:
            self._on_replaced(number)
        return stamp

    def version(self, number: int) -> int:
        """Return how often a micrograph's file was found to be replaced since the start."""
        return self._versions[number]

    def pixel_size(self, number: int) -> float:
        """Return the pixel size of a micrograph in angstrom; raises BadInput if unknown."""
        header = self.header(number)
        return choose_pixel_size(
            self._sources[number], header.pixel_size_angstrom, self._pixel_size_override
        )

    def tile(
        self, number: int, level: int, column: int, row: int, low_pass_angstrom: float = 0.0
    ) -> bytes:
        """Return one tile as a JPEG file.

        Raises
        ------
        BadInput
            If the micrograph cannot be read, or its pixel size, for the low-pass, is unknown.
        LookupError
            If there is no such tile.
        """
        shape = self.header(number).shape
        if not 0 <= level < count_levels(shape):
            raise LookupError(f"there is no level {level}")
        height, width = level_shape(shape, level)
        top, left = row * TILE_PX, column * TILE_PX
        if not (0 <= top < height and 0 <= left < width):
            raise LookupError(f"there is no tile {column}, {row} at level {level}")
        whole = self.gray_level(number, level, low_pass_angstrom)
        return encode_jpeg(np.ascontiguousarray(whole[top : top + TILE_PX, left : left + TILE_PX]))

    def gray_level(self, number: int, level: int, low_pass_angstrom: float = 0.0) -> GrayImage:
        """Return a whole micrograph at one level, as bytes."""

        def make() -> GrayImage:
            image = self.image(number, level)
            if low_pass_angstrom > 0:
                size = self.pixel_size(number) * self.header(number).shape[1] / image.shape[1]
                image = low_pass(image, size, low_pass_angstrom)
            return to_gray(image)

        # Differences below a tenth of an angstrom are invisible; share the cached image.
        key = (number, self.stamp(number), level, round(low_pass_angstrom, 1))
        return self.cache.get(key, make, lambda image: image.nbytes)

    def image(self, number: int, level: int) -> Image:
        """Return a whole micrograph at one level, with its original values."""
        shape = level_shape(self.header(number).shape, level)
        stamp = self.stamp(number)

        def make() -> Image:
            for finer in range(level - 1, 0, -1):
                kept = self.cache.peek((number, stamp, finer))
                if kept is not None:
                    return fourier_crop(kept, shape)
            with open_micrograph(self._sources[number].path) as micrograph:
                if micrograph.shape != self.header(number).shape:
                    raise BadInput(f"{self._sources[number].path} changed just now; try again")
                return micrograph.read_cropped(shape)

        if 4 * shape[0] * shape[1] > _MAX_CACHED_SHARE * self.cache.most_bytes:
            return make()
        return self.cache.get((number, stamp, level), make, lambda image: image.nbytes)

    def thumbnail(self, number: int, preview: Path | None = None) -> bytes:
        """Return the thumbnail of a micrograph as a JPEG file; it is stored on disk.

        Parameters
        ----------
        number
            The micrograph.
        preview
            The path of its preview, which is faster to read; it may be missing.
        """
        path, stamp = self._thumbnails / f"{number}.jpg", self.stamp(number)
        with suppress(FileNotFoundError, BadInput):
            with open_preview(path) as picture:
                # Where the micrograph cannot be found, what is known of it is shown.
                is_current = not stamp or picture.info.get("comment") == stamp.encode()
            if is_current:
                return path.read_bytes()
        small = self._from_preview(preview, stamp) or self._from_file(number)
        made = encode_jpeg(small, stamp)
        with atomic_write(path) as aside:
            aside.write_bytes(made)
        return made

    def _from_preview(self, preview: Path | None, stamp: str) -> Pillow.Image | None:
        if preview is None or not preview.is_file():
            return None
        try:
            with open_preview(preview) as picture:
                if picture.info.get("comment", b"").decode("latin-1") not in ("", stamp) and stamp:
                    return None  # of an earlier version of the micrograph
                picture.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
                return picture.convert("L")
        except (BadInput, OSError):
            return None  # ignore a damaged one

    def _from_file(self, number: int) -> Pillow.Image:
        shape = self.header(number).shape
        factor = min(1.0, THUMBNAIL_PX / max(shape))
        small = (max(1, round(shape[0] * factor)), max(1, round(shape[1] * factor)))
        last = count_levels(shape) - 1
        if (kept := self.cache.peek((number, self.stamp(number), last))) is not None:
            return Pillow.fromarray(to_gray(fourier_crop(kept, small)))
        with open_micrograph(self._sources[number].path) as micrograph:
            return Pillow.fromarray(to_gray(micrograph.read_cropped(small)))
