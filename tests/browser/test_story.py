"""The whole workflow in the app: from a new project to a file of correct picks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from browser.page import (
    DIAMETER,
    DIAMETER_PX,
    PageInUse,
    Truth,
    by_name,
)
from heliodor.evaluation.matching import match_picks

pytestmark = pytest.mark.slow


def set_diameter(page: PageInUse) -> None:
    """Set the diameter in the first dialog, with the handle and then as a number."""
    page.page.locator("#sizing").wait_for()
    field = page.page.locator("#sizing-number")
    before = float(field.input_value())
    box = page.page.locator("#stage").bounding_box()
    assert box is not None
    zoom = box["height"] / 1024
    middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    handle = before / 4 / 2 * zoom
    page.picture("1-diameter")
    page.page.mouse.move(middle[0] + handle, middle[1])
    page.page.mouse.down()
    page.page.mouse.move(middle[0] + handle / 2, middle[1], steps=5)
    page.page.mouse.up()
    assert float(field.input_value()) == pytest.approx(before / 2, rel=0.08)
    field.fill(str(DIAMETER))
    page.page.locator("#sizing-use").click()
    page.page.locator("#sizing").wait_for(state="hidden")


def label_twelve(page: PageInUse, truth: Truth) -> None:
    for place in range(3):
        page.choose(place)
        for x, y in truth.apart(place, 4):
            page.click(x, y)
        assert page.number("#label-count") == 4
    page.saved()


def answer_ten(page: PageInUse, truth: Truth) -> tuple[int, int]:
    """Answer ten questions correctly; return how many were particles and how many were not."""
    page.press("4")
    with page.page.expect_response("**/api/questions*") as answered:
        page.page.locator("#review-start").click()
    questions: list[dict[str, Any]] = answered.value.json()["items"]
    assert len(questions) == 10
    counts = [0, 0]
    for number, one in enumerate(questions):
        page.page.locator(f'#review-dots[aria-label="Question {number + 1} of 10"]').wait_for()
        if number == 2:
            page.page.wait_for_timeout(800)
            page.picture("5-review")
        is_particle = truth.near(one["micrograph"], one["x"], one["y"])
        page.press("j" if is_particle else "k")
        counts[0 if is_particle else 1] += 1
    page.wait_for("#review-message", "10 answers")
    page.saved()
    return counts[0], counts[1]


def drag_threshold(page: PageInUse, share: float) -> None:
    """Drag the threshold to a fraction of the histogram's width; the picks must follow."""
    box = page.page.locator("#histogram").bounding_box()
    assert box is not None
    middle = box["y"] + box["height"] / 2
    before = page.text("#inspect-picks")
    page.page.mouse.move(box["x"] + 0.3 * box["width"], middle)
    page.page.mouse.down()
    page.page.mouse.move(box["x"] + share * box["width"], middle, steps=8)
    page.page.mouse.up()
    assert page.text("#inspect-picks") != before


def set_threshold_at_crop(page: PageInUse) -> None:
    """Click a candidate: it and those after it are dropped; undo that."""
    page.page.locator("#gallery-click button", has_text="Set threshold here").click()
    page.page.locator("#gallery .crop").nth(9).click()
    page.wait_for("#toast", "9 picks kept", 5_000)
    assert 5 <= page.number("#inspect-picks") <= 13
    assert page.number("#pick-count") <= 9
    page.page.wait_for_timeout(500)
    page.press("Control+z")
    assert float(page.page.locator("#threshold").input_value()) == -2


def run_over_all(page: PageInUse, project: Path, exported_star: Path) -> None:
    page.page.locator("#run").click()
    page.wait_for("#run-message", "Picked 4 micrographs: ")
    picked, exported = by_name(project / "picks" / "picks.tsv"), by_name(exported_star)
    assert picked.keys() == exported.keys()
    for name, xy in picked.items():  # one truth
        np.testing.assert_allclose(sorted(map(tuple, xy)), sorted(map(tuple, exported[name])),
                                   atol=0.01)  # fmt: skip
    assert len(by_name(project / "picks" / "autopick.star")) == 4
    assert page.page.locator("#run-changes").is_hidden()
    with page.page.context.expect_page() as opened:
        page.page.locator("#run-report").click()
    report = opened.value
    report.wait_for_load_state()
    assert report.locator("h1").inner_text().startswith("Particle picks: ")
    assert report.locator("img").count() >= 4
    # The images are embedded in the report, so the content security policy allows them.
    sizes = report.evaluate("() => [...document.images].map((one) => one.naturalWidth)")
    assert min(sizes) > 100
    report.screenshot(path=page.pictures / "8-report.png")
    report.close()


def go_back_to_the_first_model(page: PageInUse) -> None:
    """Use model 1 again; the results of model 2 are then marked as older."""
    page.press("2")
    models = page.page.locator("#models li")
    assert models.count() == 3
    assert "12 labels" in models.nth(1).inner_text()
    assert "in use" in models.nth(2).inner_text()
    page.picture("9-models")
    models.nth(1).locator("button").click()
    page.wait_for("#train-model", "Model 1")
    page.press("5")
    page.wait_for("#run-changes", "model 1 is in use now")
    page.press("2")
    page.page.locator("#models li").nth(2).locator("button").click()
    page.wait_for("#train-model", "Model 2")
    page.wait_for("#engine", "Model 2")


def refuse_another_diameter(page: PageInUse) -> None:
    """Check that a diameter that discards the trained model needs a confirmation."""
    page.press("1")
    page.page.locator("#diameter").fill("300")
    page.page.locator("#diameter").press("Enter")
    page.page.locator("#confirm button", has_text="Cancel").click()
    page.page.wait_for_function(
        "value => document.getElementById('diameter').value === value", arg=str(DIAMETER)
    )
    assert page.get("/api/project")["settings"]["diameter"] == DIAMETER


def reject_three(page: PageInUse, truth: Truth) -> int:
    """Reject up to three wrong picks on screen by right clicks; return how many."""
    picks = page.get("/api/micrographs/0/picks")
    threshold = float(page.page.locator("#threshold").input_value())
    labels = page.get("/api/micrographs/0/labels")
    known = np.array([labels["x"], labels["y"]]).T
    wrong: list[tuple[float, float]] = []
    for x, y, score in zip(picks["x"], picks["y"], picks["score"], strict=True):
        near = min(np.hypot(*(known - [x, y]).T)) < DIAMETER_PX
        others = any(np.hypot(x - a, y - b) < DIAMETER_PX for a, b in wrong)
        if score > threshold + 0.01 and not (near or others) and not truth.near(0, x, y):
            wrong.append((x, y))
    for x, y in wrong[:3]:
        page.click(x, y, button="right")
    return len(wrong[:3])


def test_from_nothing_to_picks_that_are_right(
    serve: Any, open_page: Any, simulated: Truth, tmp_path: Path
) -> None:
    server = serve(simulated.micrographs)
    page: PageInUse = open_page(server.url)
    assert page.text("#list-count") == "4 micrographs"
    set_diameter(page)

    label_twelve(page, simulated)
    labelled = by_name(server.project / "labels.star")
    for place in range(3):
        found = labelled[simulated.files[place].stem]
        assert match_picks(found, simulated.apart(place, 4), 2).is_true_positive.all()
    page.picture("2-labels")

    page.press("Control+z", "Control+z")
    assert page.number("#label-count") == 2
    page.press("Control+Shift+z", "Control+Shift+z")
    assert page.number("#label-count") == 4

    page.press("t")
    page.wait_for("#train-message", "Update")
    page.picture("3-training")
    page.wait_for("#train-message", "Model 1 trained in")
    page.choose(0)
    page.wait_for_picks()
    page.wait_for("#engine", "Model 1")
    page.picture("3-trained")

    page.press("3")
    automatic = page.number("#pick-count")
    page.press(*["["] * 15)
    more = page.number("#pick-count")
    page.press(*["]"] * 30)
    fewer = page.number("#pick-count")
    assert fewer < automatic < more
    drag_threshold(page, 0.8)
    assert page.number("#pick-count") < more
    page.page.locator("#threshold").fill("-2")
    page.page.locator("#threshold").press("Enter")
    page.page.locator("#gallery .crop").first.wait_for()
    page.page.wait_for_timeout(1000)
    page.picture("4-inspect")
    set_threshold_at_crop(page)

    rejected = reject_three(page, simulated)
    assert rejected
    assert page.number("#negative-count") == rejected
    page.page.locator("#threshold-auto").click()
    page.saved()

    particles, others = answer_ten(page, simulated)
    settled = page.get("/api/micrographs")
    assert sum(settled["labels"]) == 12 + particles
    assert sum(settled["negatives"]) == rejected + others

    page.press("t")
    page.wait_for("#train-message", "Model 2 trained in")
    page.wait_for("#engine", "Model 2")

    page.press("5")
    page.page.locator("#export-format").select_option("star")
    page.page.locator("#export").click()
    with page.page.expect_download() as loaded:
        page.page.locator("#export-files button").click()
    page.picture("6-export")
    exported = tmp_path / "exported.star"
    loaded.value.save_as(exported)
    right, picked, true = 0, 0, 0
    for name, xy in by_name(exported).items():
        of = simulated.xy[name]
        right += match_picks(xy, of, 0.4 * DIAMETER_PX).is_true_positive.sum()
        picked += len(xy)
        true += len(of)
    assert right / picked > 0.7
    assert right / true > 0.7

    run_over_all(page, server.project, exported)
    go_back_to_the_first_model(page)
    refuse_another_diameter(page)

    page.press("?")
    page.picture("7-shortcuts")
    page.press("Escape")
    page.page.reload()
    page.wait_for_picture()
    assert page.number("#label-count") >= 4
    server.stop()
    page.wait_for("#connection", "cannot be reached", 20_000)
