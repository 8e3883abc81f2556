"""The candidates of micrographs that are done, one file each, so that a run can be resumed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from heliodor.data.micrographs.sources import Source
from heliodor.errors import BadInput
from heliodor.picking.filaments.batch import TracedMicrograph
from heliodor.picking.filaments.refinement import ScoredAxis
from heliodor.picking.filaments.width import profile_positions
from heliodor.picking.journal import is_same_micrograph
from heliodor.utils.files import write_text
from heliodor.utils.hashing import FileVersion, digest
from heliodor.utils.json_schema import StoredModel, validate

#: The folder of the files, in that of the results.
FOLDER = ".filaments"


class _StoredCandidates(StoredModel):
    """The content of a file."""

    key: str
    name: str
    identity: list[str | float | None]
    state: list[int]
    pixel_size_angstrom: float
    shape: list[int]
    axes: list[list[list[float]]]
    scores: list[list[float]]
    profile: list[float | None]
    profile_length_px: float


@dataclass(frozen=True)
class FolderStore:
    """Keeps candidates in files of a folder; those made in another way are not used."""

    folder: Path
    #: All that determines the candidates of a micrograph, ready for JSON.
    key: Mapping[str, Any]

    @cached_property
    def _digest(self) -> str:
        return digest([json.dumps(self.key, sort_keys=True).encode()])

    def _path(self, name: str) -> Path:
        return self.folder / FOLDER / f"{hashlib.sha256(name.encode()).hexdigest()[:32]}.json"

    def clear(self) -> None:
        """Remove all candidates."""
        for path in sorted((self.folder / FOLDER).glob("*.json")):
            path.unlink(missing_ok=True)

    def get(self, source: Source) -> TracedMicrograph | None:
        """Return the candidates of a micrograph that is done and has not changed."""
        path = self._path(source.name)
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
            stored = validate(_StoredCandidates, value, str(path))
        except (OSError, ValueError, RecursionError, BadInput):
            return None  # it is traced again
        if stored.key != self._digest or stored.name != source.name:
            return None
        if not is_same_micrograph(source, stored.identity, stored.state):
            return None
        try:
            return _to_candidates(stored)
        except (ValueError, IndexError):
            return None

    def add(self, source: Source, traced: TracedMicrograph, version: FileVersion | None) -> None:
        """Keep the candidates of a micrograph, unless it is not a file."""
        if version is None:
            return
        value = {
            "key": self._digest,
            "name": traced.name,
            "identity": [version.fingerprint, source.pixel_size_angstrom],
            "state": version.state,
            "pixel_size_angstrom": traced.pixel_size_angstrom,
            "shape": list(traced.shape),
            "axes": [one.axis.tolist() for one in traced.axes],
            "scores": [one.scores.tolist() for one in traced.axes],
            "profile": [None if np.isnan(v) else v for v in traced.profile.tolist()],
            "profile_length_px": traced.profile_length_px,
        }
        write_text(self._path(source.name), json.dumps(value, allow_nan=False))


def _to_candidates(stored: _StoredCandidates) -> TracedMicrograph:
    height, width = stored.shape
    profile = np.array([np.nan if v is None else v for v in stored.profile], dtype=np.float64)
    if profile.shape != profile_positions().shape:
        raise ValueError("the profile has another length")
    axes = []
    for points, scores in zip(stored.axes, stored.scores, strict=True):
        axis, values = np.array(points, dtype=np.float64), np.array(scores, dtype=np.float64)
        if axis.ndim != 2 or axis.shape[1] != 2 or values.shape != (len(axis),) or len(axis) < 2:
            raise ValueError("an axis has the wrong shape")
        axes.append(ScoredAxis(axis, values))
    return TracedMicrograph(
        stored.name,
        stored.pixel_size_angstrom,
        (height, width),
        tuple(axes),
        profile,
        stored.profile_length_px,
    )
