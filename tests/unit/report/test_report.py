"""The report: complete, self-contained, escaped, and its pictures right side up."""

from __future__ import annotations

import base64
import functools
import importlib.resources
import io
import re
import subprocess
import sys
from html.parser import HTMLParser
from itertools import pairwise
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image as Pillow

from heliodor import __version__
from heliodor.errors import BadInput
from heliodor.evaluation.thresholds import ExpectedPerformance, IntervalEstimate
from heliodor.picking.micrograph_quality import assess_micrographs
from heliodor.report import gallery, plots
from heliodor.report.calibration_section import CalibrationSummary, Reliability
from heliodor.report.content import EvaluationCurves, ReportContent
from heliodor.report.report import render_report, write_report
from helpers.reports import candidate_tables, gallery_item, minimal_report

VOID = {"meta", "img", "br", "hr", "link", "input", "wbr"}
NASTY = "a <b> & \"c\" 'd'/../mic<script>alert(1)</script>.mrc"
CYAN, ORANGE, YELLOW, PINK = (53, 214, 245), (255, 138, 43), (255, 228, 92), (255, 122, 217)


def curves(count=40, **given) -> EvaluationCurves:
    recall = np.linspace(0.02, 0.9, count)
    precision = np.linspace(1.0, 0.6, count)
    values = {
        "threshold": np.linspace(6.0, -3.0, count),
        "precision": precision,
        "recall": recall,
        "f1": 2 * precision * recall / (precision + recall),
        "average_precision": 0.77,
        "best_f1": 0.71,
        "best_f1_threshold": -2.0,
        "at_threshold": (0.8, 0.6, 0.69),
        "match_distance_angstrom": 25.0,
        "rows": [("mic.mrc", 1, 2, 1, 1.0, 0.5, 0.667, float("nan"))],
    }
    return EvaluationCurves(**{**values, **given})


def full(**given) -> ReportContent:
    rng = np.random.default_rng(0)
    epochs = [
        {
            "epoch": float(n),
            "loss": 1.0 / n,
            "positive_loss": 0.5 / n,
            "unlabelled_term": 0.5 / n,
            "mean_probability": 0.1 / n,
            "validation_ap": float("nan") if n == 2 else 0.5,
        }
        for n in range(1, 6)
    ]
    pictured = gallery_item(
        labels_xy_px=np.array([[30.0, 30.0]]),
        truth_xy_px=np.array([[20.5, 10.0], [60.0, 40.0]]),
        picks_matched=np.array([True]),
        truth_matched=np.array([True, False]),
    )
    values = {
        "key_figures": [("Picks", "1")],
        "settings": [("Network", "conv31")],
        "command": "heliodor run 'a & b'",
        "warnings": ["Only 3 labels were given."],
        "skipped": [("broken.mrc", "the file ends before its data")],
        "history": epochs,
        "expected_fraction": 0.03,
        "best_epoch": 3,
        "scores": rng.normal(size=500),
        "threshold": 0.4,
        "picks_per_micrograph": [("mic.mrc", 1)],
        "evaluation": curves(),
        "gallery": [pictured],
        "stage_seconds": [("Training", 61.0), ("Picking", 4000.0)],
    }
    return minimal_report(**{**values, **given})


class Checker(HTMLParser):
    """Fail on unbalanced tags; keep the text and every address."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.tags: list[str] = []
        self.text = ""

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href", "action")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def parsed(html: str) -> Checker:
    checker = Checker()
    checker.feed(html)
    checker.close()
    assert not checker.open
    assert all(address.startswith("data:image/") for address in checker.addresses)
    assert not re.search(r"@import|url\(", html)
    assert not {"script", "link", "iframe", "object"} & set(checker.tags)
    return checker


def many(count: int) -> list[tuple[str, int]]:
    return [(f"mic_{n:05d}.mrc", n % 400) for n in range(count)]


def sure(scores: np.ndarray, truth: bool = True) -> CalibrationSummary:
    around = IntervalEstimate(0.8, 0.7, 0.9)
    unknown = IntervalEstimate(0.5, float("nan"), float("nan"))

    def expected(threshold: float) -> ExpectedPerformance:
        return ExpectedPerformance(
            threshold, 100, IntervalEstimate(123.0, 99.0, 150.0), around, unknown, around
        )

    groups = np.array([0.1, 0.9])
    return CalibrationSummary(
        expected(0.4),
        [expected(at) for at in (2.0, 1.0, 0.0)],
        1 / (1 + np.exp(0.5 - scores)),
        Reliability(groups, groups + 0.05, np.array([30.0, 70.0])) if truth else None,
        (0.81, 0.72, float("nan")) if truth else None,
    )


NORMAL = np.random.default_rng(0).normal(size=500)
MINUS = -np.inf


def part(scores=NORMAL, threshold=0.4, **given) -> ReportContent:
    """Scores and one section beside them; all sections together are `full`."""
    return minimal_report(scores=scores, threshold=threshold, **given)


CASES = {
    "calibrated": full(scores=NORMAL, calibration=sure(NORMAL)),
    "calibrated, no truth": part(calibration=sure(NORMAL, False), gallery=[gallery_item()]),
    "calibrated, one candidate": part(
        np.ones(1), calibration=sure(np.ones(1)), evaluation=curves()
    ),
    "calibrated, no candidates": part(
        np.zeros(0), calibration=sure(np.zeros(0)), evaluation=curves()
    ),
    "full": full(),
    "minimal": minimal_report(),
    "no truth": full(evaluation=None, gallery=[gallery_item()]),
    "existing model": part(evaluation=curves(), gallery=[gallery_item()]),
    "one epoch": minimal_report(history=[{"epoch": 1.0, "loss": 0.3}]),
    "no validation": minimal_report(
        history=[{"epoch": 1.0, "loss": 0.3, "validation_ap": float("nan")}] * 2
    ),
    "nan scores": part(np.array([np.nan, MINUS, 1.0])),
    "only nan scores": part(np.full(3, np.nan)),
    "equal scores": part(np.full(30, 2.0)),
    "threshold above all": part(threshold=50.0),
    "nan threshold": part(threshold=float("nan")),
    "no picks": part(gallery=[gallery_item(picks=())], picks_per_micrograph=[("mic.mrc", 0)]),
    "many micrographs": minimal_report(picks_per_micrograph=many(5000)),
    "equal counts": minimal_report(picks_per_micrograph=[(str(n), 7) for n in range(20)]),
    "many failures": minimal_report(skipped=[("x" * 300, "no reason")] * 500),
    "empty curves": part(
        evaluation=curves(
            0,
            average_precision=float("nan"),
            best_f1=float("nan"),
            best_f1_threshold=float("nan"),
            at_threshold=None,
            rows=[],
        )
    ),
    "infinite threshold in the curves": part(
        evaluation=curves(3, threshold=np.array([np.inf, 0.0, MINUS]))
    ),
}


@functools.cache
def full_page() -> str:
    return render_report(full())


@pytest.mark.parametrize("content", CASES.values(), ids=CASES.keys())
def test_it_renders_well_formed_and_self_contained(content):
    html = full_page() if content is CASES["full"] else render_report(content)
    assert html.startswith("<!DOCTYPE html>")
    assert "nan" not in parsed(html).text.lower().split()


def test_it_says_what_was_given():
    text = parsed(full_page()).text
    for words in (
        "conv31",
        "heliodor run 'a & b'",
        "Only 3 labels were given.",
        "the file ends before its data",
        "precision is a lower bound",
        "0.770",
        "1 min 01 s",
        "1 h 07 min",
    ):
        assert words in text


def test_it_says_what_to_expect_of_the_picks():
    text = parsed(render_report(CASES["calibrated"])).text
    for words in (
        "0.80 (0.70 to 0.90); measured 0.81",
        "0.50; measured 0.72",
        "123 (99 to 150)",
        "Mean deviation: 0.050",
        "Probabilities are calibrated",
    ):
        assert words in text
    kept = 1 / (1 + np.exp(0.5 - NORMAL[NORMAL >= 0.4]))
    assert f"Lowest probability of a pick{kept.min():.2f}" in text
    text = parsed(full_page()).text
    assert "the probability of a pick is not known" in text
    assert "Lowest probability" not in text
    assert "Expected precision and recall" not in text


def test_it_says_what_it_is_about():
    about = {
        "title": "Particle picks: grid/test.star",
        "overview": [("Micrographs", "grid/test.star"), ("Pixel size", "1.05 Å")],
        "started": "2026-01-02T03:04:05+01:00",
    }
    html = render_report(minimal_report(**about))
    text = parsed(html).text
    assert "<title>Particle picks: grid/test.star</title>" in html
    for words in (
        "2026-01-02 03:04",
        f"heliodor {__version__}",
        "1.05 Å",
        "autopick.star",
        "doi:",
    ):
        assert words in text
    assert "Date" not in parsed(render_report(minimal_report())).text


def test_training_curves_are_folded_and_raise_no_alarm():
    html = full_page()
    _, training = html.split("<summary><h2>Training curves</h2></summary>")
    assert "not calibrated. The objective drives it toward the class prior π." in training
    epochs = full().history
    assert "class prior" not in render_report(minimal_report(history=epochs)).lower()
    assert (
        "class prior"
        in render_report(minimal_report(history=epochs, expected_fraction=0.1)).lower()
    )


def test_an_image_comes_first_and_details_are_folded():
    calibrated = full(
        scores=NORMAL,
        calibration=sure(NORMAL),
        key_figures=[("Picks that are particles (estimated)", "80%")],
    )
    html = render_report(calibrated)
    figures, image = html.index("Picks that are particles"), html.index("<img")
    assert html.index("<h1>") < image < figures < html.index("<h2>")
    folded = html[html.index("<details><summary><h2>") :]
    for heading in ("Scores and threshold", "Settings and run time", "Training curves"):
        assert heading in folded
    for words in ("log-odds", "conv31", "Working pixel size", "Epoch"):
        assert words not in html[: html.index("<details><summary><h2>")]


def test_picks_against_defocus_and_outliers_are_shown_where_they_are_known():
    assert "against the defocus" not in full_page()
    rows = assess_micrographs(candidate_tables([[2.0] * 100] * 10 + [[2.0]]), 0.0, {})
    html = render_report(
        full(
            defocus=[(1.0 + 0.1 * n, 100 + n) for n in range(11)],
            quality=rows,
            outliers=[gallery_item(name="m10.mrc")],
        )
    )
    assert "Number of picks against the defocus" in html
    assert "The outlier m10.mrc" in html
    assert "1 pick (median 100)" in html


def test_a_long_name_breaks_after_slashes_and_underscores():
    html = render_report(minimal_report(picks_per_micrograph=[("a/b_1.mrc", 1)]))
    assert "<td>a/<wbr>b_<wbr>1.mrc</td>" in html


def test_the_templates_are_part_of_the_package():
    folder = importlib.resources.files("heliodor.report") / "templates"
    for name in ("report.html.j2", "section.html.j2", "report.css"):
        assert (folder / name).is_file()


@pytest.mark.slow
@pytest.mark.parametrize("module", ["heliodor.cli.main", "heliodor.workflows.run"])
def test_the_template_library_is_loaded_only_for_a_report(module):
    code = f"import sys, {module}; sys.exit('jinja2' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_sections_without_content_are_left_out():
    text = parsed(render_report(minimal_report())).text
    for heading in ("Training", "Agreement", "Settings", "Skipped", "Notes"):
        assert heading not in text


def test_text_is_escaped():
    content = full(
        title=NASTY,
        key_figures=[(NASTY, NASTY)],
        settings=[(NASTY, NASTY)],
        command=NASTY,
        warnings=[NASTY],
        skipped=[(NASTY, NASTY)],
        picks_per_micrograph=[(NASTY, 3)],
        evaluation=curves(rows=[(NASTY, 1, 1, 1, 1.0, 1.0, 1.0, 1.0)]),
        gallery=[gallery_item(name=NASTY)],
        stage_seconds=[(NASTY, 1.0)],
    )
    html = render_report(content)
    assert parsed(html).text.count(NASTY) == 14  # the title twice
    assert "<script" not in html


def test_names_that_are_no_text_do_not_stop_it(tmp_path):
    write_report(tmp_path / "r.html", minimal_report(picks_per_micrograph=[("mic\udcff.mrc", 3)]))
    assert "mic?.mrc" in (tmp_path / "r.html").read_text(encoding="utf-8")


def test_many_micrographs_are_summed_up():
    checker = parsed(render_report(minimal_report(picks_per_micrograph=many(5000))))
    assert checker.tags.count("tr") < 300
    assert "The 200 micrographs with the fewest picks, of 5,000" in checker.text
    assert "mic_00400.mrc" in checker.text
    assert "mic_00399.mrc" not in checker.text


def test_same_content_same_bytes_and_settings_untouched():
    before = dict(matplotlib.rcParams)
    first = render_report(full())
    assert dict(matplotlib.rcParams) == before
    with matplotlib.rc_context({"axes.facecolor": "black", "svg.hashsalt": "other"}):
        assert render_report(full()) == first


def test_writing_is_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    path.write_text("old")

    def fail(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.replace", fail)
        with pytest.raises(BadInput, match="No space left"):
            write_report(path, minimal_report())
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
    write_report(path, minimal_report())
    assert path.read_text(encoding="utf-8") == render_report(minimal_report())
    assert list(tmp_path.iterdir()) == [path]


def test_pictures_decode():
    sources = parsed(full_page()).addresses
    assert len(sources) == 10
    for source in sources:
        kind, data = source.split(";base64,")
        raw = base64.b64decode(data)
        if kind == "data:image/png":
            Pillow.open(io.BytesIO(raw)).load()
        else:
            root = ElementTree.fromstring(raw)
            assert root.tag.endswith("svg")
            assert b"<!DOCTYPE" not in raw


def test_the_threshold_splits_the_histogram_exactly():
    scores = np.array([-1.0, 0.0, 0.5, 0.5, 0.7, 3.0] * 30)
    svg = plots.draw_score_histogram(scores, 0.5)
    assert "Threshold 0.50" in svg
    assert "Picks 120" in svg
    assert "Below 60" in svg


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Pillow.open(io.BytesIO(png)).convert("RGB")).astype(int)


def near(picture: np.ndarray, colour: tuple[int, int, int], tolerance: int = 40) -> np.ndarray:
    """Return (x, y) of the micrograph's pixels of that color, the legend left out."""
    rows, columns = np.nonzero(np.abs(picture - colour).max(axis=2) <= tolerance)
    return np.stack([columns, rows], axis=1)


@pytest.mark.parametrize("shape", [(60, 80), (80, 60), (64, 64)])
def test_a_pick_is_drawn_where_it_is_and_row_0_is_on_top(shape):
    x, y, diameter_px = 20.0, 14.0, 10.0
    given = gallery_item(shape, picks=((x, y),))
    picture = pixels(gallery.draw_micrograph(given, diameter_px * 5.0))
    scale = gallery.WHOLE_PX / max(shape)
    tall = round(shape[0] * scale)
    assert picture.shape[1] == round(shape[1] * scale)
    assert picture.shape[0] > tall
    drawn = near(picture[:tall], CYAN) + 0.5
    middle = (drawn.min(axis=0) + drawn.max(axis=0)) / 2
    np.testing.assert_allclose(middle, np.array([x + 0.5, y + 0.5]) * scale, atol=1.5)
    np.testing.assert_allclose(np.ptp(drawn, axis=0), diameter_px * scale, atol=6.0)


def test_the_image_lies_under_its_marks():
    image = np.zeros((60, 80), dtype=np.float32)
    image[9:12, 19:22] = -5.0  # dark protein at (20, 10)
    picture = pixels(gallery.draw_micrograph(gallery_item(image=image), 50.0))
    scale = gallery.WHOLE_PX / 80
    tall = round(60 * scale)
    darkness = 255.0 - picture[: tall // 2].mean(axis=2)
    darkness[darkness < 0.9 * darkness.max()] = 0.0
    rows, columns = np.indices(darkness.shape) + 0.5
    middle = np.array([(columns * darkness).sum(), (rows * darkness).sum()]) / darkness.sum()
    np.testing.assert_allclose(middle, np.array([20.5, 10.5]) * scale, atol=3.0)


def test_hits_false_picks_misses_and_labels_differ():
    given = gallery_item(
        picks=((20.0, 10.0), (60.0, 10.0)),
        labels_xy_px=np.array([[20.0, 30.0]]),
        truth_xy_px=np.array([[20.0, 11.0], [60.0, 30.0]]),
        picks_matched=np.array([True, False]),
        truth_matched=np.array([True, False]),
    )
    scale = gallery.WHOLE_PX / 80
    picture = pixels(gallery.draw_micrograph(given, 50.0))[: round(60 * scale)]
    for colour, place in (
        (CYAN, (20.5, 10.5)),
        (ORANGE, (60.5, 10.5)),
        (PINK, (20.5, 30.5)),
        (YELLOW, (60.5, 30.5)),
    ):
        drawn = near(picture, colour) + 0.5
        assert len(drawn) > 100
        middle = (drawn.min(axis=0) + drawn.max(axis=0)) / 2
        np.testing.assert_allclose(middle, np.array(place) * scale, atol=4.0)
    corners = near(picture, ORANGE).max(axis=0) - near(picture, ORANGE).min(axis=0)
    np.testing.assert_allclose(corners, 10.0 * scale, atol=6.0)


def test_pixels_that_are_no_numbers_and_flat_images_are_drawn():
    broken = np.full((40, 40), np.nan, dtype=np.float32)
    for image in (broken, np.zeros((40, 40), dtype=np.float32), np.ones((1, 1), dtype=np.float32)):
        png = gallery.draw_micrograph(
            gallery_item(image=image, picks=((np.nan, 1.0), (3.0, 4.0))), 50.0
        )
        assert png.startswith(b"\x89PNG")


def test_the_detail_shows_the_busiest_part():
    crowd = np.random.default_rng(1).uniform((300, 20), (340, 60), size=(30, 2))
    given = gallery_item((400, 400), picks=np.concatenate([crowd, [[10.0, 390.0]]]))
    left, top, right, bottom = gallery.find_densest_window(given, 50.0)
    assert (right - left, bottom - top) == (110, 110)
    assert np.all((crowd >= (left, top)) & (crowd < (right, bottom)))
    picture = pixels(gallery.draw_detail(given, 50.0))
    assert picture.shape[:2] == (gallery.DETAIL_PX, gallery.DETAIL_PX)


def test_a_small_micrograph_is_its_own_detail():
    assert gallery.find_densest_window(gallery_item((30, 20)), 500.0) == (0, 0, 20, 30)


def test_six_pictures_of_pure_noise_stay_small():
    given = gallery_item((1080, 1080), picks=np.random.default_rng(2).uniform(0, 1080, (500, 2)))
    one = len(gallery.draw_micrograph(given, 150.0)) + len(gallery.draw_detail(given, 150.0))
    assert 6 * one * 4 / 3 < 6.0e6


def test_no_two_probabilities_are_written_over_each_other() -> None:
    """Where scores tell particles sharply, all probabilities lie at nearly one score."""
    figure = Figure(figsize=(4.5, 3))
    axes = figure.add_subplot()
    scores = np.linspace(-6.0, 6.0, 2000)
    axes.set_xlim(-6.0, 6.0)
    plots._probability_axis(axes, scores, 1 / (1 + np.exp(-6 * scores)))
    figure.draw_without_rendering()
    (top,) = axes.child_axes
    texts = [label for label in top.get_xticklabels() if label.get_text()]
    assert "0.5" in [label.get_text() for label in texts]
    boxes = [label.get_window_extent() for label in texts]
    assert all(a.x1 < b.x0 for a, b in pairwise(boxes))
