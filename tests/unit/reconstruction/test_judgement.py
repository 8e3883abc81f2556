from __future__ import annotations

import json
import math

import numpy as np
import pytest

from heliodor.reconstruction.judgement import (
    BinJudgement,
    Judgement,
    MapJudgement,
    SetJudgement,
    find_junk_below,
    find_worse_below,
    join_bins,
    recommend_by_classes,
    recommend_by_maps,
)
from heliodor.reconstruction.judgement_tables import (
    as_dict,
    describe_junk,
    render_bins,
    render_judgement,
    render_sets,
)
from heliodor.reconstruction.junk import Share
from heliodor.workflows.run_record import as_json

INF, NAN = math.inf, math.nan


def bins(*rows: tuple[float, int, float]) -> list[BinJudgement]:
    """Return bins from their lower limits, numbers of picks, and shares of false picks."""
    highs = [INF, *(low for low, _, _ in rows)]
    return [
        BinJudgement(low, high, picks, Share(false, 0.01), None, false)
        for (low, picks, false), high in zip(rows, highs, strict=False)
    ]


def sets(*rows: tuple[float, int, list[float] | None]) -> list[SetJudgement]:
    """Return sets from their thresholds, numbers of picks, and areas of the splits."""
    return [
        SetJudgement(
            threshold, picks, 0.1,
            None if area is None
            else MapJudgement(np.full(len(area), 9.0), np.array(area), 4.0, False),
        )
        for threshold, picks, area in rows
    ]  # fmt: skip


FALLING = bins((3, 100, 0.0), (2, 100, 0.1), (1, 100, 0.5), (0, 100, 0.9), (-1, 200, 1.0))


def test_sets_add_up_their_bins() -> None:
    found = join_bins(FALLING)
    assert [one.picks for one in found] == [100, 200, 300, 400, 600]
    assert [one.false_share * one.picks for one in found] == pytest.approx([0, 10, 60, 150, 350])
    empty = join_bins(bins((2, 0, NAN), (1, 10, 0.5)))
    assert math.isnan(empty[0].false_share)
    assert empty[1].false_share == 0.5


def test_the_classes_recommend_the_threshold_with_the_highest_f1() -> None:
    chosen = recommend_by_classes(join_bins(FALLING))
    # F1 with 250 particles in all: 200/350, 380/450, 480/550, 500/650, 500/850.
    assert chosen.threshold == 1
    assert "0.87" in chosen.reason


def test_the_maps_recommend_the_highest_threshold_within_the_scatter() -> None:
    near = sets((2, 100, [0.04, 0.041]), (1, 200, [0.0595, 0.0605]), (0, 300, [0.06, 0.061]))
    assert recommend_by_maps(near).threshold == 1
    far = sets((2, 100, [0.04, 0.041]), (1, 200, [0.05, 0.051]), (0, 300, [0.06, 0.061]))
    assert recommend_by_maps(far).threshold == 0
    skipped = sets((2, 100, None), (1, 200, [0.06, 0.061]), (0, 300, None))
    assert recommend_by_maps(skipped).threshold == 1


def test_thresholds_below_which_picks_do_harm_are_found() -> None:
    assert find_junk_below(FALLING) == 1
    assert find_junk_below(FALLING[:3]) is None
    assert find_junk_below(bins((1, 50, 0.9))) == INF
    assert describe_junk(INF) == "most of the picks are false, even those with the highest scores"
    assert describe_junk(1.0) == "below 1.000, most of the added picks are false"
    worse = sets((2, 100, [0.05, 0.051]), (1, 200, [0.06, 0.061]), (0, 300, [0.05, 0.051]))
    assert find_worse_below(worse) == 1
    assert find_worse_below(worse[:2]) is None
    assert find_worse_below(worse[:1]) is None


def judgement(with_scores: bool = True) -> Judgement:
    own = FALLING[:2] if with_scores else bins((NAN, 100, 0.2))
    joined = join_bins(own)
    maps = MapJudgement(np.array([8.9, 9.1]), np.array([0.06, 0.061]), 4.2, True)
    joined[-1] = SetJudgement(joined[-1].threshold, joined[-1].picks, 0.05, maps)
    by = recommend_by_maps(joined) if with_scores else None
    return Judgement(tuple(own), tuple(joined), None, by, None, None, 3, False)


@pytest.mark.parametrize("with_scores", [True, False])
def test_tables_have_a_row_for_each_set_and_bin(with_scores: bool) -> None:
    found = judgement(with_scores)
    number = len(found.sets)
    for text in (render_sets(found), render_bins(found)):
        rows = [line.split("\t") for line in text.splitlines()]
        assert len(rows) == number + 1
        assert len({len(row) for row in rows}) == 1
    last = render_sets(found).splitlines()[-1].split("\t")
    assert last[3:5] == ["9.00", "0.14"]
    said = render_judgement(found)
    assert "9.00 ± 0.14" in said
    assert "pixel size" in said
    assert ("--threshold 2.000" in said) == with_scores
    parsed = json.loads(json.dumps(as_json(as_dict(found)), allow_nan=False))
    assert parsed["sets"][-1]["maps"]["area"] == [0.06, 0.061]
    assert parsed["bins"][0]["high"] is None
