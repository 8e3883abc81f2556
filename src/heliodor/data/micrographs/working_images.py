"""Working images: micrographs at the pixel size that the networks work with."""

from __future__ import annotations

import functools
import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field, replace
from threading import Lock

from heliodor.conventions import (
    WORKING_DIAMETER_PX,
    Image,
    Shape,
    working_shape,
)
from heliodor.data.micrographs.fourier_crop import fourier_upsample
from heliodor.data.micrographs.headers import read_header
from heliodor.data.micrographs.micrograph import open_array, open_micrograph
from heliodor.data.micrographs.sources import Source
from heliodor.errors import BadInput
from heliodor.utils.array_store import ArrayStore
from heliodor.utils.hashing import FileVersion, read_unchanged
from heliodor.utils.prefetch import prefetch

log = logging.getLogger(__name__)

#: Pixel sizes outside this range (angstrom) are treated as typing or header errors.
PIXEL_SIZE_RANGE = (0.1, 50.0)
#: Diameters outside this range (angstrom) are treated as typing errors.
DIAMETER_RANGE = (20.0, 5000.0)
#: Micrographs may be this many times coarser than the working pixel size; they are used as is.
MAX_COARSENING = 1.2
#: Micrographs may be this many times coarser and are upsampled if the model was trained with
#: blurred images: they have no detail beyond their own resolution limit.
MAX_UPSAMPLING = 2.5
#: Bytes of working images that are kept in memory for reuse.
DEFAULT_CACHE_BYTES = 512 * 2**20
#: Pixel sizes that differ by no more than this fraction are the same.
SAME_PIXEL_SIZE = 0.02
#: Pixel sizes with a smaller ratio are those of the same pixels before and after a calibration;
#: the smallest factor of binning is 1.5.
MOST_RECALIBRATED = 1.15


@dataclass(frozen=True)
class WorkingImage:
    """A micrograph at the working pixel size, not yet normalized."""

    source: Source
    image: Image
    original_shape: Shape
    pixel_size_angstrom: float
    #: The content of the file that was read; None if it was not a regular file.
    version: FileVersion | None = None
    #: The pixel size in the header of the file, if it has a plausible one.
    header_pixel_size_angstrom: float | None = None

    def is_current(self) -> bool:
        """Return whether the file has not changed since it was read."""
        return self.version is None or self.version.is_current()

    @property
    def shape(self) -> Shape:
        """(height, width) in working pixels."""
        height, width = self.image.shape
        return height, width

    @property
    def working_pixel_size_angstrom(self) -> float:
        """Sampling along x; up to rounding that of the data set."""
        return self.pixel_size_angstrom * self.original_shape[1] / self.shape[1]


def check_diameter(diameter_angstrom: float) -> float:
    """Return the diameter, or raise BadInput if it is not plausible."""
    low, high = DIAMETER_RANGE
    if not low <= diameter_angstrom <= high:
        raise BadInput(
            f"a particle diameter of {diameter_angstrom:g} Å is not plausible; it must be between"
            f" {low:g} and {high:g} Å",
            parameter="diameter",
        )
    return diameter_angstrom


def working_pixel_size(diameter_angstrom: float, network: str) -> float:
    """Return the default working pixel size for a network, in angstrom."""
    return check_diameter(diameter_angstrom) / WORKING_DIAMETER_PX[network]


def check_pixel_size(pixel_size_angstrom: float) -> float:
    """Return the pixel size that the user gave, or raise BadInput if it is not plausible."""
    if not is_plausible_pixel_size(pixel_size_angstrom):
        low, high = PIXEL_SIZE_RANGE
        raise BadInput(
            f"a pixel size of {pixel_size_angstrom:g} Å is not plausible; it must be between"
            f" {low:g} and {high:g} Å",
            parameter="pixel_size",
        )
    return pixel_size_angstrom


def is_plausible_pixel_size(pixel_size_angstrom: float) -> bool:
    """Return whether a micrograph can have this pixel size."""
    low, high = PIXEL_SIZE_RANGE
    return low <= pixel_size_angstrom <= high


def same_pixel_size(one_angstrom: float, other_angstrom: float) -> bool:
    """Return whether two pixel sizes are equal up to rounding and calibration differences."""
    smaller = min(one_angstrom, other_angstrom)
    return abs(one_angstrom - other_angstrom) <= SAME_PIXEL_SIZE * smaller


def same_binning(one_angstrom: float, other_angstrom: float) -> bool:
    """Return whether two pixel sizes differ by calibration only, so that pixels are the same."""
    larger, smaller = max(one_angstrom, other_angstrom), min(one_angstrom, other_angstrom)
    return larger < MOST_RECALIBRATED * smaller


def choose_pixel_size(source: Source, header: float | None, given: float | None) -> float:
    """Choose a micrograph's pixel size: the user's, or the STAR file's, or the header's.

    Raises
    ------
    BadInput
        If all are missing, or the first that is given is not plausible.
    """
    candidates = (given, source.pixel_size_angstrom, header)
    size = next((value for value in candidates if value is not None), None)
    if size is None:
        raise BadInput(
            f"{source.name} has no valid pixel size in its header, and there is none in a STAR"
            " file; set the pixel size",
            parameter="pixel_size",
        )
    if not is_plausible_pixel_size(size):
        low, high = PIXEL_SIZE_RANGE
        raise BadInput(
            f"{source.name} has a pixel size of {size:g} Å, which is not plausible; set one"
            f" between {low:g} and {high:g} Å",
            parameter="pixel_size",
        )
    return size


def find_pixel_size(source: Source, given: float | None = None) -> float | None:
    """Return a micrograph's pixel size as `choose_pixel_size` does, or None if it has none."""
    header = None
    if given is None and source.pixel_size_angstrom is None and source.pixels is None:
        with suppress(BadInput):
            header = read_header(source.path).pixel_size_angstrom
    with suppress(BadInput):
        return choose_pixel_size(source, header, given)
    return None


def prepare_working_image(
    source: Source,
    working_pixel_size_angstrom: float,
    pixel_size_angstrom: float | None = None,
    diameter_angstrom: float | None = None,
    coarsest_angstrom: float | None = None,
    finer: bool = False,
) -> WorkingImage:
    """Read a micrograph and resample it to the working pixel size in Fourier space.

    Parameters
    ----------
    source
        The micrograph.
    working_pixel_size_angstrom
        Pixel size of the result. Images are not upsampled to it unless `finer` is true.
    pixel_size_angstrom
        The original pixel size, if the user gave it.
    diameter_angstrom
        If given, reject images smaller than a particle of this diameter.
    coarsest_angstrom
        Reject micrographs with larger pixels. The default is 1.2 times the working pixel size, up
        to which a network still recognizes its particle.
    finer
        Upsample micrographs whose pixels are up to `MAX_UPSAMPLING` times larger.

    Raises
    ------
    BadInput
        If the file cannot be used, its pixel size is unknown, or it is too small or too coarse;
        or if it changes each time that it is read.
    """
    read = functools.partial(
        _read_and_resample,
        source,
        working_pixel_size_angstrom,
        pixel_size_angstrom,
        diameter_angstrom,
        coarsest_angstrom,
        finer,
    )
    if source.pixels is not None:
        return read()
    image, version = read_unchanged(source.path, read)
    return replace(image, version=version)


def _read_and_resample(
    source: Source,
    working_pixel_size_angstrom: float,
    pixel_size_angstrom: float | None,
    diameter_angstrom: float | None,
    coarsest_angstrom: float | None,
    finer: bool,
) -> WorkingImage:
    """Do what `prepare_working_image` does, once."""
    opened = (
        open_micrograph(source.path)
        if source.pixels is None
        else nullcontext(open_array(source.pixels, source.name))
    )
    with opened as micrograph:
        original = height, width = micrograph.shape
        size = choose_pixel_size(
            source, micrograph.header_pixel_size_angstrom, pixel_size_angstrom
        )
        if diameter_angstrom is not None and diameter_angstrom > min(height, width) * size:
            raise BadInput(
                f"a particle of {diameter_angstrom:g} Å is larger than {source.name}"
                f" ({width * size:.0f} x {height * size:.0f} Å); check the diameter and the pixel"
                " size"
            )
        wanted = working_pixel_size_angstrom
        coarsest = coarsest_angstrom or MAX_COARSENING * wanted
        if size > (max(coarsest, MAX_UPSAMPLING * wanted) if finer else coarsest):
            raise BadInput(
                f"{source.name} has {size:.3g} Å/pixel, too coarse for a working pixel size of"
                f" {working_pixel_size_angstrom:.3g} Å; use less binned micrographs or a model"
                " trained at this scale, or check the pixel size"
            )
        shape = working_shape(original, size, wanted, finer and size <= MAX_UPSAMPLING * wanted)
        if shape[0] > height or shape[1] > width:
            image = fourier_upsample(micrograph.read_cropped(original), shape)
        else:
            image = micrograph.read_cropped(shape)
        in_header = micrograph.header_pixel_size_angstrom
        return WorkingImage(source, image, original, size, header_pixel_size_angstrom=in_header)


@dataclass
class WorkingImages:
    """Prepares working images and caches the most recently used ones; thread-safe."""

    working_pixel_size_angstrom: float
    pixel_size_angstrom: float | None = None
    diameter_angstrom: float | None = None
    #: The largest pixel size of a micrograph; see `prepare_working_image`.
    coarsest_angstrom: float | None = None
    #: Whether micrographs with larger pixels are upsampled; see `prepare_working_image`.
    finer: bool = False
    #: Maximum number of bytes of cached working images.
    keep_bytes: float = DEFAULT_CACHE_BYTES
    #: Number of micrographs that are prepared in parallel; see `prefetch`.
    threads: int = 1
    _is_mentioned: bool = field(default=False, repr=False, compare=False)
    _kept: OrderedDict[Source, WorkingImage] = field(default_factory=OrderedDict, repr=False)
    _lock: Lock = field(default_factory=Lock, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.pixel_size_angstrom is not None:
            # Once here, not for each of thousands of micrographs.
            check_pixel_size(self.pixel_size_angstrom)

    def coarsen(self, working_pixel_size_angstrom: float) -> None:
        """Change the working pixel size and clear the cache."""
        self.working_pixel_size_angstrom = working_pixel_size_angstrom
        self._kept.clear()

    def get(self, source: Source) -> WorkingImage:
        """Return the working image; raise BadInput as `prepare_working_image` does."""
        with self._lock:
            kept = self._kept.get(source)
        if kept is not None and kept.is_current():
            with self._lock:
                if source in self._kept:
                    self._kept.move_to_end(source)
            return kept
        image = prepare_working_image(
            source,
            self.working_pixel_size_angstrom,
            self.pixel_size_angstrom,
            self.diameter_angstrom,
            self.coarsest_angstrom,
            self.finer,
        )
        with self._lock:
            self._mention_header(image)
            self._kept[source] = image
            while sum(kept.image.nbytes for kept in self._kept.values()) > self.keep_bytes:
                self._kept.popitem(last=False)
        return image

    def _mention_header(self, image: WorkingImage) -> None:
        """Log once if a header contradicts the list that the micrograph is from."""
        in_list, in_header = image.source.pixel_size_angstrom, image.header_pixel_size_angstrom
        if self._is_mentioned or self.pixel_size_angstrom or not (in_list and in_header):
            return
        if not same_binning(in_list, in_header):
            self._is_mentioned = True
            log.warning(
                f"the list of micrographs gives {in_list:.4g} Å/pixel, but the header of"
                f" {image.source.name} {in_header:.4g}; the value in the list is used, unless you"
                " set the pixel size"
            )


@dataclass(frozen=True)
class Failure:
    """A micrograph that was skipped because it could not be used, and why."""

    name: str
    reason: str


def too_coarse_failure(usual_angstrom: float, image: WorkingImage) -> Failure:
    """Return the failure of an image that is too coarse to be used with the others."""
    reason = (
        f"it has {image.pixel_size_angstrom:.3g} Å/pixel, but the others have"
        f" {usual_angstrom:.3g} Å/pixel; check its header or set the pixel size"
    )
    return Failure(image.source.name, reason)


def store_pixels(image: WorkingImage, store: ArrayStore | None) -> WorkingImage:
    """Return the same image with its pixels in an array store, if one is given."""
    return image if store is None else replace(image, image=store.add(image.image))


def prepare_working_images(
    sources: Sequence[Source],
    images: WorkingImages,
    progress: Callable[[int, int], None] | None = None,
    store: ArrayStore | None = None,
) -> tuple[list[WorkingImage], list[Failure]]:
    """Prepare many micrographs and report those that fail.

    The pixels are kept in `store`; by default in memory.

    Raises
    ------
    BadInput
        If none of them can be used.
    """
    good: list[WorkingImage] = []
    failures: list[Failure] = []
    parameters: list[str | None] = []
    with prefetch(images.get, sources, images.threads) as prepared:
        for number, (source, image) in enumerate(prepared, 1):
            try:
                good.append(store_pixels(image.result(), store))
            except BadInput as error:
                failures.append(Failure(source.name, str(error)))
                parameters.append(error.parameter)
            if progress is not None:
                progress(number, len(sources))
    if not sources:
        raise BadInput("there are no micrographs to prepare")
    if not good:
        others = len(failures) - 1
        more = f" (and {others} other{'s' * (others > 1)} failed)" if others else ""
        raise BadInput(f"{failures[0].reason}{more}", parameter=parameters[0])
    return good, failures
