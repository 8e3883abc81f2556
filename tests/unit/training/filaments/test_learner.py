from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from heliodor.models.filament_model_file import FilamentModel, fingerprint_filament_model
from heliodor.models.filament_network import apply_network
from heliodor.models.filament_unet import AXIS
from heliodor.models.pretrained import load_filament_model_or_general
from heliodor.training.filaments.learner import train_filaments
from heliodor.training.filaments.settings import FilamentRecipe
from heliodor.training.filaments.targets import measure_targets
from heliodor.training.filaments.teaching import LabeledFilaments
from helpers.filaments import random_filament_model

RECIPE = FilamentRecipe(updates=24, batch=2, side_px=96, learning_rate=3e-3, label_weight=0.3)


def stripes(seed: int) -> LabeledFilaments:
    """Return noise with two bright lines, both labeled."""
    rng = np.random.default_rng(seed)
    image = rng.normal(size=(128, 128)).astype(np.float32)
    axes = []
    for place in (40.0, 90.0):
        y = np.arange(0.0, 127.0, 0.5)
        axes.append(np.column_stack([place + 0.1 * y, y]))
    columns, rows = np.meshgrid(np.arange(128), np.arange(128))
    for place in (40.0, 90.0):
        image += 2.0 * (np.abs(columns - place - 0.1 * rows) < 5.0)
    return LabeledFilaments(str(seed), image, tuple(axes))


def contrast(model: FilamentModel, item: LabeledFilaments) -> float:
    """Return by how much the scores on axes are above those beside them."""
    distance, *_ = measure_targets(item.axes_px, 1.5, 4.0, (32, 32))
    scores = apply_network(model.network, item.image)[AXIS]
    return float(np.median(scores[distance <= 2.0]) - np.median(scores[distance > 8.0]))


def test_what_the_start_does_not_know_is_learned_from_labels() -> None:
    start = load_filament_model_or_general(None)
    before = fingerprint_filament_model(start)
    trained = train_filaments(start, [stripes(1)], RECIPE)
    assert fingerprint_filament_model(start) == before
    assert contrast(start, stripes(2)) < 2.0
    assert contrast(trained, stripes(2)) > contrast(start, stripes(2)) + 2.0
    assert trained.card.updates == RECIPE.updates
    # The weights are those that the file will have.
    for value in trained.network.state_dict().values():
        if value.is_floating_point():
            assert torch.equal(value, value.half().float())


def test_the_same_seed_gives_the_same_model() -> None:
    short = FilamentRecipe(updates=3, batch=1, side_px=96)
    models = [train_filaments(random_filament_model(), [stripes(1)], short) for _ in range(2)]
    weights = [model.network.head.weight for model in models]
    assert torch.equal(*weights)


def test_training_needs_a_label() -> None:
    item = LabeledFilaments("a", np.zeros((64, 64), np.float32), ())
    with pytest.raises(ValueError, match="needs a labeled filament"):
        train_filaments(random_filament_model(), [item])


def marked(seed: int, rejects: bool) -> LabeledFilaments:
    """Return noise with a line that is labeled, and a brighter one that may be rejected."""
    rng = np.random.default_rng(seed)
    image = rng.normal(size=(128, 128)).astype(np.float32)
    columns, rows = np.meshgrid(np.arange(128), np.arange(128))
    y = np.arange(0.0, 127.0, 0.5)
    axes = [np.column_stack([place + 0.1 * y, y]) for place in (35.0, 85.0)]
    for place, height in ((35.0, 2.0), (85.0, 5.0)):
        image += height * (np.abs(columns - place - 0.1 * rows) < 5.0)
    return LabeledFilaments(str(seed), image, (axes[0],), (axes[1],) if rejects else ())


def test_what_was_rejected_is_found_no_longer_and_labels_still_are() -> None:
    start = load_filament_model_or_general(None)

    def scores(rejects: bool) -> tuple[float, float]:
        """Return the scores on the labeled line and on the other of a new micrograph."""
        only_rejected = replace(marked(3, rejects), axes_px=())
        recipe = replace(RECIPE, rejected_weight=0.3)
        trained = train_filaments(start, [marked(1, rejects), only_rejected], recipe)
        item = marked(2, True)
        found = apply_network(trained.network, item.image)[AXIS]
        label, rejected = (
            float(np.median(found[measure_targets(axes, 1.5, 4.0, (32, 32))[0] <= 2.0]))
            for axes in (item.axes_px, item.rejected_px)
        )
        return label, rejected

    (label, false), (label_with, false_with) = scores(False), scores(True)
    assert false > 2.0
    assert false_with < false - 2.5
    assert min(label, label_with) > 0.0
