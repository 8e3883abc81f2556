from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from heliodor.data.coordinates.labels import LabeledImage
from heliodor.errors import BadInput
from heliodor.models.autoencoder import choose_reconstruction_weight
from heliodor.training.learner import (
    RECONSTRUCTED,
    Learner,
    _where,
    uses_bfloat16,
)
from heliodor.training.loop import train_network
from heliodor.training.objectives import objective
from heliodor.training.recipes import PAPER, RECIPES, recipe
from heliodor.training.sampler import (
    POSITIVE,
    UNLABELLED,
    Sampler,
)
from heliodor.training.settings import TrainingSettings
from helpers.networks import labelled_discs, noise

RADIUS = 2.0
PRIOR = 0.02
REGIONS = TrainingSettings(
    network="conv31", width=2, side=1, batch=24, positives=8, near=0.0, objective="ge-kl"
)
TILES = replace(REGIONS, side=3, batch=8, positives=3)


@pytest.fixture(scope="module")
def images() -> list[LabeledImage]:
    return [labelled_discs((80, 90), 10, seed, labelled=6) for seed in (1, 2)]


@pytest.mark.parametrize("name", ["pn", "pn-balanced", "nnpu", "ge-binomial", "ge-binomial-exact"])
def test_single_regions_cost_what_the_objective_says(
    name: str, images: list[LabeledImage]
) -> None:
    settings = replace(REGIONS, objective=name)
    learner = Learner(images, RADIUS, PRIOR, settings, "cpu")
    same = Sampler(images, RADIUS, 31, settings.seed, stride=4)
    crops = same.draw(8, 16).images
    cost = learner.compute_cost()
    logits = learner.network(crops).flatten()
    expected = objective(name)(logits[:8], logits[8:], PRIOR)
    torch.testing.assert_close(cost.total, expected.total)
    torch.testing.assert_close(cost.positive, expected.positive)
    torch.testing.assert_close(cost.mean_probability, torch.sigmoid(logits[8:]).mean())
    assert cost.reconstruction == 0


@pytest.mark.parametrize("near", [0.0, 1.0])
def test_of_tiles_every_known_region_counts_once(near: float, images: list[LabeledImage]) -> None:
    settings = replace(TILES, near=near, objective="pn")
    learner = Learner(images, RADIUS, PRIOR, settings, "cpu")
    tiles = Sampler(images, RADIUS, 31, settings.seed, stride=4, side=3).draw(3, 5)
    cost = learner.compute_cost()
    logits = learner.network(tiles.images)
    assert logits.shape == (8, 3, 3)
    positive = logits[tiles.labels == POSITIVE]
    unlabelled = tiles.labels == UNLABELLED
    if not near:
        unlabelled[:3] = False
    expected = objective("pn")(positive, logits[unlabelled], PRIOR)
    torch.testing.assert_close(cost.total, expected.total)
    assert 3 <= len(positive) < 27


@pytest.mark.parametrize("settings", [REGIONS, TILES])
@pytest.mark.parametrize("name", ["pn", "nnpu", "ge-kl", "ge-binomial", "ge-binomial-exact"])
def test_the_autoencoder_adds_its_error_to_every_objective(
    name: str, settings: TrainingSettings, images: list[LabeledImage]
) -> None:
    plain = Learner(images, RADIUS, PRIOR, replace(settings, objective=name), "cpu").compute_cost()
    weighted = replace(settings, objective=name, autoencoder=0.25)
    learner = Learner(images, RADIUS, PRIOR, weighted, "cpu")
    cost = learner.compute_cost()
    # The decoder changes neither the network's start nor the draws.
    torch.testing.assert_close(cost.positive, plain.positive)
    torch.testing.assert_close(cost.total, plain.total + 0.25 * cost.reconstruction)
    # An untrained decoder's image is next to empty, so the error is the regions' own square sum.
    sampler = Sampler(images, RADIUS, 31, 0, stride=4, side=settings.side)
    tiles = sampler.draw(settings.positives, settings.batch - settings.positives)
    regions = [
        tile[0, 4 * i : 4 * i + 31, 4 * j : 4 * j + 31]
        for tile, (i, j) in zip(tiles.images, tiles.anchors.tolist(), strict=True)
    ]
    square = torch.stack(regions).square().flatten(1).sum(dim=1).mean()
    assert cost.reconstruction.item() == pytest.approx(float(square), rel=0.1)
    cost.total.backward()  # type: ignore[no-untyped-call]
    assert all(p.grad is not None for p in learner.parameters())
    assert len(learner.parameters()) > len(list(learner.network.parameters()))


def test_a_large_minibatch_is_reconstructed_in_part(images: list[LabeledImage]) -> None:
    settings = replace(REGIONS, batch=4 * RECONSTRUCTED, positives=16, autoencoder=1.0)
    learner = Learner(images, RADIUS, PRIOR, settings, "cpu")
    seen: list[int] = []
    decoder = learner.decoder
    assert decoder is not None
    decoder.register_forward_hook(lambda module, given, out: seen.append(len(out)))
    learner.compute_cost()
    assert seen == [RECONSTRUCTED]


def test_training_with_the_autoencoder_lowers_its_error(images: list[LabeledImage]) -> None:
    settings = replace(
        TILES, width=4, batch=32, positives=8, autoencoder=1.0, epochs=3, epoch_updates=15
    )
    history = train_network(images, [], RADIUS, PRIOR, settings).history
    assert history[-1].reconstruction < 0.95 * history[0].reconstruction


def test_the_automatic_weight_counts_the_labelled_particles(images: list[LabeledImage]) -> None:
    auto = Learner(images, RADIUS, PRIOR, replace(REGIONS, autoencoder="auto"), "cpu")
    set_to = replace(REGIONS, autoencoder=choose_reconstruction_weight(12))
    same = Learner(images, RADIUS, PRIOR, set_to, "cpu")
    assert auto.compute_cost().total.item() == same.compute_cost().total.item()
    many = [replace(images[0], xy_px=np.full((251, 2), 40.0)), images[1]]
    without = Learner(many, RADIUS, PRIOR, replace(REGIONS, autoencoder="auto"), "cpu")
    assert without.compute_cost().reconstruction == 0


def test_negatives_lower_the_scores_of_their_kind() -> None:
    """Bright discs look alike but for their size; only the labels tell which are wanted."""
    random = np.random.default_rng(0)
    images = []
    for seed in range(3):
        image = noise((120, 120), seed)
        small = random.permutation(
            [(x, y) for x in range(16, 120, 22) for y in range(16, 120, 22)]
        )
        rows, columns = np.indices(image.shape)
        for k, (x, y) in enumerate(small):
            image[np.hypot(columns - x, rows - y) <= (5 if k % 2 else 7)] += 2
        images.append(LabeledImage(image, small[1::2][:6].astype(float)))
        images[-1] = replace(images[-1], negative_xy_px=small[::2].astype(float))
    settings = replace(TILES, width=6, batch=32, positives=8, epoch_updates=60, epochs=1)
    settings = replace(settings, learning_rate=1e-2, objective="pn-balanced")

    def gap(items: list[LabeledImage]) -> float:
        from heliodor.picking.scoring import score_image

        network = train_network(items, [], RADIUS, 0.05, settings).network
        wanted, other = [], []
        for item in images:
            score = score_image(network, item.image)
            wanted += [score[int(y), int(x)] for x, y in item.xy_px]
            other += [score[int(y), int(x)] for x, y in item.negative_xy_px]
        return float(np.mean(wanted) - np.mean(other))

    none = np.zeros((0, 2))
    assert gap(images) > gap([replace(item, negative_xy_px=none) for item in images]) + 0.5


def test_the_papers_recipe_is_the_papers() -> None:
    assert (PAPER.network, PAPER.width, PAPER.objective) == ("conv31", 32, "ge-binomial")
    assert (PAPER.batch, PAPER.side, PAPER.positives) == (256, 1, 16)
    assert (PAPER.schedule, PAPER.learning_rate, PAPER.autoencoder) == ("constant", 2e-4, "auto")
    assert RECIPES["fast"] == TrainingSettings()


def test_only_the_papers_recipe_starts_at_one_half(images: list[LabeledImage]) -> None:
    for start, chance in ((True, PRIOR), (False, 0.5)):
        learner = Learner(images, RADIUS, PRIOR, replace(REGIONS, start_at_prior=start), "cpu")
        assert learner.compute_cost().mean_probability.item() == pytest.approx(chance, rel=0.6)
    assert (PAPER.start_at_prior, RECIPES["fast"].start_at_prior) == (False, True)


def test_a_recipe_takes_what_is_given() -> None:
    assert recipe("paper", width=None, epochs=3, seed=4) == replace(PAPER, epochs=3, seed=4)
    with pytest.raises(BadInput, match="one of fast, paper"):
        recipe("slow")
    for wrong in (
        {"side": 0},
        {"near": 1.5},
        {"autoencoder": -1.0},
        {"schedule": "cosine"},
        {"positives": 64},
    ):
        with pytest.raises(BadInput):
            recipe("fast", **wrong)


def test_a_constant_schedule_is_constant(images: list[LabeledImage]) -> None:
    settings = replace(REGIONS, schedule="constant", epochs=3, epoch_updates=2)
    history = train_network(images, [], RADIUS, PRIOR, settings).history
    assert {epoch.learning_rate for epoch in history} == {settings.learning_rate}


def test_few_labels_are_learnt_from_for_a_shorter_time(images: list[LabeledImage]) -> None:
    settings = RECIPES["fast"]
    number = {n: settings.epochs_for(n) for n in (1, 10, 40, 50, 100, 199, 200, 5000)}
    assert number == {1: 2, 10: 2, 40: 2, 50: 2, 100: 5, 199: 10, 200: 10, 5000: 10}
    assert PAPER.epochs_for(10) == PAPER.epochs_for(5000) == 10
    # The two images have six labels each.
    history = train_network(
        images, [], RADIUS, PRIOR, replace(TILES, epochs="auto", epoch_updates=1)
    ).history
    assert len(history) == 2


@pytest.mark.parametrize("side", [1, 3])
def test_what_a_mask_tells_is_picked_in_its_order(side: int) -> None:
    values = torch.arange(5.0 * side * side).view(5, side, side).requires_grad_()
    mask = torch.rand(values.shape, generator=torch.Generator().manual_seed(side)) < 0.5
    assert torch.equal(_where(values, mask), values[mask])
    assert len(_where(values, mask & ~mask)) == 0


@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize("name", ["conv31", "resnet8"])
@pytest.mark.parametrize("objective", ["pn-balanced", "nnpu", "ge-binomial"])
def test_bf16_costs_nearly_the_same(
    name: str, norm: bool, objective: str, images: list[LabeledImage]
) -> None:
    own = replace(TILES, network=name, width=4, norm=norm, objective=objective, autoencoder=0.1)
    found = []
    for precision in ("float32", "bf16"):
        learner = Learner(images, RADIUS, PRIOR, replace(own, precision=precision), "cpu")
        cost = learner.compute_cost()
        cost.total.backward()
        gradients = [weight.grad for weight in learner.parameters()]
        assert all(gradient.dtype == torch.float32 for gradient in gradients)
        assert {part.dtype for part in vars(cost).values()} == {torch.float32}
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        found.append((cost.total.detach(), flat))
    (whole, exact), (other, rounded) = found
    # Eight bits: four parts in a thousand a rounding, and there is a row of them.
    torch.testing.assert_close(other, whole, rtol=0.03, atol=0.0)
    assert not torch.equal(other, whole)
    assert torch.cosine_similarity(exact, rounded, dim=0) > 0.98


def test_it_learns_in_bf16_and_the_weights_stay_whole(images: list[LabeledImage]) -> None:
    settings = replace(TILES, width=4, batch=32, positives=8, epochs=3, epoch_updates=15)
    settings = replace(settings, objective="pn-balanced", learning_rate=1e-2, precision="bf16")
    first, again = (train_network(images, images, RADIUS, PRIOR, settings) for _ in range(2))
    assert first.history[-1].loss < 0.8 * first.history[0].loss
    assert [e.loss for e in first.history] == [e.loss for e in again.history]
    assert all(w.dtype == torch.float32 for w in first.network.parameters())
    assert all(w.is_contiguous() for w in first.network.parameters())


def test_only_a_gpu_computes_in_bf16_without_being_told(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert (
        uses_bfloat16("auto", cpu),
        uses_bfloat16("bf16", cpu),
        uses_bfloat16("float32", cpu),
    ) == (
        False,
        True,
        False,
    )
    for able in (True, False):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: able)  # noqa: B023
        assert uses_bfloat16("auto", gpu) == able
        assert not uses_bfloat16("float32", gpu)
    with pytest.raises(BadInput, match="precision"):
        replace(TILES, precision="half")
