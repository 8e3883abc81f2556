"""The candidates of one micrograph, and the file in which the engine hands them to the server.

The file has all that picking needs too, so that a micrograph that was scored in the app need not
be scored again.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heliodor.conventions import FloatArray
from heliodor.data.coordinates.picks import Picks
from heliodor.errors import BadInput
from heliodor.picking.contamination import ContaminationMask, add_distances
from heliodor.picking.journal import MicrographResult
from heliodor.picking.micrograph_quality import MicrographMeasurements
from heliodor.utils.files import atomic_write


@dataclass(frozen=True)
class PickingRecord:
    """What picking has to know of a micrograph in addition to its candidates."""

    #: The digest of what the candidates depend on; see `heliodor.picking.run_key`.
    made_with: str
    #: The content of the micrograph's file; see `fingerprint_file`.
    fingerprint: str
    pixel_size_angstrom: float
    #: See `MicrographResult`.
    area_angstrom2: float
    measured: MicrographMeasurements
    #: Candidates with lower scores are not part of a result.
    floor: float
    #: From each candidate to the nearest contamination, shape (n,); None if it is not detected.
    distance_angstrom: FloatArray | None = None
    #: Scores of the decoys; None where none were looked for.
    decoys: FloatArray | None = None


@dataclass(frozen=True)
class Candidates:
    """The candidates of one micrograph by descending score, and figures of the micrograph."""

    #: The number of the model; 0 is the general model.
    model: int
    #: Centers (x, y) in the pixels of the original file, shape (n, 2).
    xy_px: FloatArray
    #: Log-odds, shape (n,).
    score: FloatArray
    #: Whether the center lies where contamination is certain, or the particle would touch a dead
    #: border, shape (n,); nobody is asked about these.
    bad: NDArray[np.bool_]
    #: Features of the network, shape (n, k), with the same k in all files of a project.
    features: NDArray[np.float16]
    #: Figures of the whole micrograph, such as its mean, contrast and fraction of contamination;
    #: the same keys in all files of a project.
    figures: dict[str, float]
    #: The version of the micrograph's file; see `stamp_file`. Empty if it is not known.
    stamp: str = ""
    #: The scores as if nothing were contaminated, shape (n,); None: the same.
    clean_score: FloatArray | None = None
    #: None for models that do not detect contamination.
    contamination: ContaminationMask | None = None
    #: None if picking cannot use the scores.
    record: PickingRecord | None = None
    #: All features of the network's last layer, shape (n, c); None in files of earlier versions.
    all_features: NDArray[np.float16] | None = None
    #: How these differ between some of the candidates and the same, turned by 90 degrees, which is
    #: noise, shape (m, c); see `heliodor.picking.crop_groups`.
    feature_noise: NDArray[np.float16] | None = None

    def __post_init__(self) -> None:
        n = len(self.score)
        if self.xy_px.shape != (n, 2) or self.bad.shape != (n,) or len(self.features) != n:
            raise ValueError("the columns of the candidates differ in length")
        distance = None if self.record is None else self.record.distance_angstrom
        if any(own is not None and own.shape != (n,) for own in (self.clean_score, distance)):
            raise ValueError("the columns of the candidates differ in length")
        whole, noise = self.all_features, self.feature_noise
        if (whole is None) != (noise is None):
            raise ValueError("all features belong with their noise")
        if whole is not None and noise is not None:
            is_table = whole.ndim == noise.ndim == 2 and len(whole) == n
            if not is_table or whole.shape[1] != noise.shape[1]:
                raise ValueError("the features and their noise do not match")
        if self.features.ndim != 2 or not np.issubdtype(self.features.dtype, np.floating):
            raise ValueError("the features are not a table of numbers")
        scores = (self.score, self.without_contamination)
        if not all(np.isfinite(own).all() for own in (self.xy_px, *scores)):
            raise ValueError("a position or a score is not finite")
        if not isinstance(self.figures, dict) or not all(
            type(value) in (int, float) for value in self.figures.values()
        ):
            raise ValueError("the figures of the micrograph are not numbers")

    @property
    def without_contamination(self) -> FloatArray:
        """The scores as if nothing were contaminated, shape (n,)."""
        return self.score if self.clean_score is None else self.clean_score

    def at_least(self, score: float) -> Candidates:
        """Return the candidates at or above a score, as a user sees them: without the record."""
        return self.select(np.flatnonzero(self.score >= score))

    def select(self, chosen: NDArray[np.intp]) -> Candidates:
        """Return some of the candidates, as a user sees them: without the record."""
        return Candidates(
            self.model, self.xy_px[chosen], self.score[chosen], self.bad[chosen],
            self.features[chosen], self.figures, self.stamp,
            self.without_contamination[chosen], self.contamination,
            all_features=None if self.all_features is None else self.all_features[chosen],
            feature_noise=self.feature_noise,
        )  # fmt: skip

    def with_threshold_offset(self, offset: float) -> Candidates:
        """Return the candidates with scores lowered by an offset of the threshold."""
        clean = self.clean_score
        return replace(
            self.select(np.arange(len(self.score))),
            score=self.score - offset,
            clean_score=None if clean is None else clean - offset,
        )

    def in_contamination(
        self, mask: ContaminationMask | None, pixel_size_angstrom: float
    ) -> Candidates:
        """Return the candidates where contamination is what a user says, not what was detected.

        None of them lies in it, and the scores of the others are those without contamination.

        Parameters
        ----------
        mask
            What the user says; None: nothing is contaminated, whatever was detected.
        pixel_size_angstrom
            Of the micrograph.
        """
        clean = self.without_contamination
        order, figures = np.argsort(-clean, kind="stable"), self.figures
        if mask is not None:
            order = order[~mask.contains(self.xy_px[order] * pixel_size_angstrom)]
            figures = {**figures, "bad": mask.fraction}
        return Candidates(
            self.model, self.xy_px[order], clean[order], np.zeros(len(order), dtype=bool),
            self.features[order], figures, self.stamp, contamination=mask or self.contamination,
            all_features=None if self.all_features is None else self.all_features[order],
            feature_noise=self.feature_noise,
        )  # fmt: skip

    def as_result(self, name: str) -> MicrographResult | None:
        """Return the result of picking the micrograph, None if the file lacks it."""
        record = self.record
        if record is None:
            return None
        kept = self.score >= record.floor
        picks = Picks.on(name, self.xy_px[kept], self.score[kept])
        if record.distance_angstrom is not None:
            picks = add_distances(picks, record.distance_angstrom[kept])
        return MicrographResult(
            picks,
            record.pixel_size_angstrom,
            record.decoys,
            record.area_angstrom2,
            record.measured,
            self.contamination,
        )


def write_candidates(path: Path, candidates: Candidates) -> None:
    """Write the candidates of one micrograph atomically."""
    own, record = candidates, candidates.record
    columns: dict[str, Any] = {} if own.clean_score is None else {"clean_score": own.clean_score}
    for name in ("all_features", "feature_noise"):
        if getattr(own, name) is not None:
            columns[name] = getattr(own, name).astype(np.float16)
    details: dict[str, Any] = {}
    if own.contamination is not None:
        details["contamination"] = own.contamination.as_dict()
    if record is not None:
        details["record"] = {
            "made_with": record.made_with,
            "fingerprint": record.fingerprint,
            "pixel_size_angstrom": record.pixel_size_angstrom,
            "area_angstrom2": record.area_angstrom2,
            "measured": list(record.measured),
            "floor": record.floor,
        }
        if record.distance_angstrom is not None:
            columns["distance"] = record.distance_angstrom
        if record.decoys is not None:
            columns["decoys"] = record.decoys
    with atomic_write(path) as aside, aside.open("wb") as stream:
        np.savez(
            stream,
            model=np.int64(own.model),
            xy_px=own.xy_px.astype(np.float64),
            score=own.score.astype(np.float64),
            bad=own.bad,
            features=own.features.astype(np.float16),
            figures=_pack(own.figures),
            details=_pack(details),
            stamp=np.frombuffer(own.stamp.encode(), dtype=np.uint8),
            **columns,
        )


def _pack(value: Any) -> NDArray[np.uint8]:
    return np.frombuffer(json.dumps(value).encode(), dtype=np.uint8)


def read_candidates(path: Path, with_all_features: bool = True) -> Candidates:
    """Read the candidates of one micrograph.

    Parameters
    ----------
    path
        The file.
    with_all_features
        Whether to read `all_features`, most of the file, and their noise.

    Raises
    ------
    BadInput
        If the file was not written by `write_candidates`, or is damaged.
    """
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
            details = json.loads(bytes(stored["details"]))
            columns = {
                name: stored[name].astype(np.float64)
                for name in ("clean_score", "distance", "decoys")
                if name in stored
            }
            whole, noise = (
                stored[name].astype(np.float16) if with_all_features and name in stored else None
                for name in ("all_features", "feature_noise")
            )
            contamination = details.get("contamination")
            return Candidates(
                int(stored["model"]),
                stored["xy_px"].astype(np.float64),
                stored["score"].astype(np.float64),
                stored["bad"].astype(bool),
                stored["features"],
                json.loads(bytes(stored["figures"])),
                bytes(stored["stamp"]).decode("ascii"),
                columns.get("clean_score"),
                None if contamination is None else ContaminationMask.from_dict(contamination),
                _read_record(details.get("record"), columns),
                whole,
                noise,
            )
    except Exception as error:  # NumPy and zipfile raise many types for damaged files
        raise BadInput(
            f"{path} is not a file of candidates ({error}); remove it, and it is written again"
        ) from error


def _read_record(
    values: dict[str, Any] | None, columns: dict[str, FloatArray]
) -> PickingRecord | None:
    if values is None:
        return None
    numbers = [float(values[key]) for key in ("pixel_size_angstrom", "area_angstrom2", "floor")]
    if not np.isfinite(numbers).all() or numbers[0] <= 0 or numbers[1] < 0:
        raise ValueError("impossible values")
    return PickingRecord(
        str(values["made_with"]),
        str(values["fingerprint"]),
        numbers[0],
        numbers[1],
        MicrographMeasurements(
            *(None if own is None else float(own) for own in values["measured"])
        ),
        numbers[2],
        columns.get("distance"),
        columns.get("decoys"),
    )
