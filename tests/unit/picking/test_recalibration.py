"""Without labels, scores are made comparable between micrographs of different contrast."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from heliodor.data.coordinates.picks import Picks
from heliodor.data.micrographs.sources import Source
from heliodor.models.model_file import ADAPTED_KEY, Model
from heliodor.models.pretrained import load_model_for_picking
from heliodor.picking.batch import InMemoryStore, PickingResult, count_scores
from heliodor.picking.journal import MicrographResult
from heliodor.picking.micrograph_quality import MicrographMeasurements
from heliodor.picking.recalibration import calibrate_picks, level_scores_between
from heliodor.picking.settings import PickSettings

DIAMETER, AREA = 100.0, 6e6
PARTICLES, LOOKALIKES = 200, 120


def make_picked(
    contrasts: list[float], searched: int | None = None
) -> tuple[PickingResult, dict[str, np.ndarray]]:
    """Return the results of micrographs on which all scores of particles follow the contrast.

    So do those of what looks like particles; which candidates are particles is returned too.
    """
    store, names, truth = InMemoryStore(), list[str](), dict[str, np.ndarray]()
    for index, contrast in enumerate(contrasts):
        random = np.random.default_rng(index)
        score = np.concatenate(
            [
                random.normal(3 * contrast, 0.8, PARTICLES),
                random.normal(2 * contrast - 1.6, 0.5, LOOKALIKES),
                random.normal(-3.5, 0.8, 600),
            ]
        )
        decoys = np.concatenate(
            [
                random.normal(2 * contrast - 1.6, 0.5, LOOKALIKES),
                random.normal(-3.5, 0.8, 700),
            ]
        )
        order = np.argsort(-score)
        name = f"m{index:02d}.mrc"
        picks = Picks.on(name, random.uniform(0, 2400, (len(score), 2)), score[order])
        truth[name] = order < PARTICLES
        store.add(
            Source(name, Path(name), Path(name).stem),
            MicrographResult(picks, 1.0, decoys, AREA, MicrographMeasurements(None)),
        )
        names.append(name)
    sheet = count_scores(store, names, names[:searched])
    return PickingResult(tuple(names), [], 0.0, sheet, store), truth


def f1(picked: PickingResult, truth: dict[str, np.ndarray], threshold: float) -> float:
    chosen = {name: own.score >= threshold for name, own in picked.tables()}
    true = sum((chosen[name] & own).sum() for name, own in truth.items())
    return float(2 * true / (sum(own.sum() for own in chosen.values()) + PARTICLES * len(truth)))


def best_f1(picked: PickingResult, truth: dict[str, np.ndarray]) -> float:
    return max(f1(picked, truth, threshold) for threshold in np.arange(-2, 4, 0.1))


CONTRASTS = [0.6, 0.75, 0.9, 1.0, 1.1, 1.25, 1.4, 1.6]
MIXED = [0.6, 1.6, 0.75, 1.4, 1.0, 0.9, 1.25, 1.1]


def test_one_threshold_suits_micrographs_of_different_contrast() -> None:
    picked, truth = make_picked(CONTRASTS)
    leveled = level_scores_between(picked, DIAMETER)
    assert best_f1(leveled, truth) > best_f1(picked, truth) + 0.01
    levels = [leveled.store.get(name).measured.levelled_by or 0.0 for name in leveled.micrographs]
    assert levels == sorted(levels, reverse=True)
    assert levels[0] > 0.1 > -0.1 > levels[-1]


def test_all_that_is_counted_is_moved() -> None:
    picked, _ = make_picked(MIXED, searched=6)
    leveled = level_scores_between(picked, DIAMETER)
    assert leveled.sheet.searched == picked.sheet.searched
    for name, own in leveled.tables():
        before, level = picked.store.get(name), leveled.store.get(name).measured.levelled_by
        assert level is not None
        np.testing.assert_allclose(own.score, before.candidates.score + level, atol=1e-12)
        moved = leveled.store.get(name).decoys
        assert before.decoys is not None
        assert moved is not None
        np.testing.assert_allclose(moved, before.decoys + level, atol=1e-12)
    together = np.concatenate([own.score for _, own in leveled.tables()])
    np.testing.assert_array_equal(
        leveled.sheet.candidates.count_above(np.arange(-4.0, 5.0)),
        [(together >= edge).sum() for edge in np.arange(-4.0, 5.0)],
    )


@pytest.mark.parametrize("contrasts", [[1.0], [0.7, 0.9, 1.1, 1.3], [1.0] * 6], ids=str)
def test_where_nothing_is_known_nothing_is_moved_far(contrasts: list[float]) -> None:
    picked, _ = make_picked(contrasts)
    leveled = level_scores_between(picked, DIAMETER)
    if len(contrasts) < 5:
        assert leveled is picked
    for name in picked.micrographs:
        assert abs(leveled.store.get(name).measured.levelled_by or 0.0) < 0.15


def test_the_page_of_the_app_keeps_its_scores() -> None:
    model, settings = load_model_for_picking(None, DIAMETER), PickSettings()
    picked, _ = make_picked(CONTRASTS)
    as_they_are = calibrate_picks(model, picked, settings, level=False)
    assert as_they_are.store is picked.store
    assert calibrate_picks(model, picked, settings).store is not picked.store


def test_scores_of_an_adapted_model_stay() -> None:
    model = load_model_for_picking(None, DIAMETER)
    adapted = Model(
        model.network, replace(model.card, extra={**model.card.extra, ADAPTED_KEY: {}})
    )
    picked, _ = make_picked(CONTRASTS)
    calibrated = calibrate_picks(adapted, picked, PickSettings())
    assert calibrated.calibration is not None
    assert calibrated.store is picked.store
