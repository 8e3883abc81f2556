"""Bad areas: the second output of a network, what is made of it, and what is not picked there."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image as Pillow
from safetensors.torch import save_file
from scipy import ndimage
from torch import nn

from heliodor.conventions import (
    FloatArray,
    Image,
    Shape,
)
from heliodor.data.coordinates.formats.tables import read_picks
from heliodor.data.coordinates.labels import LabeledImage
from heliodor.data.micrographs.sources import find_sources
from heliodor.data.micrographs.working_images import WorkingImages
from heliodor.errors import BadInput
from heliodor.evaluation.calibration import Calibration, CalibrationCurve
from heliodor.integrations.topaz.main import main as topaz
from heliodor.models.inference_network import InferenceNetwork
from heliodor.models.model_file import (
    MODEL_FORMAT,
    fingerprint_model,
    load_model,
    save_model,
)
from heliodor.models.networks import (
    NETWORKS,
    Network,
    build_network,
    tensor_shapes,
)
from heliodor.picking.batch import DecoySearch, pick_micrographs
from heliodor.picking.candidates import find_candidates
from heliodor.picking.contamination import DISTANCE, ContaminationMask
from heliodor.picking.micrograph_quality import MicrographMeasurements, assess_micrographs
from heliodor.picking.score_maps import compute_score_maps, score_normalized
from heliodor.picking.scoring import (
    score_image,
    score_lattice,
    score_smoothly,
    score_with_contaminants,
)
from heliodor.picking.settings import PickSettings
from heliodor.report import report
from heliodor.report.gallery import draw_micrograph
from heliodor.simulation import SimulationSettings, simulate_micrograph
from heliodor.training.score_calibration import CalibrationSet
from helpers.cli import call, done
from helpers.networks import (
    card,
    discs,
    model,
    noise,
    scattered,
    scrambled,
    working,
    write_mrc,
)
from unit.picking.test_micrograph_quality import table
from unit.report.test_report import item, minimal

Mask = NDArray[np.bool_]
masks = st.tuples(st.integers(1, 24), st.integers(1, 24), st.integers(0, 10**6)).map(
    lambda own: blobs(own[:2], own[2])
)
names = st.sampled_from(sorted(NETWORKS))


def blobs(shape: Shape, seed: int) -> Mask:
    """A mask of areas of all sizes; sometimes of none, or nothing else."""
    random = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(random.standard_normal(shape), random.uniform(0.3, 4))
    return np.asarray(smooth > random.uniform(-1, 1) * np.abs(smooth).max())


def both_heads(name: str, width: int = 4, seed: int = 0, norm: bool = True) -> Network:
    """A scrambled network that tells contaminants too, at random."""
    network = scrambled(name, width, seed, norm=norm)
    network.add_contaminant_classifier()
    assert network.contaminant is not None
    with torch.no_grad():
        network.contaminant.bias.fill_(0.25)  # type: ignore[union-attr]
    return network.eval()


def plain(network: Network) -> Network:
    """The same network without its second classifier."""
    state = {k: v for k, v in network.state_dict().items() if not k.startswith("contaminant")}
    first = next(module for module in network.modules() if isinstance(module, nn.Conv2d))
    normed = any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    bare = build_network(network.name, first.out_channels, norm=normed)
    bare.load_state_dict(state)
    return bare.eval()


# ---- the network and its file ----


@pytest.mark.parametrize("name", sorted(NETWORKS))
@pytest.mark.parametrize("norm", [True, False])
def test_shapes_are_those_of_the_network_that_is_built(name: str, norm: bool) -> None:
    expected = tensor_shapes(name, 3, norm, contaminant=True)
    network = build_network(name, 3, norm=norm, contaminant=True)
    assert expected == {k: tuple(v.shape) for k, v in network.state_dict().items()}
    channels = network.classifier.in_channels
    more = {"contaminant.weight": (1, channels, 1, 1), "contaminant.bias": (1,)}
    assert expected == tensor_shapes(name, 3, norm) | more


def test_a_second_classifier_changes_no_number_that_is_drawn() -> None:
    drawn = []
    for contaminant in (False, True):
        torch.manual_seed(3)
        drawn.append(build_network("conv31", 4, contaminant=contaminant).state_dict())
    for key, value in drawn[0].items():
        assert torch.equal(drawn[1][key], value)


@settings(max_examples=20)
@given(name=names, dense=st.booleans(), more=st.integers(0, 20), seed=st.integers(0, 99))
def test_both_are_one_pass(name: str, dense: bool, more: int, seed: int) -> None:
    network = both_heads(name, 2, seed)
    side = network.receptive_field + more
    x = torch.from_numpy(noise((side, side), seed))[None, None].expand(2, 1, side, side)
    with torch.inference_mode():
        both = network.score_with_contaminants(x, dense)
        assert torch.equal(both[:, 0], network(x, dense))
        assert torch.equal(both[:, 0], plain(network)(x, dense))
        swapped = both_heads(name, 2, seed)
        assert network.contaminant is not None
        swapped.classifier = network.contaminant
        assert torch.equal(both[:, 1], swapped(x, dense))
    assert both.shape[:2] == (2, 2)
    with pytest.raises(ValueError, match="no classifier of contaminants"):
        plain(network).score_with_contaminants(x)
    with pytest.raises(ValueError, match="no classifier of contaminants"):
        InferenceNetwork(plain(network)).score_with_contaminants(x[0, 0])


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_a_model_file_comes_back_with_both(name: str, tmp_path: Path) -> None:
    original = model(both_heads(name, 3), network=name, width=3, contaminant=True)
    save_model(tmp_path / "m.safetensors", original)
    loaded = load_model(tmp_path / "m.safetensors")
    assert loaded.card == original.card
    assert loaded.card.contaminant
    before, after = original.network.state_dict(), loaded.network.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(after[key], value) for key, value in before.items())
    shown = done("model", "show", tmp_path / "m.safetensors", "--json")
    assert json.loads(shown.out)["contaminant"] is True
    assert "contaminant" in done("model", "show", tmp_path / "m.safetensors").out


def test_an_old_card_has_none(tmp_path: Path) -> None:
    values = asdict(card())
    del values["contaminant"]
    path = tmp_path / "m.safetensors"
    save_file(model().network.state_dict(), path, metadata={MODEL_FORMAT: json.dumps(values)})
    assert load_model(path).card == card()
    assert not load_model(path).card.contaminant


@pytest.mark.parametrize(
    ("said", "there", "message"),
    [
        (True, False, "do not fit its model card"),
        (False, True, "do not fit its model card"),
        (1, True, "incompletely described"),
        ("yes", True, "incompletely described"),
        (None, False, "incompletely described"),
    ],
)
def test_a_card_that_says_otherwise(said: Any, there: bool, message: str, tmp_path: Path) -> None:
    network = both_heads("conv31") if there else scrambled("conv31")
    values = asdict(card()) | {"contaminant": said}
    path = tmp_path / "m.safetensors"
    save_file(network.state_dict(), path, metadata={MODEL_FORMAT: json.dumps(values)})
    with pytest.raises(BadInput, match=message):
        load_model(path)


def test_the_fingerprint_knows_it() -> None:
    first = model(both_heads("conv31"), contaminant=True)
    other = model(both_heads("conv31"), contaminant=True)
    assert fingerprint_model(first) != fingerprint_model(other)  # drawn anew
    other.network.load_state_dict(first.network.state_dict())
    assert fingerprint_model(first) == fingerprint_model(other)
    assert fingerprint_model(first) != fingerprint_model(model(plain(first.network)))


def test_an_onnx_file_has_both(tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    pytest.importorskip("onnx", reason="onnx is not installed")
    network = both_heads("resnet8", 2)
    save_model(
        tmp_path / "m.safetensors", model(network, network="resnet8", width=2, contaminant=True)
    )
    done("model", "export", tmp_path / "m.safetensors", "-o", tmp_path / "m.onnx")
    session = onnxruntime.InferenceSession(
        str(tmp_path / "m.onnx"), providers=["CPUExecutionProvider"]
    )
    assert [out.name for out in session.get_outputs()] == ["log_odds", "contaminant_log_odds"]
    for shape in ((70, 91), (81, 64)):
        image = noise(shape, 4)
        found = session.run(None, {"image": image[None, None]})
        assert [own.shape for own in found] == [(1, 1, *shape)] * 2
        maps = score_with_contaminants(network, image, 1)
        np.testing.assert_allclose(found[0][0, 0], maps.particle, atol=1e-4)
        assert maps.contaminant is not None
        step = network.stride
        np.testing.assert_allclose(found[1][0, 0, ::step, ::step], maps.contaminant, atol=1e-4)


# ---- scoring ----


@settings(max_examples=15)
@given(
    name=names,
    step=st.sampled_from([1, 2, 4]),
    shape=st.tuples(st.integers(2, 60), st.integers(2, 60)),
    seed=st.integers(0, 99),
)
def test_the_particles_score_is_the_same_to_the_last_bit(
    name: str, step: int, shape: Shape, seed: int
) -> None:
    network, image = both_heads(name, 16, seed), noise(shape, seed)
    step = min(step, network.stride)
    maps = score_with_contaminants(network, image, step)
    bare = score_with_contaminants(plain(network), image, step)
    assert bare.contaminant is None
    assert maps.particle.tobytes() == bare.particle.tobytes()
    assert maps.particle.tobytes() == score_smoothly(plain(network), image, step).tobytes()
    # And the other is what the same classifier says in the place of the first.
    assert maps.contaminant is not None
    assert network.contaminant is not None
    network.classifier = network.contaminant
    expected = score_image(network, image)[:: network.stride, :: network.stride]
    scale = max(1.0, float(np.abs(expected).max()))
    np.testing.assert_allclose(maps.contaminant, expected, rtol=0, atol=2e-5 * scale)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_bands_of_threads_give_one_lattice(threads: int) -> None:
    network, image = both_heads("resnet8", 2), noise((3 * 128 + 7, 50), 1)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        maps = score_with_contaminants(network, image, 1)
    finally:
        torch.set_num_threads(before)
    assert maps.contaminant is not None
    assert maps.contaminant.shape == (-(-len(image) // network.stride), -(-50 // network.stride))
    assert network.contaminant is not None
    network.classifier = network.contaminant
    expected = score_lattice(network, image, network.stride)
    np.testing.assert_allclose(maps.contaminant, expected, rtol=0, atol=2e-4)


# ---- areas ----


@given(mask=masks, pixel=st.floats(0.5, 40), data=st.data())
def test_distances_are_those_on_a_fine_grid(mask: Mask, pixel: float, data: st.DataObject) -> None:
    areas = ContaminationMask(mask, pixel, 0.5)
    fine = 8  # pixels of the grid in one of the mask, whose centers are never on an edge
    grid = np.kron(mask, np.ones((fine, fine), np.bool_))
    row = data.draw(st.integers(0, len(grid) - 1))
    column = data.draw(st.integers(0, grid.shape[1] - 1))
    xy = (np.array([[column, row]]) + 0.5) / fine - 0.5
    inside = bool(grid[row, column])
    assert areas.contains(xy * pixel).tolist() == [inside]
    (found,) = areas.distance_angstrom(xy * pixel) / pixel
    other = grid != inside
    if not other.any():
        assert found == (-math.inf if inside else math.inf)
        return
    # From the center of a pixel of the grid to the nearest one on the other side, half of it less.
    exact = ndimage.distance_transform_edt(~other)[row, column] / fine
    assert abs(found) >= exact - 1.5 / fine
    assert abs(found) <= exact + (math.sqrt(0.5) - 0.5) + 0.5 / fine
    assert (found < 0) == inside or found == 0


@given(mask=masks)
def test_distances_at_the_points_of_the_lattice_are_exact(mask: Mask) -> None:
    places = np.argwhere(np.ones_like(mask))[:, ::-1] * 20.0
    found = ContaminationMask(mask, 20.0, 0.5).distance_angstrom(places).reshape(mask.shape)
    if not mask.any():
        assert (found == np.inf).all()
    elif mask.all():
        assert (found == -np.inf).all()
    else:
        outside, inside = (ndimage.distance_transform_edt(own) for own in (~mask, mask))
        expected = np.where(mask, -(inside - 0.5), outside - 0.5) * 20.0
        np.testing.assert_allclose(found, expected, rtol=1e-12)


@given(mask=masks, diameter=st.floats(10, 300), data=st.data())
def test_no_area_and_no_hole_is_smaller_than_a_particle(
    mask: Mask, diameter: float, data: st.DataObject
) -> None:
    strength = data.draw(st.floats(0.1, 50))
    log_odds = np.where(mask, strength, -strength).astype(np.float32)
    found = ContaminationMask.from_log_odds(log_odds, 20.0, diameter)
    least = math.pi / 4 * (diameter / 20.0) ** 2
    for side in (found.mask, ~found.mask):
        areas, number = ndimage.label(side)
        sizes = np.bincount(areas.ravel())[1 : number + 1]
        # One that fills the whole micrograph has no other side to belong to.
        assert number == 0 or sizes.min() >= least or side.all()
    assert found.fraction == found.mask.mean()
    assert not ContaminationMask.from_log_odds(
        np.full_like(log_odds, -strength), 20.0, diameter
    ).mask.any()


@given(mask=masks)
def test_without_size_or_noise_the_mask_is_where_a_contaminant_is_likely(mask: Mask) -> None:
    log_odds = np.where(mask, 1.0, -4.0).astype(np.float32)
    # A particle far smaller than a pixel: nothing is smoothed, nothing too small.
    found = ContaminationMask.from_log_odds(log_odds, 20.0, 0.1)
    np.testing.assert_array_equal(found.mask, mask)
    # What is possible counts where it touches what is likely, and nowhere else.
    grown = np.where(mask, log_odds, -1.5).astype(np.float32)
    assert ContaminationMask.from_log_odds(grown, 20.0, 0.1).mask.all() == mask.any()
    apart = np.full((3, 9), -4.0, np.float32)
    apart[1, 1], apart[1, 2], apart[1, 6] = 1.0, -1.5, -1.5
    assert np.argwhere(ContaminationMask.from_log_odds(apart, 20.0, 0.1).mask).tolist() == [
        [1, 1],
        [1, 2],
    ]
    # Even odds count.
    assert ContaminationMask.from_log_odds(np.zeros((3, 4), np.float32), 20.0, 0.1).mask.all()


@given(mask=masks, seed=st.integers(0, 99))
def test_dead_borders_are_no_part_of_it(mask: Mask, seed: int) -> None:
    alive = np.zeros_like(mask)
    alive[seed % 3 :, : mask.shape[1] - seed % 2] = True
    found = ContaminationMask.from_log_odds(
        np.where(mask, 5.0, -5.0).astype(np.float32), 20.0, 40.0, alive
    )
    assert not (found.mask & ~alive).any()
    bad, there = found.mask.sum(), alive.sum()
    assert found.fraction == (bad / there if there else 0.0)


@given(mask=masks, pixel=st.floats(0.5, 40), fraction=st.floats(0, 1))
def test_what_a_journal_keeps_is_all(mask: Mask, pixel: float, fraction: float) -> None:
    areas = ContaminationMask(mask, pixel, fraction)
    again = ContaminationMask.from_dict(json.loads(json.dumps(areas.as_dict())))
    np.testing.assert_array_equal(again.mask, mask)
    assert (again.pixel_size_angstrom, again.fraction) == (pixel, fraction)


@pytest.mark.parametrize(
    "change",
    [
        {"shape": [0, 4]},
        {"shape": [2**20, 2**20]},
        {"shape": [5, 40]},
        {"shape": 3},
        {"mask": "AAAA"},
        {"mask": 7},
        {"fraction": "x"},
    ],
)
def test_a_damaged_mask_is_refused(change: dict[str, Any]) -> None:
    values = ContaminationMask(blobs((9, 9), 1), 20.0, 0.5).as_dict()
    with pytest.raises((ValueError, LookupError, TypeError)):
        ContaminationMask.from_dict(values | change)


# ---- picking ----

#: How much brighter carbon is than ice, in standard deviations of the noise.
CARBON = 4.0


def hand_made() -> Network:
    """conv31 made by hand: twice the darkness of a disc less 6, and how bright a square is.

    Linear throughout. A disc of depth 8 has log-odds of 10 on ice and of 2 on carbon, ice has -6,
    and a contaminant has 80 on carbon and -80 on ice.
    """
    network = build_network("conv31", 4, contaminant=True).eval()
    offset = np.arange(7) - 3
    disc = offset[:, None] ** 2 + offset[None, :] ** 2 <= 9
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    first, second, third, particle, contaminant = convolutions
    with torch.no_grad():
        for module in convolutions:
            module.weight.zero_()
        for module in network.modules():
            if isinstance(module, nn.PReLU):
                module.weight.fill_(1.0)
        first.weight[0, 0] = torch.from_numpy(disc / -disc.sum())
        first.weight[1, 0] = 1 / 49
        second.weight[0, 0, 2, 2] = 1.0
        second.weight[1, 1] = 1 / 25
        for channel in (0, 1):
            third.weight[channel, channel, 2, 2] = 1.0
        particle.weight[0, 0], contaminant.weight[0, 1] = 2.0, 40.0
        assert particle.bias is not None
        assert contaminant.bias is not None
        particle.bias.fill_(-6.0)
        contaminant.bias.fill_(-20.0 * CARBON)
    return network


HAND_MADE = hand_made()
#: 40 A particles, 4 A a pixel.
CARD: dict[str, Any] = {
    "normalization": {"mode": "none"}, "threshold": 0.0, "contaminant": True,
    "training_radius_angstrom": 8.0,
}  # fmt: skip
MODEL = model(HAND_MADE, **CARD)
COLUMNS = (40, 0, 150, 20)
SHAPE = (160, 200)


def carbon_picture(number: int) -> tuple[Image, FloatArray]:
    """Dark discs on noise; as many columns as `COLUMNS` says from the left on are carbon."""
    xy = scattered(SHAPE, 40, 14, number)
    image = discs(SHAPE, xy, depth=8, seed=number)
    image[:, : COLUMNS[number]] += CARBON
    return image, xy


def calibration() -> dict[str, Any]:
    curve = CalibrationCurve(np.array([-6.0, 0.0, 12.0]), np.array([-6.0, 0.0, 12.0]), 100.0)
    return Calibration(curve, (), 4, np.linspace(8, 11, 40), 4.0).as_dict()


@pytest.fixture
def few_repeats(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a calibration be of fewer resampled micrographs, which takes less time."""
    monkeypatch.setattr("heliodor.evaluation.calibration.BOOTSTRAP_REPEATS", 2)


@pytest.fixture
def ground(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model that tells carbon, one that does not, and four micrographs."""
    monkeypatch.chdir(tmp_path)
    for number in range(4):
        write_mrc(tmp_path / "m" / f"{number}.mrc", carbon_picture(number)[0])
    save_model(tmp_path / "model.safetensors", MODEL)
    save_model(tmp_path / "old.safetensors", model(normalization={"mode": "none"}))
    return tmp_path


def picked(out: str, *options: object, name: str = "model.safetensors") -> list[dict[str, str]]:
    """Pick by the command line, and return the rows of picks.tsv."""
    done("pick", "--model", name, "--micrographs", "m", "-o", out, "--device", "cpu", *options)
    return rows_in(Path(out, "picks.tsv"))


def rows_in(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream, delimiter="\t"))


def by_name(rows: Sequence[dict[str, str]]) -> dict[str, list[tuple[float, float, str]]]:
    found: dict[str, list[tuple[float, float, str]]] = {f"m/{n}.mrc": [] for n in range(4)}
    for row in rows:
        found[row["micrograph"]].append((float(row["x_px"]), float(row["y_px"]), row["log_odds"]))
    return found


@pytest.mark.parametrize("scores", ["smooth", "dense"])
def test_bad_areas_are_where_the_carbon_is(scores: Any) -> None:
    for number in range(4):
        image, _ = carbon_picture(number)
        seen = compute_score_maps(MODEL, working(image), image, scores=scores)
        assert seen.contamination is not None
        assert seen.contamination.pixel_size_angstrom == 16.0
        assert seen.contamination.mask.shape == (40, 50)
        expected = COLUMNS[number] / SHAPE[1]
        assert abs(seen.contamination.fraction - expected) <= 0.02
        # One score or the other, they are those of the same model without the second output.
        bare = model(plain(HAND_MADE), **CARD | {"contaminant": False})
        assert compute_score_maps(bare, working(image), image, scores=scores).contamination is None
        expected_score = score_normalized(bare, working(image), image, scores=scores)
        assert seen.score.tobytes() == expected_score.tobytes()


def test_candidates_in_bad_areas_are_left_out_after_the_suppression() -> None:
    image, xy = carbon_picture(0)
    seen = compute_score_maps(MODEL, working(image), image)
    assert seen.contamination is not None
    everything = find_candidates(MODEL, working(image), seen.score, PickSettings())
    assert DISTANCE not in everything.extra
    kept = find_candidates(
        MODEL, working(image), seen.score, PickSettings(bad_areas="keep"), seen.contamination
    )
    np.testing.assert_array_equal(kept.xy_px, everything.xy_px)
    np.testing.assert_array_equal(kept.score, everything.score)
    distance = seen.contamination.distance_angstrom(kept.xy_px * 4.0)
    np.testing.assert_array_equal(kept.extra[DISTANCE], distance)
    # The carbon ends in the middle between two columns.
    expected = (kept.xy_px[:, 0] - 39.5) * 4.0
    assert np.abs(distance - expected).max() <= 24.0
    left = find_candidates(MODEL, working(image), seen.score, PickSettings(), seen.contamination)
    out = seen.contamination.contains(kept.xy_px * 4.0)
    assert 0 < out.sum() < len(kept)
    np.testing.assert_array_equal(left.xy_px, kept.xy_px[~out])
    np.testing.assert_array_equal(left.extra[DISTANCE], distance[~out])
    assert (left.extra[DISTANCE] >= 0).all()
    # Particles on ice are all there.
    far = xy[xy[:, 0] > 46]
    picks = left.xy_px[left.score > 4]
    nearest = np.linalg.norm(far[:, None] - picks[None], axis=2).min(axis=1)
    assert (nearest <= 2).all()


def test_pick_leaves_out_what_lies_on_carbon(ground: Path) -> None:
    left, kept = picked("left"), picked("kept", "--bad-areas", "keep")
    assert list(left[0])[-2:] == ["pixel_size_angstrom", "bad_area_distance_angstrom"]
    for row in kept:
        number = int(row["micrograph"][2])
        distance = float(row[DISTANCE])
        expected = (float(row["x_px"]) - COLUMNS[number] + 0.5) * 4.0
        # Dark particles on the edge of the carbon, which is bright, move it a little.
        assert distance == math.inf if number == 1 else abs(distance - expected) <= 40.0
    inside = [row for row in kept if float(row[DISTANCE]) < 0]
    chosen = [row for row in inside if row["selected"] == "1"]
    assert len(chosen) >= 5  # of particles on carbon, which are picks like others
    assert {name: sorted(own) for name, own in by_name(left).items()} == {
        name: sorted(own)
        for name, own in by_name([row for row in kept if row not in inside]).items()
    }
    # The column comes back, as text, as all do that this program does not interpret.
    table = read_picks("left/picks.tsv")
    assert [*map(float, table.extra[DISTANCE])] == [float(row[DISTANCE]) for row in left]
    # Micrographs are told apart in the table and in the record.
    for out in ("left", "kept"):
        shares = [float(row["bad_area"]) for row in rows_in(Path(out, "micrographs.tsv"))]
        record = json.loads(Path(out, "run.json").read_text())
        assert record["bad_areas"]["no_picks_on"] == []
        told = [*record["bad_areas"]["fraction"].values()]
        for number, (share, own) in enumerate(zip(shares, told, strict=True)):
            assert share == round(own, 3)
            assert abs(share - COLUMNS[number] / SHAPE[1]) <= 0.02
    assert not Path("left/bad_areas").exists()
    counts = [int(row["picks"]) for row in rows_in(Path("left/micrographs.tsv"))]
    of_files = json.loads(Path("left/run.json").read_text())["picks_per_micrograph"]
    assert [*of_files.values()] == counts


def test_a_micrograph_of_mostly_bad_area_has_no_picks(ground: Path) -> None:
    usual = by_name(picked("usual"))
    strict = by_name(picked("strict", "--max-contamination", "0.5"))
    assert usual["m/2.mrc"]
    assert strict == usual | {"m/2.mrc": []}
    rows = rows_in(Path("strict/micrographs.tsv"))
    assert [row["outlier"] for row in rows] == [
        "", "", f"no picks: {float(rows[2]['bad_area']):.0%} of it is contamination", ""
    ]  # fmt: skip
    assert rows[2]["picks"] == rows[2]["candidates"] == "0"
    record = json.loads(Path("strict/run.json").read_text())
    assert record["bad_areas"]["no_picks_on"] == ["m/2.mrc"]
    assert record["outliers"] == [{"micrograph": "m/2.mrc", "flags": [rows[2]["outlier"]]}]
    assert "m/2.mrc" not in Path("strict/autopick.star").read_text()
    assert "m/1.mrc" in Path("strict/autopick.star").read_text()
    clean = by_name(picked("clean", "--max-contamination", "0", "--bad-areas", "keep"))
    assert [name for name, own in clean.items() if own] == ["m/1.mrc"]
    # And where nothing is left of any, that is no error.
    Path("m/1.mrc").unlink()
    assert picked("none", "--max-contamination", "0") == []
    assert json.loads(Path("none/run.json").read_text())["picks"] == 0


def test_masks_are_written_and_go_again(ground: Path) -> None:
    (ground / "m" / "deep").mkdir()
    (ground / "m" / "3.mrc").rename(ground / "m" / "deep" / "3.mrc")
    names = ["m/0.mrc", "m/1.mrc", "m/2.mrc", "m/deep/3.mrc"]
    lines = ["data_micrographs", "", "loop_", "_rlnMicrographName #1", *names]
    Path("mics.star").write_text("\n".join(lines) + "\n")
    arguments = ["pick", "--model", "model.safetensors", "--micrographs", "mics.star"]
    arguments += ["-o", "out", "--device", "cpu"]
    done(*arguments)
    before = Path("out/picks.tsv").read_bytes()
    again = done(*arguments, "--bad-area-masks")  # nothing is picked on again for them
    assert "already picked: 4 of" in again.err
    assert Path("out/picks.tsv").read_bytes() == before
    files = sorted(path.relative_to("out") for path in Path("out/bad_areas").rglob("*.png"))
    stars = sorted(path.relative_to("out") for path in Path("out").rglob("*_autopick.star"))
    assert [str(file.relative_to("bad_areas")) for file in files] == [
        str(file).replace("_autopick.star", ".png") for file in stars
    ]
    assert len({file.parent for file in files}) == 2
    for file in files:
        picture = Pillow.open(Path("out", file))
        assert picture.mode == "L"
        number = int(file.stem)
        image, _ = carbon_picture(number)
        areas = compute_score_maps(MODEL, working(image), image).contamination
        assert areas is not None
        np.testing.assert_array_equal(np.asarray(picture), np.where(areas.mask, 255, 0))
    done(*arguments)
    assert not list(Path("out/bad_areas").rglob("*.png"))


def results(out: str) -> dict[str, bytes]:
    """All that a picking leaves but its journal, and of its record what is no time."""
    found = {
        str(path.relative_to(out)): path.read_bytes()
        for path in sorted(Path(out).rglob("*"))
        if path.is_file() and path.name != ".picking.jsonl"
    }
    record = json.loads(found.pop("run.json"))
    for key in ("seconds", "started", "command_line", "threads", "arguments"):
        del record[key]
    return found | {"record": json.dumps(record).replace(out, "OUT").encode()} | {
        name: content.replace(out.encode(), b"OUT")
        for name, content in found.items()
        if name.endswith(".star")
    }  # fmt: skip


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize(
    "options", [[], ["--bad-areas", "keep"], ["--max-contamination", "0.5", "--bad-area-masks"]]
)
def test_resumed_or_on_more_threads_all_is_the_same(
    options: list[str], known: bool, ground: Path, few_repeats: None
) -> None:
    if known:
        own = model(HAND_MADE, **CARD, calibration=calibration())
        save_model(Path("model.safetensors"), own)
    options = [*options, "--threshold-series", "3"]
    picked("whole", *options, "--threads", "1")
    picked("wide", *options, "--threads", "3")
    assert results("wide") == results("whole")
    # Cut short after two micrographs, and in the middle of the line of the third.
    picked("short", *options, "--threads", "1")
    lines = Path("short/.picking.jsonl").read_bytes().splitlines(keepends=True)
    places = [n for n, line in enumerate(lines) if line.startswith(b'{"micrograph"')]
    cut = b"".join(lines[: places[2]]) + lines[places[2]][:200]
    for path in Path("short").rglob("*"):
        if path.is_file() and path.name != ".picking.jsonl":
            path.unlink()
    Path("short/.picking.jsonl").write_bytes(cut)
    said = done("pick", "--model", "model.safetensors", "--micrographs", "m", "-o", "short",
                "--device", "cpu", *options)  # fmt: skip
    assert "already picked: 2 of" in said.err
    assert results("short") == results("whole")


def test_other_settings_are_another_picking(ground: Path) -> None:
    picked("out")
    for options in (["--bad-areas", "keep"], ["--max-contamination", "0.5"], []):
        said = done("pick", "--model", "model.safetensors", "--micrographs", "m", "-o", "out",
                    "--device", "cpu", *options)  # fmt: skip
        assert "done already" not in said.err
        fresh = f"fresh{len(options)}{''.join(options)}"
        picked(fresh, *options)
        assert Path("out/picks.tsv").read_bytes() == Path(fresh, "picks.tsv").read_bytes()


@pytest.mark.parametrize(
    "options",
    [
        ["--bad-areas", "keep"],
        ["--bad-areas", "leave-out"],
        ["--max-contamination", "0.5"],
        ["--bad-area-masks"],
    ],
)
def test_options_that_mean_nothing_are_refused(options: list[str], ground: Path) -> None:
    common = ["--micrographs", "m", "-o", "out", "--device", "cpu", *options]
    sentence = call("pick", "--model", "old.safetensors", *common).sentence
    assert sentence.startswith(options[0].removeprefix("--").replace("-", "_"))
    assert options[0] in sentence
    assert "with a contaminant output" in sentence
    assert not Path("out/picks.tsv").exists()
    Path("labels.tsv").write_text("image_name\tx_coord\ty_coord\n0\t50\t50\n")
    scratch = ("--diameter", "40", "--from", "scratch")
    refused = call("run", "--labels", "labels.tsv", *scratch, *common)
    assert refused.code == 2
    assert "with a contaminant output" in refused.sentence
    assert not Path("out/model.safetensors").exists()
    if options != ["--bad-area-masks"]:  # a flag, which RELION cannot give
        refused = call("relion", "pick", "--o", "job", "--in_mics", "m",
                       "--model", "old.safetensors", *options, "--j", "1")  # fmt: skip
        assert refused.code == 2
        assert "with a contaminant output" in refused.err


def test_values_that_cannot_be_are_refused(ground: Path) -> None:
    for options, message in (
        (["--bad-areas", "maybe"], "bad_areas must be one of leave-out, keep, not 'maybe'"),
        (["--max-contamination", "1.5"], "must be from 0 to 1, not 1.5"),
        (["--max-contamination", "-0.1"], "must be from 0 to 1, not -0.1"),
    ):
        said = call("pick", "--model", "model.safetensors", "--micrographs", "m", "-o", "out",
                    *options)  # fmt: skip
        assert (said.code, message in said.sentence) == (2, True)
    with pytest.raises(BadInput, match="from 0 to 1, not nan"):
        PickSettings(max_contamination=math.nan)


def test_relion_picks_likewise(ground: Path) -> None:
    expected = picked("out", "--max-contamination", "0.5")
    done("relion", "pick", "--o", "job", "--in_mics", "m", "--model", "model.safetensors",
         "--max_contamination", "0.5", "--j", "1", "--device", "cpu")  # fmt: skip
    assert rows_in(Path("job/picks.tsv")) == expected


def test_the_drop_in_leaves_them_out(ground: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picked("out", "--exclusion-radius", "20")
    topaz(["extract", "-m", "model.safetensors", "-r", "5", "-t", "0", "-o", "found.txt",
           "-d", "-1", "m/0.mrc", "m/1.mrc"])  # fmt: skip
    found = read_picks("found.txt")
    for name, own in found.split_by_micrograph():
        rows = by_name(rows_in(Path("out/picks.tsv")))[f"m/{name}.mrc"]
        expected = sorted((round(x), round(y)) for x, y, score in rows if float(score) > 0)
        assert sorted(map(tuple, own.xy_px.tolist())) == expected
        assert min(x for x, _ in expected) > 36 or name == "1"


# ---- calibration ----


def test_what_is_left_out_is_not_counted(ground: Path) -> None:
    own = replace(MODEL, card=replace(MODEL.card, calibration=calibration()))
    save_model(Path("model.safetensors"), own)
    search_all = {}
    sources = find_sources("m")
    search = DecoySearch(frozenset(s.name for s in sources), 4.0)
    for wanted in (
        PickSettings(), PickSettings(bad_areas="keep"), PickSettings(max_contamination=0.5)
    ):  # fmt: skip
        images = WorkingImages(4.0, None, 40.0)
        search_all[wanted] = pick_micrographs(own, sources, images, wanted, search=search)
    left, kept, strict = search_all.values()
    for result in (left, kept, strict):
        assert result.sheet.candidates.total == len(result.candidates)
    areas = [sum(g.area for g in result.sheet.groups) for result in (left, kept, strict)]
    whole = SHAPE[0] * SHAPE[1] * 16.0
    fractions = [kept.store.get(s.name).contamination.fraction for s in sources]  # type: ignore[union-attr]
    np.testing.assert_allclose(areas[0], whole * sum(1 - f for f in fractions))
    assert areas[1] == 4 * whole
    np.testing.assert_allclose(areas[2], whole * sum(1 - f for f in fractions if f <= 0.5))
    assert (left.sheet.micrographs, strict.sheet.micrographs) == (4, 3)
    # Decoys likewise: on bright carbon with its contrast reversed there are many.
    decoys = [sum(g.decoys.total for g in result.sheet.groups) for result in (left, kept, strict)]
    assert decoys[1] > decoys[0] >= decoys[2]
    for wanted, result in search_all.items():
        for source in sources:
            found = result.store.get(source.name)
            assert found.refused == (
                wanted.max_contamination is not None and source.name == "m/2.mrc"
            )
            assert found.contamination is not None
            assert found.measured.contaminated_fraction == found.contamination.fraction
            if wanted.bad_areas == "leave-out":
                assert not found.contamination.contains(found.candidates.xy_px * 4.0).any()


def test_what_is_expected_is_of_what_is_picked(ground: Path, few_repeats: None) -> None:
    own = model(HAND_MADE, **CARD, calibration=calibration())
    save_model(Path("model.safetensors"), own)
    for out, options in (
        ("a", []),
        ("b", ["--bad-areas", "keep"]),
        ("c", ["--max-contamination", "0.5"]),
    ):
        rows = picked(out, *options)
        record = json.loads(Path(out, "run.json").read_text())
        chosen = [row for row in rows if row["selected"] == "1"]
        assert record["expected"]["picks"] == record["picks"] == len(chosen)
        mean = np.mean([float(row["probability"]) for row in chosen])
        assert abs(record["expected"]["precision"]["value"] - mean) <= 2e-3


def outside_carbon(image: Image, xy: FloatArray) -> FloatArray:
    areas = compute_score_maps(MODEL, working(image), image).contamination
    assert areas is not None
    return xy[~areas.contains(xy * areas.pixel_size_angstrom / HAND_MADE.stride)]


def test_labels_on_carbon_end_that_it_is_told(few_repeats: None) -> None:
    pictures = [carbon_picture(number) for number in range(3)]
    distances = PickSettings().distances_px(40.0, 4.0)
    told = []
    for keep in (True, False):
        labelled = [
            LabeledImage(image, xy if keep else outside_carbon(image, xy))
            for image, xy in pictures
        ]
        probe = CalibrationSet(labelled, [], distances, 10.0, 2.0, torch.device("cpu"), 1)
        told.append(probe.measure_scale(HAND_MADE, 0))
    assert told[0].labels_in_contamination > 0.01
    assert told[1].labels_in_contamination == 0
    # Nothing is left out where it is not believed.
    assert told[0].scores.total > told[1].scores.total


@pytest.mark.parametrize("most", [None, 0.5, 0.0])
def test_the_probe_counts_what_is_picked(most: float | None, few_repeats: None) -> None:
    pictures = [carbon_picture(number) for number in range(4)]
    # Nobody labels what lies on carbon; where labels do, it would not be believed to be carbon.
    labelled = [LabeledImage(image, outside_carbon(image, xy)) for image, xy in pictures]
    wanted = PickSettings(max_contamination=most)
    found = {}
    for how in (wanted, replace(wanted, bad_areas="keep")):
        distances = how.distances_px(40.0, 4.0)
        probe = CalibrationSet(labelled[:3], [labelled[3].image], distances, 10.0, 2.0,
                      torch.device("cpu"), 1, how)  # fmt: skip
        found[how.bad_areas] = (
            probe.measure_scale(HAND_MADE, 0),
            probe.find_threshold(HAND_MADE, 30.0),
        )
        # What a model of this level finds there.
        level = found[how.bad_areas][0]
        own = replace(MODEL, card=replace(MODEL.card, background=level.background))
        totals = 0
        for image, _ in pictures:
            seen = compute_score_maps(own, working(image), image)
            totals += len(
                find_candidates(own, working(image), seen.score, how, seen.contamination)
            )
        assert level.scores.total == totals
    left, kept = found["leave-out"], found["keep"]
    if most == 0.0:
        assert left[0].scores.total == kept[0].scores.total
    else:
        assert left[0].scores.total < kept[0].scores.total
    # To find as many without the carbon, the threshold must be lower.
    assert left[1] < kept[1]


def test_a_network_that_tells_none_is_calibrated_as_ever(few_repeats: None) -> None:
    pictures = [carbon_picture(number) for number in range(4)]
    labelled = [LabeledImage(image, xy) for image, xy in pictures]
    distances = PickSettings().distances_px(40.0, 4.0)
    probe = CalibrationSet(labelled, [], distances, 10.0, 2.0, torch.device("cpu"), 1)
    keeping = replace(probe, picking=PickSettings(bad_areas="keep"))
    bare, kept = probe.measure_scale(plain(HAND_MADE), 0), keeping.measure_scale(HAND_MADE, 0)
    assert bare.calibration is not None
    assert kept.calibration is not None
    assert bare.calibration.as_dict() == kept.calibration.as_dict()
    assert probe.find_threshold(plain(HAND_MADE), 30.0) == keeping.find_threshold(HAND_MADE, 30.0)


# ---- trained ----


def test_a_head_trained_for_seconds_tells_simulated_carbon() -> None:
    shape = (384, 384)
    made = SimulationSettings(
        count=40, shape=shape, pixel_size_angstrom=6.0, contaminants=3.0, seed=2
    )
    mics = [simulate_micrograph(made, index) for index in range(3)]
    torch.manual_seed(0)
    network = build_network("resnet8", 4, contaminant=True).train()
    images = [(m.image - m.image.mean()) / m.image.std() for m in mics]
    optimiser = torch.optim.Adam(network.parameters(), 1e-2)
    edge, step = network.receptive_field // 2, network.stride
    x = [
        torch.from_numpy(np.pad(i.astype(np.float32), edge, mode="reflect"))[None, None]
        for i in images
    ]
    y = [torch.from_numpy(m.blocked[::step, ::step].astype(np.float32))[None] for m in mics]
    for turn in range(60):
        both = network.score_with_contaminants(x[turn % 3])
        loss = nn.functional.binary_cross_entropy_with_logits(both[:, 1], y[turn % 3])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    network.eval()
    own = model(network, network="resnet8", width=4, diameter_angstrom=150.0, contaminant=True)
    seen = compute_score_maps(
        own, working(images[0].astype(np.float32), pixel=6.0), images[0].astype(np.float32)
    )
    assert seen.contamination is not None
    truth = mics[0].blocked[::step, ::step]
    overlap = (truth & seen.contamination.mask).sum() / (truth | seen.contamination.mask).sum()
    assert overlap > 0.4


# ---- the report and the table ----


def test_refused_micrographs_are_not_compared() -> None:
    counts = [100, 95, 104, 110, 99, 101, 97, 103, 0]
    tables = table([[2.0] * count for count in counts])
    measured = {
        f"m{i:02d}.mrc": MicrographMeasurements(0.0, 0.0, 0.9 if i == 8 else 0.0) for i in range(9)
    }
    rows = assess_micrographs(tables, 0.0, measured, {"m08.mrc"})
    assert [row.flags for row in rows] == [()] * 8 + [("no picks: 90% of it is contamination",)]
    assert [row.refused for row in rows] == [False] * 8 + [True]
    assert assess_micrographs(tables, 0.0, measured)[8].flags == ("0 picks (median 100)",)


RED = (255, 82, 82)


def red(content: bytes) -> Mask:
    pixels = np.asarray(Pillow.open(io.BytesIO(content)).convert("RGB"))
    return np.asarray((pixels == RED).all(axis=-1))


def test_bad_areas_are_outlined_in_pictures() -> None:
    mask = np.zeros((15, 20), np.bool_)
    mask[3:9, 5:12] = True
    areas = ContaminationMask(mask, 20.0, 0.14)
    shown = item(contamination=areas)  # 60 x 80 pixels of 5 A
    drawn = red(draw_micrograph(shown, 50.0))[:750]  # without the legend
    assert drawn.any()
    scale = 1000 / 80
    rows, columns = np.nonzero(drawn)
    # A lattice point is every fourth pixel: the outline passes halfway between two.
    expected = [(4.5 * 4 + 0.5) * scale, (11.5 * 4 + 0.5) * scale]
    assert abs(columns.min() - expected[0]) <= 4
    assert abs(columns.max() - expected[1]) <= 4
    assert abs(rows.min() - (2.5 * 4 + 0.5) * scale) <= 4
    assert abs(rows.max() - (8.5 * 4 + 0.5) * scale) <= 4
    middle = drawn[
        int(3.5 * 4 * scale) : int(8 * 4 * scale), int(6 * 4 * scale) : int(11 * 4 * scale)
    ]
    assert not middle.any()
    for uniform in (np.zeros_like(mask), np.ones_like(mask)):
        assert not red(
            draw_micrograph(item(contamination=ContaminationMask(uniform, 20.0, 1.0)), 50.0)
        )[:750].any()
    assert not red(draw_micrograph(item(), 50.0)).any()


def test_the_report_says_how_much_is_bad() -> None:
    areas = ContaminationMask(np.eye(4, dtype=np.bool_), 100.0, 0.25)
    measured = {
        "m00.mrc": MicrographMeasurements(0.0, 0.0, 0.25),
        "m01.mrc": MicrographMeasurements(0.0, 0.0, 0.75),
    }
    rows = assess_micrographs(table([[2.0] * 5, []]), 0.0, measured, {"m01.mrc"})
    content = minimal(
        gallery=[item(contamination=areas)],
        quality=rows,
        picks_per_micrograph=[(row.name, row.picks) for row in rows],
    )
    page = report.render_report(content)
    assert "25% contamination" in page
    assert "outlined in red" in page
    assert "median 50%, at most 75%" in page
    assert '<td>m00.mrc</td><td class="number">25.0%</td><td class="number">5</td>' in page
    assert "no picks: 75% of it is contamination" in page
    plainly = report.render_report(
        minimal(gallery=[item()], picks_per_micrograph=[("m00.mrc", 5), ("m01.mrc", 0)])
    )
    assert "contamination" not in plainly.lower()
