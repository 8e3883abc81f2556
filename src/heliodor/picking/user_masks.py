"""Masks of contamination that a user gives, for example those of an earlier picking, edited."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from heliodor.conventions import Image, Shape
from heliodor.data.micrographs.headers import read_header
from heliodor.data.micrographs.micrograph import read_map
from heliodor.data.micrographs.name_matching import match_names
from heliodor.data.micrographs.names import MRC_SUFFIXES, micrograph_stem
from heliodor.data.micrographs.sources import Source
from heliodor.data.micrographs.working_images import WorkingImage
from heliodor.errors import BadInput
from heliodor.picking.contamination import PIXEL_SIZE_TEXT, ContaminationMask, Mask
from heliodor.utils.hashing import fingerprint_file

if TYPE_CHECKING:
    from PIL.Image import Image as Pillow

log = logging.getLogger(__name__)

SUFFIXES = (".png", *MRC_SUFFIXES)
#: Larger images are damage.
MOST_PIXELS = 2**28
#: The height of a mask may differ from what its width and the micrograph's shape ask for by this
#: many pixels of the mask: those of lattices are rounded up.
ROUNDING_PX = 1.0


@dataclass(frozen=True)
class UserMasks:
    """The mask files of some micrographs."""

    #: By the name of the micrograph.
    files: Mapping[str, Path] = field(default_factory=dict)

    @classmethod
    def find(
        cls, given: str | Path | Sequence[str | Path] | None, sources: Sequence[Source]
    ) -> UserMasks:
        """Find the mask of each micrograph: the one with its name, apart from the suffix.

        Parameters
        ----------
        given
            Files and folders; None or nothing: no masks. A folder stands for all PNG and MRC
            files in it and in its folders.
        sources
            The micrographs.

        Raises
        ------
        BadInput
            If there is no such file, a mask cannot be read, has not the shape of its micrograph,
            or belongs to no micrograph, or two belong to the same one.
        """
        if not given:
            return cls()
        names, paths = list[str](), list[Path]()
        alone = set[str]()
        for item in [given] if isinstance(given, str | Path) else given:
            path = Path(item)
            if path.is_dir():
                below = sorted(p for p in path.rglob("*") if p.name.lower().endswith(SUFFIXES))
                if not below:
                    raise BadInput(f"there is no mask (PNG or MRC) in {path}", parameter="mask")
                paths += below
                names += [p.relative_to(path).as_posix() for p in below]
            elif path.is_file() and path.name.lower().endswith(SUFFIXES):
                paths.append(path)
                names.append(path.as_posix())
                alone.add(names[-1])
            else:
                why = "is not a PNG or MRC file" if path.exists() else "does not exist"
                raise BadInput(f"the mask {path} {why}", parameter="mask")
        files = dict(zip(names, paths, strict=True))
        if len(files) < len(names):
            raise BadInput("two masks have the same name; give one for each micrograph")
        matched = _match(list(files), sources)
        unknown = [name for name in files if name not in matched]
        if not matched or not alone.isdisjoint(unknown):
            name = next(n for n in unknown if not matched or n in alone)
            raise BadInput(
                f"the mask {files[name]} matches no micrograph; name it after its micrograph, as"
                f" in {micrograph_stem(sources[0].name)}.png",
                parameter="mask",
            )
        if unknown:
            log.warning(
                f"{len(unknown)} of {len(files)} masks match no micrograph and are not used"
            )
        by_micrograph: dict[str, Path] = {}
        for name, source in matched.items():
            other = by_micrograph.setdefault(source.name, files[name])
            if other != files[name]:
                raise BadInput(
                    f"{other} and {files[name]} are both masks of {source.name}; give only one",
                    parameter="mask",
                )
        found = cls(by_micrograph)
        for source in sources:
            found._check(source)
        return found

    def _check(self, source: Source) -> None:
        """Refuse a mask that cannot be read, or has another shape than its micrograph."""
        path = self.files.get(source.name)
        if path is None:
            return
        found, pixel_size = _read_mask_shape(path)
        if source.pixels is not None:
            shape: Shape = (source.pixels.shape[0], source.pixels.shape[1])
        else:
            try:
                shape = read_header(source.path).shape
            except BadInput:
                return  # the micrograph is reported when it is picked
        if pixel_size is None:
            check_shape(path, found, shape, source.name)

    def fingerprints(self) -> dict[str, str]:
        """Return a fingerprint of the content of each mask, by the name of its micrograph."""
        return {name: fingerprint_file(path) for name, path in sorted(self.files.items())}

    def replace(
        self, detected: ContaminationMask | None, image: WorkingImage, score: Image
    ) -> ContaminationMask | None:
        """Return the contamination of a micrograph: that of its mask in place of the detected one.

        Masks that this program wrote keep their pixels. Others get those of the working image,
        each of which is in contamination if the nearest pixel of the mask is. Without masks the
        detected one is returned. If others have masks, a micrograph without one on which nothing
        can be detected has no contamination.

        Parameters
        ----------
        detected
            None for models that detect nothing.
        image
            The micrograph.
        score
            Its log-odds, not finite in dead borders, shape (h, w).
        """
        path, working = self.files.get(image.source.name), image.working_pixel_size_angstrom
        if path is None:
            if detected is None and self.files:
                return ContaminationMask(np.zeros(score.shape, np.bool_), working, 0.0)
            return detected
        mask, size = read_mask(path)
        if size is None:
            check_shape(path, mask.shape, image.original_shape, image.source.name)
            rows, columns = (
                np.minimum(np.rint(np.arange(side) * (count / side)), count - 1).astype(np.intp)
                for side, count in zip(image.shape, mask.shape, strict=True)
            )
            mask, size = mask[np.ix_(rows, columns)], working
        _check_extent(path, mask.shape, size / working, score.shape, image.source.name)
        rows, columns = (
            np.minimum(np.rint(np.arange(count) * (size / working)), side - 1).astype(np.intp)
            for count, side in zip(mask.shape, score.shape, strict=True)
        )
        alive = np.isfinite(score[np.ix_(rows, columns)])
        there = max(int(np.count_nonzero(alive)), 1)
        return ContaminationMask(mask, size, int(np.count_nonzero(mask & alive)) / there)


#: For micrographs without masks.
NO_MASKS = UserMasks()


def read_mask(path: Path) -> tuple[Mask, float | None]:
    """Read a mask, True where a pixel is not zero; and its pixel size if this program wrote it.

    Raises
    ------
    BadInput
        If it cannot be read.
    """
    if path.name.lower().endswith(MRC_SUFFIXES):
        return np.asarray(read_map(path) != 0), None
    with _open_png(path) as picture:
        # Transparency and numbers in a palette mean nothing.
        in_color = picture.mode in ("P", "PA", "LA", "RGBA")
        values = np.asarray(picture.convert("RGB") if in_color else picture)
        size = _read_size(picture.info.get(PIXEL_SIZE_TEXT))
    if values.ndim == 3:
        values = values.max(axis=2)
    return np.asarray(values != 0, dtype=np.bool_), size


def _read_mask_shape(path: Path) -> tuple[Shape, float | None]:
    """Read only the shape of a mask, and its pixel size if this program wrote it."""
    if path.name.lower().endswith(MRC_SUFFIXES):
        return read_header(path).shape, None
    with _open_png(path) as picture:
        return (picture.height, picture.width), _read_size(picture.info.get(PIXEL_SIZE_TEXT))


@contextmanager
def _open_png(path: Path) -> Iterator[Pillow]:
    """Open a PNG file; what the library cannot read is an error for the user."""
    from PIL import Image

    try:
        with Image.open(path, formats=["PNG"]) as picture:
            if picture.width * picture.height > MOST_PIXELS:
                raise ValueError("it has too many pixels")
            yield picture
    except Exception as error:  # the library raises many types for damaged files
        raise BadInput(
            f"the mask {path} cannot be read as a PNG image ({error}); write it again",
            parameter="mask",
        ) from error


def _read_size(text: object) -> float | None:
    try:
        size = float(str(text))
    except ValueError:
        return None
    return size if 0 < size < math.inf else None


def check_shape(path: Path, of_mask: tuple[int, ...], shape: Shape, name: str) -> None:
    """Refuse a mask without the aspect ratio of its micrograph.

    Raises
    ------
    BadInput
        If it has another one by more than the rounding to whole pixels.
    """
    rows, columns = of_mask
    height, width = shape
    if min(abs(rows - columns * height / width), abs(columns - rows * width / height)) > (
        ROUNDING_PX
    ):
        raise BadInput(
            f"the mask {path} has {columns} x {rows} pixels, which is not the shape of {name}"
            f" ({width} x {height}); a mask may be larger or smaller, but covers the whole"
            " micrograph",
            parameter="mask",
        )


def _check_extent(
    path: Path, shape: tuple[int, ...], every: float, working: tuple[int, ...], name: str
) -> None:
    """Refuse a mask of this program that ends before its micrograph, or after it."""
    for count, side in zip(shape, working, strict=True):
        if abs(count * every - side) > 1.5 * every:
            raise BadInput(
                f"the mask {path} was written for a micrograph of another size than {name}; give"
                " the mask of this micrograph",
                parameter="mask",
            )


def _match(names: list[str], sources: Sequence[Source]) -> dict[str, Source]:
    """Return the micrograph of each mask that has one."""
    by_output = {source.output_stem: source for source in sources}
    found = {
        name: by_output[stem] for name in names if (stem := _without_suffix(name)) in by_output
    }
    rest = [name for name in names if name not in found]
    return found | match_names(rest, [s for s in sources if s not in found.values()])


def _without_suffix(name: str) -> str:
    return name[: len(name) - len(Path(name).suffix)]
