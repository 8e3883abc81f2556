"""Contamination that the user painted or erased: masks that replace what the model detects.

They are the files that `heliodor pick --mask` reads.
"""

from __future__ import annotations

import base64
import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from heliodor.app.candidates import Candidates
from heliodor.app.server.project import Project
from heliodor.conventions import FloatArray, Shape
from heliodor.errors import BadInput
from heliodor.picking.contamination import ContaminationMask
from heliodor.picking.user_masks import read_mask
from heliodor.utils.files import create_subfolder, remove_subfolder
from heliodor.utils.hashing import digest

log = logging.getLogger(__name__)

#: Most pixels of a mask.
MAX_PIXELS: Final = 4_000_000


class UserMaskStore:
    """The user's masks of a project, by the numbers of micrographs; any thread may call.

    Parameters
    ----------
    project
        The project; the masks are in its folder.
    """

    def __init__(self, project: Project) -> None:
        self._project = project
        self._masks: dict[int, ContaminationMask] = {}
        self._digests: dict[int, str] = {}
        self._lock = threading.Lock()
        for number in range(len(project.sources)):
            path = project.mask_file(number)
            if not path.is_file():
                continue
            try:
                mask, size = read_mask(path)
                if size is None:
                    raise BadInput(f"{path} was not written by heliodor")
            except BadInput as error:
                log.warning(f"{error}; contamination is not edited on {path.stem}")
                continue
            self._keep(number, _from_pixels(mask, size))

    def _keep(self, number: int, mask: ContaminationMask) -> None:
        self._masks[number] = mask
        packed = np.packbits(mask.mask).tobytes()
        self._digests[number] = digest([packed, repr(mask.pixel_size_angstrom).encode()])[:12]

    def get(self, number: int) -> ContaminationMask | None:
        """Return the mask of a micrograph; None where the user edited nothing."""
        return self._masks.get(number)

    def digest(self, number: int) -> str | None:
        """Return a hash of the mask of a micrograph, or None."""
        return self._digests.get(number)

    def digests(self) -> dict[str, str]:
        """Return a hash of each mask, by the name of its micrograph."""
        with self._lock:
            named = {self._project.sources[n].name: own for n, own in self._digests.items()}
        return dict(sorted(named.items()))

    def set(self, number: int, mask: ContaminationMask | None) -> None:
        """Set the mask of a micrograph and write it; None removes it."""
        path = self._project.mask_file(number)
        with self._lock:
            if mask is None:
                path.unlink(missing_ok=True)
                self._masks.pop(number, None)
                self._digests.pop(number, None)
            else:
                folder = self._project.folder
                create_subfolder(folder, str(path.parent.relative_to(folder)))
                mask.write(path)
                self._keep(number, mask)

    def write_inputs(
        self, folder: Path, make_empty: Callable[[int], ContaminationMask | None]
    ) -> bool:
        """Write the masks of the micrographs that are not excluded, for `heliodor pick --mask`.

        Those of an earlier run are removed.

        Parameters
        ----------
        make_empty
            Returns the mask of a micrograph on which contamination is ignored; None: none is
            needed.

        Returns
        -------
        bool
            Whether there are any.

        Raises
        ------
        BadInput
            If one cannot be made or written.
        """
        remove_subfolder(folder.parent, folder.name)
        written = False
        for number in self._project.included:
            ignores = self._project.ignores_contamination(number)
            mask = make_empty(number) if ignores else self.get(number)
            if mask is not None:
                path = folder / f"{self._project.sources[number].output_stem}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                mask.write(path)
                written = True
        return written


def _from_pixels(mask: Any, pixel_size_angstrom: float) -> ContaminationMask:
    return ContaminationMask(mask, pixel_size_angstrom, float(mask.mean()))


def apply_user_settings(
    candidates: Candidates,
    number: int,
    project: Project,
    masks: UserMaskStore,
    pixel_size_angstrom: float,
) -> Candidates:
    """Return the candidates with what the user says about contamination and the threshold.

    Where the threshold of the micrograph is higher than the others', all of its scores are lowered
    by as much, so that one threshold holds for all.
    """
    if offset := project.threshold_offset(number):
        candidates = candidates.with_threshold_offset(offset)
    mask = masks.get(number)
    if project.ignores_contamination(number):
        found = candidates.in_contamination(None, pixel_size_angstrom)
        return replace(found, contamination=mask or candidates.contamination)
    return candidates if mask is None else candidates.in_contamination(mask, pixel_size_angstrom)


def find_painted_over(
    candidates: Candidates,
    mask: ContaminationMask,
    threshold: float,
    pixel_size_angstrom: float,
) -> FloatArray:
    """Return the candidates that would be picks, had the user not painted over them.

    Those in contamination that the model detects by itself do not count.

    Parameters
    ----------
    threshold
        Log-odds from which candidates are picks.

    Returns
    -------
    ndarray of float, shape (n, 2)
        (x, y) in pixels of the micrograph.
    """
    at = candidates.xy_px * pixel_size_angstrom
    painted = mask.contains(at) & (candidates.without_contamination >= threshold)
    if candidates.contamination is not None:
        painted &= ~candidates.contamination.contains(at)
    return np.asarray(candidates.xy_px[painted])


def parse_mask(
    values: Mapping[str, Any], shape: Shape, pixel_size_angstrom: float
) -> ContaminationMask:
    """Return the mask that the page describes.

    Parameters
    ----------
    values
        ``rows``, ``columns``, the ``step`` from one pixel of the mask to the next in pixels of
        the micrograph, and the ``bits``, row by row, as base64.
    shape
        Height and width of the micrograph.
    pixel_size_angstrom
        Its pixel size.

    Raises
    ------
    BadInput
        If it does not cover the micrograph, or is not complete.
    """
    rows, columns, step = values["rows"], values["columns"], values["step"]
    if rows * columns > MAX_PIXELS:
        raise BadInput(f"the mask has too many pixels; at most {MAX_PIXELS} are allowed")
    for count, side in zip((rows, columns), shape, strict=True):
        if abs(count * step - side) > 1.5 * step:
            raise BadInput("the mask does not cover the micrograph")
    try:
        packed = base64.b64decode(values["bits"], validate=True)
    except ValueError as error:
        raise BadInput("the pixels of the mask are not base64") from error
    if len(packed) != -(-rows * columns // 8):
        raise BadInput("the mask has not as many pixels as it says")
    bits = np.unpackbits(np.frombuffer(packed, np.uint8), count=rows * columns)
    return _from_pixels(bits.astype(np.bool_).reshape(rows, columns), step * pixel_size_angstrom)


def describe_mask(mask: ContaminationMask, pixel_size_angstrom: float) -> dict[str, Any]:
    """Return a mask for the page; see `parse_mask`."""
    rows, columns = mask.mask.shape
    return {
        "rows": rows,
        "columns": columns,
        "step": round(mask.pixel_size_angstrom / pixel_size_angstrom, 4),
        "bits": base64.b64encode(np.packbits(mask.mask).tobytes()).decode(),
    }
