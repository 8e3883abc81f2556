from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from heliodor.data.coordinates.picks import Picks
from heliodor.data.micrographs.sources import Source, find_sources
from heliodor.data.micrographs.working_images import WorkingImages
from heliodor.errors import BadInput
from heliodor.workflows import ground_truth
from heliodor.workflows.evaluate import (
    evaluate_files,
    evaluation_as_dict,
    threshold_of_selection,
)
from heliodor.workflows.ground_truth import (
    GroundTruth,
    choose_pixel_sizes,
    evaluate_regions,
    sources_from_names,
)
from helpers import networks

SIDE = 96


def picks_of(sizes: dict[str, float | None]) -> Picks:
    """One pick on each micrograph, with its pixel size."""
    extra = {"pixel_size_angstrom": np.array(list(sizes.values()), dtype=object)}
    xy = np.full((len(sizes), 2), 40.0)
    return Picks.from_columns(list(sizes), xy, np.zeros(len(sizes)), extra)


def truth_of(sizes: dict[str, float | None]) -> GroundTruth:
    return GroundTruth.of(picks_of(sizes), sources_from_names(list(sizes)))


# Pixel sizes


@pytest.mark.parametrize(("picks", "truth"), [(4.0, 8.0), (8.0, 4.0), (1.0, 1.16), (1.16, 1.0)])
def test_picks_and_truth_of_different_binning_are_refused(picks: float, truth: float) -> None:
    own = {"M/a.mrc": 1.0, "M/b.mrc": picks}
    with pytest.raises(BadInput, match="different binning; scale one of them") as caught:
        choose_pixel_sizes(
            picks_of(own), truth_of({**own, "M/b.mrc": truth}), sources_from_names([*own]), None
        )
    said = f"the picks have {picks:g} Å/pixel on M/b.mrc, the ground truth {truth:g}"
    assert said in str(caught.value)


@pytest.mark.parametrize("truth", [1.0, 1.019, 0.981, None])
def test_calibrations_may_differ_a_little(truth: float | None) -> None:
    sizes = choose_pixel_sizes(
        picks_of({"a": 1.0}), truth_of({"a": truth}), sources_from_names(["a"]), None
    )
    assert sizes == {"a": 1.0}


@pytest.mark.parametrize(("picks", "truth"), [(1.0, 1.021), (4.24, 4.0), (1.0, 1.14)])
def test_a_recalibration_is_mentioned(picks: float, truth: float, capsys) -> None:
    names = ["a", "b", "c"]
    given, other = dict.fromkeys(names, picks), {"a": truth, "b": truth, "c": picks}
    sizes = choose_pixel_sizes(picks_of(given), truth_of(other), sources_from_names(names), None)
    assert sizes == given
    assert capsys.readouterr().err == (
        f"note: the picks have {picks:g} Å/pixel on a, the ground truth {truth:g} (and 1 more"
        " micrographs): distances are measured with the first\n"
    )


def test_the_header_gives_the_pixel_size_that_no_table_has(tmp_path: Path) -> None:
    image = np.zeros((SIDE, SIDE), np.float32)
    paths = [networks.write_mrc(tmp_path / f"{name}.mrc", image, 2.5).path for name in "ab"]
    names = [str(path) for path in paths]
    none = dict.fromkeys(names)
    sources = sources_from_names(names)
    found = choose_pixel_sizes(picks_of(none), truth_of(none), sources, None)
    assert found == dict.fromkeys(names, 2.5)
    paths[1].unlink()
    for sizes in ({names[0]: 2.5}, {}):  # one is known, and is the same for all
        table = truth_of(none | sizes)
        assert set(choose_pixel_sizes(picks_of(none), table, sources, None).values()) == {2.5}
    paths[0].unlink()
    with pytest.raises(BadInput, match="has none in its header, or was not found; give --pixel"):
        choose_pixel_sizes(picks_of(none), truth_of(none), sources, None)


def test_which_pixel_size_is_in_force() -> None:
    """The one given, else the tables', else that of the micrographs' STAR file."""
    names = ["a", "b", "c"]
    sources = [Source(name, Path(name), name, 5.0) for name in names]
    picks = picks_of({"a": 1.0, "b": None, "c": None})
    truth = truth_of({"a": 1.01, "b": 2.0, "c": None})
    assert choose_pixel_sizes(picks, truth, sources, None) == {"a": 1.0, "b": 2.0, "c": 5.0}
    # Whoever gives it knows better than tables that contradict each other.
    for table in (truth, truth_of(dict.fromkeys(names, 9.0))):
        assert choose_pixel_sizes(picks, table, sources, 3.0) == dict.fromkeys(names, 3.0)


# Regions


def test_a_micrograph_that_cannot_be_normalised_spoils_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    xy = np.array([[30.0, 40.0], [60.0, 50.0]])
    for name in ("a", "b"):
        networks.write_mrc(tmp_path / f"{name}.mrc", networks.discs((SIDE, SIDE), xy), 6.0)
    sources = find_sources(tmp_path)
    names = [source.name for source in sources]
    truth = GroundTruth(dict.fromkeys(names, xy), 0)
    model = networks.model(working_pixel_size_angstrom=6.0, diameter_angstrom=120.0)
    expected, failures = evaluate_regions(model, sources[:1], truth, WorkingImages(6.0))
    assert not failures
    real = ground_truth.score_micrograph

    def fail(model, image, device="cpu"):
        if image.source.name in broken:
            raise BadInput("its mixture cannot be fitted")
        return real(model, image, device)

    monkeypatch.setattr(ground_truth, "score_micrograph", fail)
    broken = names[1:]
    found, failures = evaluate_regions(model, sources, truth, WorkingImages(6.0))
    assert found == expected
    assert [(f.name, f.reason) for f in failures] == [(names[1], "its mixture cannot be fitted")]
    broken = names
    with pytest.raises(BadInput, match="no micrograph could be scored: its mixture"):
        evaluate_regions(model, sources, truth, WorkingImages(6.0))


# Selected candidates


def test_the_threshold_that_a_table_was_selected_with() -> None:
    table = Picks.on("a", np.ones((4, 2)), np.array([3.0, 1.0, 0.5, -2.0]))
    assert threshold_of_selection(table) is None

    def of(*marks: object) -> float | None:
        return threshold_of_selection(
            replace(table, extra={"selected": np.array(marks, dtype=object)})
        )

    assert of("1", "1", "0", "0") == 1.0
    assert of("1", "", None, "0") == 0.5  # only 0 says that a candidate is no pick
    assert of("0", "0", "0", "0") == math.inf


def test_without_scores_only_what_is_selected_is_judged(tmp_path: Path) -> None:
    picks, truth = tmp_path / "picks.csv", tmp_path / "truth.csv"
    picks.write_text("name,x,y,selected\na,10,10,1\na,90,90,0\n")
    truth.write_text("name,x,y\na,11,10\n")
    result, region_ap, _ = evaluate_files(picks, truth, 10.0, pixel_size_angstrom=2.0)
    assert (result.n_picks, result.micro.precision) == (1, 1.0)
    assert "curve" not in evaluation_as_dict(result, region_ap)
