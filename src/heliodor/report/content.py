"""What a report shows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from heliodor.conventions import FloatArray, Image
    from heliodor.picking.contamination import ContaminationMask
    from heliodor.picking.micrograph_quality import MicrographQuality
    from heliodor.report.calibration_section import CalibrationSummary


@dataclass(frozen=True)
class GalleryItem:
    """A micrograph to be pictured.

    Attributes
    ----------
    name
        The micrograph's identity (path).
    image
        (h, w), protein dark.
    pixel_size_angstrom
        Of `image`.
    picks_xy_px
        (n, 2), in pixels of `image`; the centre of pixel 0 is 0.0, as for all coordinates here.
    picks_score
        (n,) log-odds.
    labels_xy_px
        (m, 2), the user's labels on it, if any were given.
    truth_xy_px
        (t, 2), if truth was given.
    picks_matched, truth_matched
        (n,) and (t,): has it a partner in the one-to-one matching of picks and truth?
    bad_areas
        Of the micrograph, where the model finds them.
    """

    name: str
    image: Image
    pixel_size_angstrom: float
    picks_xy_px: FloatArray
    picks_score: FloatArray
    labels_xy_px: FloatArray | None
    truth_xy_px: FloatArray | None
    picks_matched: NDArray[np.bool_] | None
    truth_matched: NDArray[np.bool_] | None
    bad_areas: ContaminationMask | None = None


@dataclass(frozen=True)
class EvaluationCurves:
    """How the picks agree with the truth.

    Attributes
    ----------
    threshold
        Descending, log-odds; `precision`, `recall` and `f1` belong to it.
    at_threshold
        Precision, recall and F1 at the threshold in use, if there is one.
    match_distance_angstrom
        A pick and a true particle at most this far apart may be matched.
    rows
        Micrograph, picks, truth, true positives, precision, recall, F1, average precision.
    """

    threshold: FloatArray
    precision: FloatArray
    recall: FloatArray
    f1: FloatArray
    average_precision: float
    best_f1: float
    best_f1_threshold: float
    at_threshold: tuple[float, float, float] | None
    match_distance_angstrom: float
    rows: Sequence[tuple[str, int, int, int, float, float, float, float]]


@dataclass(frozen=True)
class ReportContent:
    """All that a report shows.

    Attributes
    ----------
    key_figures
        The big figures: ("Picks", "2,314"), ("Particle AP", "0.83").
    settings
        What was run, by name.
    command
        The command line, or an empty string.
    warnings
        Sentences the user should read.
    skipped
        Micrographs that could not be used: name and reason.
    history
        One mapping per epoch: epoch, update, seconds, learning_rate, loss, positive_loss,
        unlabelled_term, mean_probability (over unlabelled regions), validation_ap; nan for none.
    expected_fraction
        π, the fraction of unlabelled regions expected to be particles.
    scores
        Log-odds of all candidates, kept or not, shape (n,).
    threshold
        The score from which candidates were kept.
    picks_per_micrograph
        Micrograph and number of picks kept.
    stage_seconds
        Per stage.
    quality
        A row for each micrograph; see `quality`.
    candidates
        How many there are of each score, shape (n,); None: one.
    calibration
        What to expect of the picks; None where their scores are not calibrated.
    """

    title: str
    key_figures: Sequence[tuple[str, str]]
    settings: Sequence[tuple[str, str]]
    command: str
    warnings: Sequence[str]
    skipped: Sequence[tuple[str, str]]
    diameter_angstrom: float
    history: Sequence[Mapping[str, float]]
    expected_fraction: float | None
    best_epoch: int | None
    scores: FloatArray
    threshold: float | None
    picks_per_micrograph: Sequence[tuple[str, int]]
    evaluation: EvaluationCurves | None
    gallery: Sequence[GalleryItem]
    stage_seconds: Sequence[tuple[str, float]]
    quality: Sequence[MicrographQuality] = ()
    candidates: NDArray[np.integer[Any]] | None = None
    calibration: CalibrationSummary | None = None
