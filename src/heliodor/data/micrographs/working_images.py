"""Preparation: from a micrograph's file to the image the networks work on."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from threading import Lock

from heliodor.conventions import (
    WORKING_DIAMETER_PX,
    Image,
    Shape,
    working_shape,
)
from heliodor.data.micrographs.fourier_crop import fourier_upsample
from heliodor.data.micrographs.micrograph import open_array, open_micrograph
from heliodor.data.micrographs.sources import Source
from heliodor.errors import BadInput
from heliodor.utils.array_store import ArrayStore
from heliodor.utils.prefetch import prefetch

#: Pixel sizes outside this range (angstrom) are taken for a slip of the finger or of a header.
PIXEL_SIZE_RANGE = (0.1, 50.0)
#: Diameters outside this range (angstrom) likewise.
DIAMETER_RANGE = (20.0, 5000.0)
#: Originals may be so many times coarser than the working pixel size and are used as they are.
MAX_COARSENING = 1.2
#: Originals with so many times larger pixels than a model's may be made finer, where the model
#: knows blurred images: there is nothing in them between their own limit and that of its pixels.
MAX_UPSAMPLING = 2.5
#: Bytes of working images that are kept for their next use.
DEFAULT_CACHE_BYTES = 512 * 2**20
#: Pixel sizes that differ by more than this share are not the same.
SAME_PIXEL_SIZE = 0.02


@dataclass(frozen=True)
class WorkingImage:
    """A micrograph at the working pixel size, not yet normalised."""

    source: Source
    image: Image
    original_shape: Shape
    pixel_size_angstrom: float

    @property
    def shape(self) -> Shape:
        """(height, width) in working pixels."""
        height, width = self.image.shape
        return height, width

    @property
    def working_pixel_size_angstrom(self) -> float:
        """Sampling along x, to rounding that of the data set."""
        return self.pixel_size_angstrom * self.original_shape[1] / self.shape[1]


def check_diameter(diameter_angstrom: float) -> float:
    """Return the diameter, or raise BadInput where no particle can have it."""
    low, high = DIAMETER_RANGE
    if not low <= diameter_angstrom <= high:
        raise BadInput(
            f"a particle diameter of {diameter_angstrom:g} A is not plausible; give it in"
            f" angstrom, between {low:g} and {high:g}"
        )
    return diameter_angstrom


def working_pixel_size(diameter_angstrom: float, network: str) -> float:
    """Return the default working pixel size: the particle as many pixels as suits a network."""
    return check_diameter(diameter_angstrom) / WORKING_DIAMETER_PX[network]


def check_pixel_size(pixel_size_angstrom: float) -> float:
    """Return a pixel size that the user gave, or raise BadInput where no micrograph has it."""
    if not is_plausible_pixel_size(pixel_size_angstrom):
        low, high = PIXEL_SIZE_RANGE
        raise BadInput(
            f"a pixel size of {pixel_size_angstrom:g} A is not plausible; give --pixel-size"
            f" between {low:g} and {high:g}"
        )
    return pixel_size_angstrom


def is_plausible_pixel_size(pixel_size_angstrom: float) -> bool:
    """Tell whether a micrograph can have this pixel size."""
    low, high = PIXEL_SIZE_RANGE
    return low <= pixel_size_angstrom <= high


def same_pixel_size(one_angstrom: float, other_angstrom: float) -> bool:
    """Tell whether two pixel sizes are one, but for how programs round and calibrate them."""
    smaller = min(one_angstrom, other_angstrom)
    return abs(one_angstrom - other_angstrom) <= SAME_PIXEL_SIZE * smaller


def choose_pixel_size(source: Source, header: float | None, given: float | None) -> float:
    """Decide on a micrograph's pixel size: the user's, else the STAR's, else the header's.

    Raises
    ------
    BadInput
        If none of them says, or what they say is absurd.
    """
    said = (given, source.pixel_size_angstrom, header)
    size = next((value for value in said if value is not None), None)
    if size is None:
        raise BadInput(
            f"{source.name} has no believable pixel size in its header and none in a STAR"
            " file; give --pixel-size in angstrom"
        )
    if not is_plausible_pixel_size(size):
        low, high = PIXEL_SIZE_RANGE
        raise BadInput(
            f"{source.name} has a pixel size of {size:g} A, which is not plausible; give"
            f" --pixel-size between {low:g} and {high:g}"
        )
    return size


def prepare_working_image(
    source: Source,
    working_pixel_size_angstrom: float,
    pixel_size_angstrom: float | None = None,
    diameter_angstrom: float | None = None,
    coarsest_angstrom: float | None = None,
    finer: bool = False,
) -> WorkingImage:
    """Read a micrograph and bring it to the working pixel size in Fourier space.

    Parameters
    ----------
    source
        The micrograph.
    working_pixel_size_angstrom
        Wanted sampling; an image is made no finer than it is, unless `finer` says so.
    pixel_size_angstrom
        The original's sampling where the user gave it.
    diameter_angstrom
        Where given, refuse images that a particle of that size does not fit into.
    coarsest_angstrom
        Refuse originals with larger pixels; by default 1.2 times the working pixel size, up to
        which a network still recognises its particle.
    finer
        Bring originals with larger pixels, up to `MAX_UPSAMPLING` times, to the working ones too.

    Raises
    ------
    BadInput
        If the file cannot be used, its pixel size is not known, or it is too small or too
        coarse.
    """
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
                f"a particle of {diameter_angstrom:g} A is larger than {source.name}, which"
                f" shows {width * size:.0f} x {height * size:.0f} A; check the diameter and the"
                " pixel size"
            )
        wanted = working_pixel_size_angstrom
        coarsest = coarsest_angstrom or MAX_COARSENING * wanted
        if size > (max(coarsest, MAX_UPSAMPLING * wanted) if finer else coarsest):
            raise BadInput(
                f"{source.name} has {size:.3g} A a pixel, too coarse for a working pixel size of"
                f" {working_pixel_size_angstrom:.3g} A; give micrographs that are less binned, a"
                " model made for this scale, or check the pixel size"
            )
        shape = working_shape(original, size, wanted, finer and size <= MAX_UPSAMPLING * wanted)
        if shape[0] > height or shape[1] > width:
            fine = fourier_upsample(micrograph.read_cropped(original), shape)
            return WorkingImage(source, fine, original, size)
        return WorkingImage(source, micrograph.read_cropped(shape), original, size)


@dataclass
class WorkingImages:
    """Prepared micrographs, the last ones kept so that nothing is read twice in a row.

    Several threads may ask for micrographs at a time.
    """

    working_pixel_size_angstrom: float
    pixel_size_angstrom: float | None = None
    diameter_angstrom: float | None = None
    #: The largest pixels an original may have; see `prepare_working_image`.
    coarsest_angstrom: float | None = None
    #: Whether originals with larger pixels are upsampled; see `prepare_working_image`.
    finer: bool = False
    #: Bytes of working images that may be kept.
    keep_bytes: float = DEFAULT_CACHE_BYTES
    #: So many micrographs are prepared at a time where many are wanted; see `prefetch`.
    threads: int = 1
    _kept: OrderedDict[Source, WorkingImage] = field(default_factory=OrderedDict, repr=False)
    _lock: Lock = field(default_factory=Lock, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.pixel_size_angstrom is not None:
            # Here and once, not after each of thousands of micrographs was read.
            check_pixel_size(self.pixel_size_angstrom)

    def coarsen(self, working_pixel_size_angstrom: float) -> None:
        """Change the working pixel size from here on; what was kept is forgotten."""
        self.working_pixel_size_angstrom = working_pixel_size_angstrom
        self._kept.clear()

    def get(self, source: Source) -> WorkingImage:
        """Return a prepared micrograph; raises BadInput as `prepare_working_image` does."""
        with self._lock:
            if source in self._kept:
                self._kept.move_to_end(source)
                return self._kept[source]
        image = prepare_working_image(
            source,
            self.working_pixel_size_angstrom,
            self.pixel_size_angstrom,
            self.diameter_angstrom,
            self.coarsest_angstrom,
            self.finer,
        )
        with self._lock:
            self._kept[source] = image
            while sum(kept.image.nbytes for kept in self._kept.values()) > self.keep_bytes:
                self._kept.popitem(last=False)
        return image


@dataclass(frozen=True)
class Failure:
    """A micrograph that could not be used, and why."""

    name: str
    reason: str


def too_coarse_failure(usual_angstrom: float, image: WorkingImage) -> Failure:
    """Return that an image is too coarse to be used with others of the usual pixel size."""
    reason = (
        f"it has {image.pixel_size_angstrom:.3g} A a pixel where {usual_angstrom:.3g} A are usual;"
        " check its header or give --pixel-size"
    )
    return Failure(image.source.name, reason)


def store_pixels(image: WorkingImage, shelf: ArrayStore | None) -> WorkingImage:
    """Return the same with its pixels on a shelf, where there is one."""
    return image if shelf is None else replace(image, image=shelf.store(image.image))


def prepare_working_images(
    sources: Sequence[Source],
    images: WorkingImages,
    progress: Callable[[int, int], None] | None = None,
    shelf: ArrayStore | None = None,
) -> tuple[list[WorkingImage], list[Failure]]:
    """Prepare many micrographs; one that fails is reported and spoils nothing.

    Their images are kept on the shelf; in memory by default.

    Raises
    ------
    BadInput
        If not a single one can be used.
    """
    good: list[WorkingImage] = []
    failures: list[Failure] = []
    with prefetch(images.get, sources, images.threads) as prepared:
        for number, (source, image) in enumerate(prepared, 1):
            try:
                good.append(store_pixels(image.result(), shelf))
            except BadInput as error:
                failures.append(Failure(source.name, str(error)))
            if progress is not None:
                progress(number, len(sources))
    if not sources:
        raise BadInput("there are no micrographs to prepare")
    if not good:
        others = len(failures) - 1
        more = f" (and {others} other{'s' * (others > 1)} failed)" if others else ""
        raise BadInput(f"{failures[0].reason}{more}")
    return good, failures
