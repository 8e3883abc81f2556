"""Contamination in a project of filaments: what tracing detected, and what the user says."""

from __future__ import annotations

import logging
import shutil
import threading
from pathlib import Path
from typing import Any, Final

import numpy as np

from heliodor.app.server.project import MASKS, Project
from heliodor.app.server.tiles import MicrographTiles
from heliodor.app.server.user_masks import UserMaskStore, describe_mask
from heliodor.errors import BadInput
from heliodor.picking.contamination import FOLDER, ContaminationMask
from heliodor.picking.user_masks import read_mask
from heliodor.utils.files import create_subfolder, read_json, write_json

log = logging.getLogger(__name__)

#: The folder of what was detected when filaments were traced, and the shares of the area in it.
DETECTED: Final = "detected"
_SHARES: Final = "shares.json"


class FilamentContamination:
    """Contamination of the micrographs of a project of filaments; any thread may call.

    What was detected is kept in the project, as tracing with the user's masks detects nothing on
    the micrographs that have one.

    Parameters
    ----------
    project, tiles, masks
        Those of the project; `masks` are the user's.
    """

    def __init__(self, project: Project, tiles: MicrographTiles, masks: UserMaskStore) -> None:
        self._project, self._tiles, self._masks = project, tiles, masks
        self._folder = project.folder / DETECTED
        self._lock = threading.Lock()
        self._shares = self._read_shares()

    def collect(self, traced: Path) -> list[int]:
        """Take over what was detected in a tracing; return the micrographs on which it was.

        Parameters
        ----------
        traced
            The folder of its results.

        Raises
        ------
        BadInput
            If something cannot be read or written.
        """
        changed = []
        with self._lock:
            create_subfolder(self._project.folder, DETECTED)
            for number, source in enumerate(self._project.sources):
                name = f"{source.output_stem}.png"
                path = traced / FOLDER / name
                if not path.is_file() or (traced / MASKS / name).is_file():
                    continue
                mask = read_mask(path)[0]
                kept = self._folder / name
                kept.parent.mkdir(parents=True, exist_ok=True)
                aside = kept.with_name(f"{kept.name}.new")
                shutil.copyfile(path, aside)
                aside.replace(kept)
                self._shares[source.name] = round(float(mask.mean()), 6)
                changed.append(number)
            if changed:
                write_json(self._folder / _SHARES, self._shares)
        return changed

    def clean_share(self, number: int) -> float | None:
        """Return the share of a micrograph outside of its contamination; None if unknown."""
        mask = self._masks.get(number)
        if mask is not None:
            return round(1.0 - mask.fraction, 4)
        share = self._shares.get(self._project.sources[number].name)
        return None if share is None else round(1.0 - share, 4)

    def describe(self, number: int) -> dict[str, Any] | None:
        """Return the contamination of a micrograph for the page; None if there is none."""
        mask, is_edited = self._masks.get(number), True
        if mask is None:
            mask, is_edited = self._detected(number), False
        if mask is None or not (mask.mask.any() or is_edited):
            return None
        return describe_mask(mask, self._tiles.pixel_size(number))

    def write_masks(self, folder: Path) -> bool:
        """Write the user's masks into a folder, and empty ones where contamination is ignored.

        Returns
        -------
        bool
            Whether there are any.

        Raises
        ------
        BadInput
            If one cannot be written, or a micrograph cannot be read.
        """
        return self._masks.write_inputs(folder, self._make_empty)

    def _detected(self, number: int) -> ContaminationMask | None:
        path = self._folder / f"{self._project.sources[number].output_stem}.png"
        if not path.is_file():
            return None
        mask, size = read_mask(path)
        if size is None:
            raise BadInput(f"{path} was not written by heliodor; remove it and trace again")
        return ContaminationMask(mask, size, float(mask.mean()))

    def _make_empty(self, number: int) -> ContaminationMask:
        """Return a mask of a micrograph with nothing in it."""
        side = max(self._tiles.header(number).shape)
        step = side * self._tiles.pixel_size(number)
        return ContaminationMask(np.zeros((1, 1), np.bool_), step, 0.0)

    def _read_shares(self) -> dict[str, float]:
        try:
            found = read_json(self._folder / _SHARES)
            return {str(name): float(share) for name, share in found.items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError, AttributeError) as error:
            log.warning(f"{self._folder / _SHARES} is not used ({error}); trace again to renew it")
            return {}
