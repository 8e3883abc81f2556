"""Names of micrograph files: suffixes, stems and characters that are not allowed."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

#: cryoSPARC puts the micrograph's uid before the names of files it imports or writes.
_UID_PREFIX = re.compile(r"(?<![^/])(\d{21})_(?=[^/]+$)")


def strip_cryosparc_uid(name: str) -> str:
    """Return a micrograph's path without the 21-digit uid at the start of its file name."""
    return _UID_PREFIX.sub("", name)


#: What cryoSPARC's motion correction appends to the stem of a movie.
_CORRECTED = re.compile(r"(?<=[^/])_(?:patch|rigid)_aligned(?:_doseweighted)?$")


def strip_aligned(name: str) -> str:
    """Return a micrograph's path without what cryoSPARC's motion correction appends to its stem.

    The suffix of the file stays: ``M/a_patch_aligned.mrc`` becomes ``M/a.mrc``.
    """
    plain = strip_image_suffix(name)
    return _CORRECTED.sub("", plain) + name[len(plain) :]


def strip_cryosparc_parts(stem: str) -> str:
    """Return a micrograph's stem without the uid and the suffix of cryoSPARC.

    ``000588255143468195995_a_patch_aligned_doseweighted`` and RELION's ``a`` are of one movie.
    """
    return _CORRECTED.sub("", strip_cryosparc_uid(stem.removeprefix(">")))


#: What motion correction appends to the stem of a micrograph for its other results: the power
#: spectrum, the sums of even and odd frames, the sum without dose weighting, the background.
_BY_PRODUCT = re.compile(r"(?<=[^/])_(?:PS|EVN|ODD|noDW|background)$")
#: What it appends to a sum with dose weighting.
_WEIGHTED = re.compile(r"(?<=[^/])_DWS?$")


def is_by_product(stem: str) -> bool:
    """Return whether a file has the name of a by-product of motion correction."""
    return _BY_PRODUCT.search(stem) is not None


def movie_stem(stem: str) -> str:
    """Return what the names of all results of the motion correction of one movie begin with."""
    return _CORRECTED.sub("", _WEIGHTED.sub("", _BY_PRODUCT.sub("", stem)))


MRC_SUFFIXES = (".mrc", ".mrcs", ".map")


TIFF_SUFFIXES = (".tif", ".tiff")


COMPRESSION_SUFFIXES = (".gz", ".bz2")


#: Suffixes of micrographs in coordinate tables; any other text after a dot is part of the name,
#: as in mic.001.
_SUFFIXES = (*MRC_SUFFIXES, *TIFF_SUFFIXES, ".eer", ".hdf", ".png", ".jpg", ".jpeg")


def is_micrograph_name(name: str) -> bool:
    """Return whether a file name has the suffix of a readable format."""
    lower = name.lower()
    for compression in COMPRESSION_SUFFIXES:
        if lower.endswith(compression):
            return lower.removesuffix(compression).endswith(MRC_SUFFIXES)
    return lower.endswith(MRC_SUFFIXES + TIFF_SUFFIXES)


def is_tiff(name: str) -> bool:
    """Return whether a file name has a TIFF suffix."""
    return name.lower().endswith(TIFF_SUFFIXES)


def strip_image_suffix(name: str) -> str:
    """Return a name without its image and compression suffixes."""
    for suffixes in (COMPRESSION_SUFFIXES, _SUFFIXES):
        for suffix in suffixes:
            if name.lower().endswith(suffix) and len(PurePosixPath(name).name) > len(suffix):
                name = name[: -len(suffix)]
                break
    return name


def micrograph_stem(name: str | Path) -> str:
    """Return a micrograph's file name without folder and suffix."""
    return PurePosixPath(strip_image_suffix(str(name))).name


#: Characters that break lines and tables; longest file name and path.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


_LONGEST_PART, _LONGEST_PATH = 255, 4096


def find_name_fault(name: str) -> str | None:
    """Return why a micrograph cannot have this name, as part of a sentence, or None if it can.

    Names are written into tables and onto terminals, and output files are named after them.
    """
    try:
        raw = name.encode()
    except UnicodeEncodeError:
        return "is not in UTF-8"
    if not name.strip():
        return "is empty"
    if name.rpartition("/")[2] in ("", ".", ".."):
        return "is the name of a folder"
    if _CONTROL.search(name):
        return "contains a line break, a tab or another control character"
    if len(raw) > _LONGEST_PATH or max(map(len, raw.split(b"/"))) > _LONGEST_PART:
        return "is too long for a file name"
    return None
