"""Names of micrograph files: suffixes, stems and characters that are not allowed."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

#: cryoSPARC puts the micrograph's uid before the names of files it imports or writes.
_UID_PREFIX = re.compile(r"(?<![^/])(\d{21})_(?=[^/]+$)")


def strip_cryosparc_uid(name: str) -> str:
    """Return a micrograph's path without the 21-digit uid at the start of its file name."""
    return _UID_PREFIX.sub("", name)


#: What the motion correction of cryoSPARC and Scipion appends to the stem of a movie.
_CORRECTED = re.compile(r"(?<=[^/])_(?:(?:patch|rigid)_aligned(?:_doseweighted)?|aligned_mic)$")


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


#: What motion correction and CTF estimation append to the stem of a micrograph for their other
#: results: power spectra, the sums of even and odd frames, the sum without dose weighting, the
#: stack of aligned frames, the background.
_BY_PRODUCT = re.compile(
    r"(?<=[^/])_(?:PS|psd|ctf|ctf_diag_2D|EVN|ODD|even|odd|noDW|Stk|background)$"
)
#: What is appended to a sum with dose weighting, and to a denoised micrograph.
_WEIGHTED, _DENOISED = re.compile(r"(?<=[^/])_DWS?$"), re.compile(r"(?<=[^/])_denoised$")
#: Names of gain references: those of the camera's programs, and those that people give.
_GAIN = re.compile(r"(?:.*[_-])?gain(?:[_-]?ref(?:erence)?)?|(?:super|count)ref_.*", re.IGNORECASE)


def is_by_product(stem: str) -> bool:
    """Return whether a file has the name of a by-product of motion correction."""
    return _BY_PRODUCT.search(stem) is not None


def is_gain_reference(stem: str) -> bool:
    """Return whether a file has the name of a gain reference."""
    return _GAIN.fullmatch(stem) is not None


def movie_stem(stem: str) -> str:
    """Return what the names of all results of the motion correction of one movie begin with."""
    for appended in (_DENOISED, _BY_PRODUCT, _WEIGHTED, _CORRECTED):
        stem = appended.sub("", stem)
    return stem


def use_slashes(name: str) -> str:
    """Return a path of Windows with the slashes of other systems, and any other name unchanged."""
    is_windows = _DRIVE.match(name) is not None or ("\\" in name and "/" not in name)
    return name.replace("\\", "/") if is_windows else name


#: How an absolute path begins on Windows.
_DRIVE = re.compile(r"[A-Za-z]:\\|\\\\")

MRC_SUFFIXES = (".mrc", ".mrcs", ".map")


TIFF_SUFFIXES = (".tif", ".tiff")


COMPRESSION_SUFFIXES = (".gz", ".bz2")


#: Suffixes of micrographs in coordinate tables; any other text after a dot is part of the name,
#: as in mic.001.
_SUFFIXES = (*MRC_SUFFIXES, *TIFF_SUFFIXES, ".eer", ".hdf", ".png", ".jpg", ".jpeg")


#: Suffixes of images that are no micrographs or cannot be read, and what to do with them.
_OTHER_IMAGES = {
    (".eer",): "is a movie; correct its motion, and give the average as MRC or TIFF",
    (".dm3", ".dm4", ".hdf", ".h5", ".hdf5", ".ser", ".emd", ".em", ".spi", ".img", ".npy"): (
        "is in a format that heliodor does not read; convert it to MRC, for example with"
        " e2proc2d.py (EMAN2) or dm2mrc (IMOD)"
    ),
    (".png", ".jpg", ".jpeg"): (
        "is a picture; use the micrograph from which it was made, as MRC or TIFF"
    ),
    (".rec", ".st", ".ali"): "has the suffix of a tomogram or tilt series",
    (".xz", ".zst", ".tif.gz", ".tiff.gz", ".tif.bz2"): (
        "is compressed in a way that heliodor does not read; unpack it"
    ),
}


def describe_other_image(name: str) -> str | None:
    """Return what an image is that cannot be a micrograph, by its suffix, or None."""
    lower = name.lower()
    return next((what for ends, what in _OTHER_IMAGES.items() if lower.endswith(ends)), None)


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
