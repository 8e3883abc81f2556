"""Contents of reports, and the candidates of micrographs that a report is about."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from heliodor.data.coordinates.picks import Picks
from heliodor.report.content import GalleryItem, ReportContent


def gallery_item(shape=(60, 80), picks=((20.0, 10.0),), **given) -> GalleryItem:
    rng = np.random.default_rng(3)
    xy = np.array(picks, dtype=np.float64).reshape(-1, 2)
    values = {
        "name": "mic.mrc",
        "image": rng.normal(size=shape).astype(np.float32),
        "pixel_size_angstrom": 5.0,
        "picks_xy_px": xy,
        "picks_score": np.linspace(1.0, 2.0, len(xy)),
        "labels_xy_px": None,
        "truth_xy_px": None,
        "picks_matched": None,
        "truth_matched": None,
    }
    return GalleryItem(**{**values, **given})


def minimal_report(**given) -> ReportContent:
    values = {
        "title": "Picks",
        "key_figures": [],
        "settings": [],
        "command": "",
        "warnings": [],
        "skipped": [],
        "diameter_angstrom": 50.0,
        "history": [],
        "expected_fraction": None,
        "best_epoch": None,
        "scores": np.empty(0),
        "threshold": None,
        "picks_per_micrograph": [],
        "evaluation": None,
        "gallery": [],
        "stage_seconds": [],
    }
    return ReportContent(**{**values, **given})


def candidate_tables(scores: Sequence[Sequence[float]]) -> list[tuple[str, Picks]]:
    """Candidates of micrographs m00, m01, ... with the given scores."""
    names = [f"m{i:02d}.mrc" for i in range(len(scores))]
    return [
        (name, Picks.on(name, np.zeros((len(own), 2)), np.array(own, dtype=np.float64)))
        for name, own in zip(names, scores, strict=True)
    ]
