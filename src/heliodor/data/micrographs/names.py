"""What micrograph files may be called, and what their names mean."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

#: cryoSPARC puts the micrograph's uid before the names of files that it imports or makes.
_UID_PREFIX = re.compile(r"(?<![^/])(\d{21})_(?=[^/]+$)")


def strip_cryosparc_uid(name: str) -> str:
    """Return a micrograph's path without the 21-digit uid that begins its file's name."""
    return _UID_PREFIX.sub("", name)


MRC_SUFFIXES = (".mrc", ".mrcs", ".map")


TIFF_SUFFIXES = (".tif", ".tiff")


COMPRESSION_SUFFIXES = (".gz", ".bz2")


#: What tables of coordinates may call a micrograph's file; anything else behind a dot is a part
#: of the name, as in mic.001.
_SUFFIXES = (*MRC_SUFFIXES, *TIFF_SUFFIXES, ".eer", ".hdf", ".png", ".jpg", ".jpeg")


def is_micrograph_name(name: str) -> bool:
    """Tell whether a file name has the suffix of a format that can be read."""
    lower = name.lower()
    for compression in COMPRESSION_SUFFIXES:
        if lower.endswith(compression):
            return lower.removesuffix(compression).endswith(MRC_SUFFIXES)
    return lower.endswith(MRC_SUFFIXES + TIFF_SUFFIXES)


def is_tiff(name: str) -> bool:
    """Tell whether a file name is that of a TIFF image."""
    return name.lower().endswith(TIFF_SUFFIXES)


def strip_image_suffix(name: str) -> str:
    """Return a name without the suffix of an image format and of compression."""
    for suffixes in (COMPRESSION_SUFFIXES, _SUFFIXES):
        for suffix in suffixes:
            if name.lower().endswith(suffix) and len(PurePosixPath(name).name) > len(suffix):
                name = name[: -len(suffix)]
                break
    return name


def micrograph_stem(name: str | Path) -> str:
    """Return a micrograph's file name without folder and suffix."""
    return PurePosixPath(strip_image_suffix(str(name))).name


#: What breaks lines and tables, and a file's name and path can be no longer than.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


_LONGEST_PART, _LONGEST_PATH = 255, 4096


def find_name_fault(name: str) -> str | None:
    """Return why a name can be no micrograph's, as part of a sentence, or None if it can.

    Names are written into tables and onto terminals, and results are called after them.
    """
    try:
        raw = name.encode()
    except UnicodeEncodeError:
        return "is not in UTF-8"
    if not name.strip():
        return "is empty"
    if name.rpartition("/")[2] in ("", ".", ".."):
        return "is that of a folder"
    if _CONTROL.search(name):
        return "holds a line break, a tab or another control character"
    if len(raw) > _LONGEST_PATH or max(map(len, raw.split(b"/"))) > _LONGEST_PART:
        return "is longer than a file's name can be"
    return None
