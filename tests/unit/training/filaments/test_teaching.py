from __future__ import annotations

import numpy as np
import torch
from scipy.special import expit

from heliodor.models.filament_unet import AXIS, CONTAMINANT
from heliodor.training.filaments.targets import measure_targets
from heliodor.training.filaments.teaching import (
    LabeledFilaments,
    Lesson,
    find_sure_points,
    prepare_lesson,
)

SIDE = 192
POINTS = SIDE // 4
#: Three horizontal filaments: a labeled one, one that the network knows, and one that it doubts.
LABELED, KNOWN, DOUBTED = 40.0, 90.0, 140.0


def line(y: float) -> np.ndarray:
    x = np.arange(0.0, SIDE - 1.0, 0.5)
    return np.column_stack([x, np.full(len(x), y)])


def lesson() -> tuple[Lesson, np.ndarray]:
    outputs = np.full((6, POINTS, POINTS), -7.0, np.float32)
    outputs[1:5] = 0.0
    y = 1.5 + 4.0 * np.arange(POINTS)
    for place, score in ((KNOWN, 4.0), (DOUBTED, -0.8)):
        outputs[AXIS, np.abs(y - place) <= 2.0] = score
        outputs[1, np.abs(y - place) <= 8.0] = 0.7
    item = LabeledFilaments("a", np.zeros((SIDE, SIDE), np.float32), (line(LABELED),))
    bad = expit(outputs[CONTAMINANT])
    return prepare_lesson(item, outputs, 1.0, 0.0, bad), y


def test_labels_and_sure_traces_are_positive_and_doubts_do_not_count() -> None:
    found, y = lesson()
    rows = {name: np.abs(y - place) <= 2.0 for name, place in
            (("labeled", LABELED), ("known", KNOWN), ("doubted", DOUBTED))}  # fmt: skip
    for name in ("labeled", "known"):
        own = torch.from_numpy(rows[name])
        assert (found.axis[own] == 1.0).all()
        assert (found.weight[own] == 1.0).all()
    assert (found.weight[torch.from_numpy(rows["doubted"])] == 0.0).all()
    assert (found.labeled.sum(dim=1) > 0).numpy().tolist() == rows["labeled"].tolist()
    rest = torch.from_numpy(np.min([np.abs(y - p) for p in (LABELED, KNOWN, DOUBTED)], 0) > 12)
    assert (found.weight[rest] == 1.0).all()
    assert (found.axis[rest] < 0.01).all()
    # The angles of the network's traces are scaled to a length of 1.
    own = torch.from_numpy(rows["known"])
    torch.testing.assert_close(found.double_angle[0, own], torch.ones(int(own.sum()), POINTS))


def test_short_and_uncertain_traces_are_not_sure() -> None:
    probability = np.full((60, 60), 0.01)
    probability[10, 5:50] = 0.9
    probability[20, 5:12] = 0.95
    probability[30, 5:50] = 0.5
    sure = find_sure_points(probability)
    assert sure[10, 5:50].all()
    assert sure.sum() == 45
    assert not find_sure_points(np.zeros((5, 5))).any()


def test_a_lesson_turns_with_its_field() -> None:
    found, _ = lesson()
    turned = found.turn(1, True)
    x, y = line(LABELED).T
    x, y = y, SIDE - 1.0 - x  # a quarter turn, then the mirror
    axis = np.column_stack([SIDE - 1.0 - x, y])
    expected = measure_targets([axis], 1.5, 4.0, (POINTS, POINTS))
    near = torch.from_numpy(expected[0]) < 4.0
    assert (turned.labeled > 0).sum() == (found.labeled > 0).sum()
    torch.testing.assert_close(turned.distance_px[near], torch.from_numpy(expected[0])[near])
    for own, value in zip((turned.double_angle, turned.offset_px), expected[1:], strict=True):
        torch.testing.assert_close(
            own[:, near], torch.from_numpy(value)[:, near], atol=1e-4, rtol=0
        )
    part = Lesson.stack([found, turned]).crop(slice(3, 9), slice(0, 4))
    assert part.offset_px.shape == (2, 2, 6, 4)
    assert part.as_targets().blocked.shape == (2, 6, 4)


def reject(*axes: np.ndarray, crossed: bool = False) -> tuple[Lesson, Lesson, np.ndarray]:
    """Return the lessons without and with rejected axes, and where points are."""
    outputs = np.full((6, POINTS, POINTS), -7.0, np.float32)
    outputs[1:5] = 0.0
    at = 1.5 + 4.0 * np.arange(POINTS)
    near = np.abs(at - KNOWN) <= 2.0
    outputs[AXIS, near], outputs[1, near] = 4.0, 0.7
    if crossed:  # by another one that the network knows, along y
        outputs[AXIS, :, near], outputs[1, :, near] = 4.0, -0.7
    image, bad = np.zeros((SIDE, SIDE), np.float32), expit(outputs[CONTAMINANT])
    before, after = (
        prepare_lesson(LabeledFilaments("a", image, (line(LABELED),), own), outputs, 1.0, 0.0, bad)
        for own in ((), axes)
    )
    return before, after, at


def test_rejected_axes_are_background_however_sure_the_network_is() -> None:
    before, after, y = reject(line(KNOWN))
    own = torch.from_numpy(np.abs(y - KNOWN) <= 2.0)
    assert (before.axis[own] == 1.0).all()
    near = torch.from_numpy(np.abs(y - KNOWN) <= 6.0)
    assert (after.axis[near] == 0.0).all()
    assert (after.weight[near] == 1.0).all()
    assert torch.equal(after.rejected.sum(dim=1) > 0, near)
    assert before.rejected.sum() == 0.0
    # No angle is taught there, and all else stays the same.
    assert torch.isinf(after.distance_px[near]).all() or (after.distance_px[near] > 20.0).all()
    far = ~near
    for name in ("axis", "weight", "labeled"):
        assert torch.equal(getattr(after, name)[far], getattr(before, name)[far])


def test_labels_and_filaments_that_cross_what_was_rejected_stay_positive() -> None:
    before, after, _ = reject(line(LABELED + 3.0))
    assert torch.equal(after.axis, before.axis)
    assert torch.equal(after.labeled, before.labeled)
    before, after, at = reject(line(KNOWN), crossed=True)
    own = torch.from_numpy(np.abs(at - KNOWN) <= 2.0)
    column = after.axis[:, own]
    # The filament along y is still taught beyond the rejected one, and where they cross.
    assert (column[torch.from_numpy(at > KNOWN + 8.0)] == 1.0).all()
    crossing = after.axis[own][:, own]
    assert (crossing == 1.0).all() or (after.weight[own][:, own] == 0.0).all()
    beside = torch.from_numpy(np.abs(at - KNOWN) > 8.0)
    assert (after.axis[own][:, beside] == 0.0).all()
