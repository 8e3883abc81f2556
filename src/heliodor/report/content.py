"""The content of a report, before it is laid out."""

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
    """A micrograph of which images are drawn.

    Attributes
    ----------
    name
        The micrograph's identity (path).
    image
        Shape (h, w), protein dark.
    pixel_size_angstrom
        Of `image`.
    picks_xy_px
        Shape (n, 2), in pixels of `image`; the center of pixel 0 is 0.0, as for all coordinates
        here.
    picks_score
        Log-odds, shape (n,).
    labels_xy_px
        The user's labels on it, if any, shape (m, 2).
    truth_xy_px
        The truth, if any, shape (t, 2).
    picks_matched, truth_matched
        Whether each pick, and each true particle, has a partner in the one-to-one matching of
        picks and truth; shapes (n,) and (t,).
    contamination
        Of the micrograph, if the model detects it.
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
    contamination: ContaminationMask | None = None
    #: Of the picks, shape (n,); None where scores are not calibrated.
    picks_probability: FloatArray | None = None


@dataclass(frozen=True)
class EvaluationCurves:
    """How the picks agree with the truth.

    Attributes
    ----------
    threshold
        Descending, log-odds; `precision`, `recall` and `f1` belong to it.
    average_precision
        Of picks.
    at_threshold
        Precision, recall and F1 at the threshold in use, if there is one.
    match_distance_angstrom
        A pick and a true particle at most this far apart may be matched.
    rows
        Micrograph, picks, truth, true positives, precision, recall, F1, average precision.
    region_average_precision
        Of the score maps' regions, if it was measured.
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
    region_average_precision: float | None = None


@dataclass(frozen=True)
class ReportContent:
    """All that a report shows.

    Attributes
    ----------
    title
        Names the data set.
    key_figures
        The most important results: ("Picks", "2,314"), ("Estimated recall", "83%").
    settings
        Names and values.
    command
        The command line, or an empty string.
    warnings
        Sentences the user should read.
    skipped
        Micrographs that could not be used: name and reason.
    history
        One mapping per epoch: epoch, update, seconds, learning_rate, loss, positive_loss,
        unlabelled_term, mean_probability (over unlabeled regions), validation_ap; nan for none.
    expected_fraction
        Class prior π, the fraction of unlabeled regions that are particles, where the objective
        brings the mean probability to it; otherwise None.
    best_epoch
        The epoch whose weights were kept.
    scores
        Log-odds of all candidates, above the threshold or not, shape (n,).
    threshold
        The score from which on candidates are picks.
    picks_per_micrograph
        Micrograph and number of its picks.
    stage_seconds
        Duration of each stage.
    quality
        A row for each micrograph; see `micrograph_quality`.
    score_counts
        Number of candidates of each score, shape (n,); None: one.
    calibration
        Expected quality of the picks; None where their scores are not calibrated.
    overview
        Data set, model, pixel size and diameter, for the top of the report.
    started
        When the run started, ISO 8601; empty if not known.
    outliers
        Some of the outlier micrographs, of which small images are drawn.
    defocus
        Defocus in micrometers and number of picks of each micrograph whose list gives it.
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
    score_counts: NDArray[np.integer[Any]] | None = None
    calibration: CalibrationSummary | None = None
    overview: Sequence[tuple[str, str]] = ()
    started: str = ""
    outliers: Sequence[GalleryItem] = ()
    defocus: Sequence[tuple[float, int]] = ()
