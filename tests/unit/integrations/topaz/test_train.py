from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from heliodor.data.coordinates.labels import (
    LabeledImage,
    class_prior,
    make_label_mask,
)
from heliodor.errors import BadInput
from heliodor.evaluation.matching import match_picks
from heliodor.evaluation.metrics import evaluate_picks
from heliodor.evaluation.ranking import average_precision
from heliodor.integrations.topaz import parser, training_recipe
from heliodor.integrations.topaz.class_prior import find_class_prior
from heliodor.integrations.topaz.image_lists import (
    read_images,
    read_labeled,
    split_folds,
)
from heliodor.integrations.topaz.training_log import measure_test_metrics
from heliodor.integrations.topaz.training_recipe import choose_recipe
from heliodor.models.model_file import load_model
from heliodor.picking.scoring import score_image
from heliodor.training.objectives import objective
from heliodor.training.recipes import PAPER, RECIPES
from helpers.networks import disc_detector, labelled_discs
from helpers.topaz_project import (
    Project,
    as_relion,
    curve,
    make,
    run,
)

#: RELION 5's line, but for the lists; its executable sets one thread and one worker.
RELION = "train  -n 8 -r 3 -d -1 -o {out}/model_training.txt --num-threads=1 --num-workers=1"
#: cryoSPARC's line, but for the lists. It trains 10 epochs of 5000 updates of 128 crops, for
#: which a test has no time, so the epochs, their size and the minibatch are others.
CRYOSPARC = (
    "-s 0 -p 0 --num-particles 12 --learning-rate 0.0002 --minibatch-size {minibatch}"
    " --num-epochs {epochs} --method GE-binomial --slack -1.0 --autoencoder 0.0 --l2 0.0"
    " --minibatch-balance 0.0625 --epoch-size {size} --model resnet8 --units 32 --dropout 0.0"
    " --bn on --unit-scaling 2 --ngf 32 --num-workers 1 --cross-validation-seed 7 --radius 3"
    " --num-particles 12 --device 0 --no-pretrained --save-prefix={out}/models/model"
    " -o {out}/train_test_curve.txt"
)
CRYOSPARC_TINY = {"minibatch": 16, "epochs": 2, "size": 2}
#: Options that settle how to learn, small ones.
SMALL = "-m conv31 --units 2 --minibatch-size 8 --minibatch-balance 0.25 --epoch-size 2 -d -1"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return make(tmp_path_factory.mktemp("project"))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fast recipe, faster."""
    small = replace(RECIPES["fast"], width=2, batch=8, positives=3, epoch_updates=6)
    monkeypatch.setitem(RECIPES, "fast", small)


def lists(project: Project) -> str:
    return f"{project.lists('train', [0, 1, 2])} {project.lists('test', [3])}"


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_relion_finds_what_it_expects(
    project: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = f"{RELION.format(out=tmp_path)} {lists(project)} --save-prefix={tmp_path}/model"
    assert run(line) == 0
    saved = sorted(path.name for path in tmp_path.glob("*.sav"))
    assert saved == sorted(f"model_epoch{n}.sav" for n in range(1, 11))
    model = load_model(tmp_path / "model_epoch10.sav")
    card = model.card
    assert (card.best_epoch, card.objective, card.network) == (10, "pn-balanced", "resnet8")
    assert card.working_pixel_size_angstrom == 1.0
    assert card.diameter_angstrom == pytest.approx(71 / 2, rel=0.02)
    assert card.normalization["flatten_px"] == pytest.approx(0.6 * card.diameter_angstrom)
    assert card.extra["units"] == "pixels"
    assert card.training_micrographs == project.names[:3]
    assert card.validation_micrographs == project.names[3:]
    header, rows = curve(tmp_path / "model_training.txt")
    assert header == [
        *("epoch", "iter", "split", "loss", "precision"),
        *("adjusted_precision", "tpr", "fpr", "auprc"),
    ]
    tests = [row for row in rows if row["split"] == "test"]
    assert [row["epoch"] for row in tests] == [str(n) for n in range(1, 11)]
    assert card.validation_ap == pytest.approx(float(tests[-1]["auprc"]))
    # Two epochs of six updates, in ten parts.
    assert len(rows) - len(tests) == card.updates == 10
    said = capsys.readouterr().err
    assert all(text.startswith("# ") for text in said.splitlines())
    assert "--method GE-binomial" in said


@pytest.mark.parametrize("folds", ["", " --k-fold 2 --fold 0"])
def test_cryosparc_reads_the_precision_of_each_epoch(
    folds: str, project: Project, tmp_path: Path
) -> None:
    line = CRYOSPARC.format(out=tmp_path, **CRYOSPARC_TINY)
    assert run(f"train {lists(project)} {line}{folds}") == 0
    header, rows = curve(tmp_path / "train_test_curve.txt")
    assert header == [
        *("epoch", "iter", "split", "loss", "ge_penalty", "precision"),
        *("adjusted_precision", "tpr", "fpr", "auprc"),
    ]
    test = [row for row in rows if row["split"] == "test"]
    best = max(test, key=lambda row: float(row["precision"]))
    model = load_model(tmp_path / "models" / f"model_epoch{best['epoch']}.sav")
    assert (model.card.network, model.card.width, model.card.norm) == ("resnet8", 32, True)
    assert model.card.objective == "ge-binomial"
    assert model.card.normalization["mode"] == "none"
    assert len(model.card.training_micrographs) == (1 if folds else 3)
    assert {row["ge_penalty"] for row in test} == {row["auprc"] for row in rows[:2]} == {"-"}
    assert float(rows[0]["ge_penalty"]) > 0


def test_scipion_names_micrographs_by_its_list(tmp_path: Path) -> None:
    # 000012 in the lists is 12.mrc on disk. Its line names method and model, so an epoch is as
    # long as Topaz's: the size of the minibatch and of the epoch go into its extra parameters.
    folder = make(tmp_path, number=3)
    for i, path in enumerate(folder.images):
        path.rename(path.with_name(f"{i + 12}.mrc"))
    images = [path.with_name(f"{i + 12}.mrc") for i, path in enumerate(folder.images)]
    own = Project(tmp_path, images, [f"{i + 12:06d}" for i in range(3)], folder.xy)
    line = (
        "train --radius 3 --autoencoder 0.000000 --num-epochs 2 --model conv31 --method PN"
        f" --num-particles 10 {own.lists('train', [0, 1])} {own.lists('test', [2])}"
        f" --num-workers 4 --device 0 --save-prefix {tmp_path}/model"
        f" -o {tmp_path}/model_training.txt --epoch-size 1 --minibatch-size 8"
    )
    assert run(line) == 0
    card = load_model(tmp_path / "model_epoch2.sav").card
    assert card.training_micrographs == ["000012", "000013"]
    assert card.labelled_particles == 16
    assert card.objective == "pn"


@pytest.mark.parametrize(
    ("options", "columns", "name"),
    [
        ("--method PN", [], "pn"),
        ("--method PU", [], "nnpu"),
        ("--method GE-KL --slack 5", ["ge_penalty"], "ge-kl"),
        ("--method GE-binomial --slack 2.5", ["ge_penalty"], "ge-binomial"),
        ("--method PN --autoencoder 0.1", ["recon_error"], "pn"),
        ("--autoencoder 0.1 --l2 0.01", ["ge_penalty", "recon_error"], "ge-binomial"),
        ("--bn off --dropout 0.5 --natural", ["ge_penalty"], "ge-binomial"),
    ],
)
def test_every_way_of_learning_has_its_columns(
    options: str, columns: list[str], name: str, project: Project, tmp_path: Path
) -> None:
    line = f"train -n 20 {SMALL} --num-epochs 1 {lists(project)} --save-prefix {tmp_path}/m"
    assert run(f"{line} {options} -o {tmp_path}/c.txt") == 0
    header, rows = curve(tmp_path / "c.txt")
    assert header[:4] == ["epoch", "iter", "split", "loss"]
    assert header[4:-5] == columns
    assert header[-5:] == ["precision", "adjusted_precision", "tpr", "fpr", "auprc"]
    assert [row["split"] for row in rows] == ["train", "train", "test"]
    for row in rows:
        unknown = {"auprc"} if row["split"] == "train" else set(columns)
        assert {key for key, value in row.items() if value == "-"} == unknown
        numbers = {k: float(v) for k, v in row.items() if k not in {*unknown, "split"}}
        assert all(math.isfinite(value) for value in numbers.values())
        assert numbers["adjusted_precision"] > numbers["precision"]
    # ceil(log10 1) digits are none, and one epoch is the first.
    card = load_model(tmp_path / "m_epoch1.sav").card
    assert card.objective == name
    assert card.norm == ("--bn off" not in options)


def test_the_curve_says_what_the_objective_cost(project: Project, tmp_path: Path) -> None:
    # By an objective that is told the same minibatches.
    seen: list[tuple[Tensor, Tensor, float]] = []

    def watch(*given: object) -> object:
        seen.append(tuple(t.detach() if isinstance(t, Tensor) else t for t in given))  # type: ignore[arg-type]
        return objective("ge-binomial", 2.5)(*given)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("heliodor.training.learner.objective", lambda *_: watch)
        line = f"train -n 20 {SMALL} --num-epochs 2 --slack 2.5 {lists(project)}"
        assert run(f"{line} -o {tmp_path}/c.txt") == 0
    rows = [row for row in curve(tmp_path / "c.txt")[1] if row["split"] == "train"]
    assert [row["iter"] for row in rows] == ["1", "2", "3", "4"]
    assert len(seen) == len(rows)
    images = [LabeledImage(np.zeros((96, 80), np.float32), xy) for xy in project.xy[:3]]
    labelled = sum(make_label_mask(i.xy_px, i.shape, 3).sum() for i in images)
    adjustment = 20 * 29 / (96 * 80) / (labelled / (3 * 96 * 80))
    for row, (positive, rest, prior) in zip(rows, seen, strict=True):
        assert prior == pytest.approx(class_prior(20, images, 3))
        loss = objective("ge-binomial", 1.0)(positive, rest, prior)
        assert float(row["loss"]) == pytest.approx(float(loss.positive), rel=1e-5)
        assert float(row["ge_penalty"]) == pytest.approx(float(loss.unlabelled), rel=1e-5)
        chance, own = torch.sigmoid(rest), torch.sigmoid(positive)
        precision = float(own.sum() / (own.sum() + chance.sum()))
        assert float(row["tpr"]) == pytest.approx(float(own.mean()), rel=1e-5)
        assert float(row["fpr"]) == pytest.approx(float(chance.mean()), rel=1e-5)
        assert float(row["precision"]) == pytest.approx(precision, rel=1e-5)
        adjusted = precision * adjustment
        assert float(row["adjusted_precision"]) == pytest.approx(adjusted, rel=1e-4)


def test_the_test_figures_are_those_of_all_regions_of_the_lattice() -> None:
    network = disc_detector(stride=2)
    images = [labelled_discs(shape, 5, seed) for seed, shape in enumerate([(40, 51), (33, 30)])]
    figures = measure_test_metrics(network, images, 3.0)
    logits = [torch.from_numpy(score_image(network, i.image)[::2, ::2]).ravel() for i in images]
    masks = [
        torch.from_numpy(make_label_mask(i.xy_px, i.shape, 3)[::2, ::2]).ravel() for i in images
    ]
    score, truth = torch.cat(logits).double(), torch.cat(masks).double()
    loss = binary_cross_entropy_with_logits(score, truth)
    chance = torch.sigmoid(score)
    found, wrong = (chance * truth).sum(), (chance * (1 - truth)).sum()
    assert figures.loss == pytest.approx(float(loss), rel=1e-4)
    assert figures.precision == pytest.approx(float(found / (found + wrong)), rel=1e-4)
    assert figures.true_positive_rate == pytest.approx(float(found / truth.sum()), rel=1e-4)
    rate = float(wrong / (1 - truth).sum())
    assert figures.false_positive_rate == pytest.approx(rate, rel=1e-4)
    ap = average_precision(truth.bool().numpy(), score.numpy())
    assert figures.average_precision == pytest.approx(ap, abs=2e-3)


def test_without_a_test_the_curve_goes_to_standard_output(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    line = f"train -n 20 {SMALL} --num-epochs 3 {project.lists('train', [0, 1])}"
    assert run(line) == 0
    header, *rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert header[0] == "epoch"
    assert [row[:3] for row in rows] == [[str(1 + i // 2), str(i + 1), "train"] for i in range(6)]


def test_the_prior_counts_each_disc_once() -> None:
    images = [labelled_discs((96, 112), 14, seed, labelled=10) for seed in (1, 2)]
    prior = find_class_prior(14, None, images, 3, 35)
    assert prior.total == pytest.approx(14 * 29 / (96 * 112))
    assert prior.unlabeled == pytest.approx(class_prior(14, images, 3))
    # The share of all regions, less what is labeled, among the rest.
    by_pi = find_class_prior(None, prior.total, images, 3, 35)
    assert by_pi.unlabeled == pytest.approx(prior.unlabeled)
    assert by_pi.expected_particles == pytest.approx(14)
    assert prior.observed == pytest.approx(
        sum(make_label_mask(i.xy_px, i.shape, 3).sum() for i in images) / (2 * 96 * 112)
    )
    rest = (prior.total - prior.observed) / (1 - prior.observed)
    assert prior.unlabeled == pytest.approx(rest, rel=0.02)
    assert prior.adjustment == pytest.approx(prior.total / prior.observed)


def test_without_a_number_particles_are_guessed(capsys: pytest.CaptureFixture[str]) -> None:
    images = [labelled_discs((96, 112), 14, 1)]
    prior = find_class_prior(None, None, images, 3, 9)
    covered = 0.15 * 96 * 112 / (math.pi * 4.5**2)
    assert prior.expected_particles == pytest.approx(covered)
    assert "Neither -n nor --pi" in capsys.readouterr().err


@pytest.mark.parametrize(("n", "pi"), [(0, None), (-3, None), (None, 0), (None, 1.0)])
def test_impossible_priors(n: float | None, pi: float | None) -> None:
    with pytest.raises(BadInput, match=r"-n must|--pi must"):
        find_class_prior(n, pi, [labelled_discs((64, 64), 3, 1)], 3, 35)


def test_expecting_no_more_than_is_labelled_is_pn(
    project: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = f"train -n 4 {SMALL} --num-epochs 1 {lists(project)} --save-prefix {tmp_path}/m"
    assert run(f"{line} -o {tmp_path}/c.txt") == 0
    assert "so the method is PN" in capsys.readouterr().err
    assert load_model(tmp_path / "m_epoch1.sav").card.objective == "pn"


def chosen(line: str) -> training_recipe.ChosenRecipe:
    return choose_recipe(parser.parse(["train", *line.split()]))


def test_topaz_defaults_fill_in_where_learning_is_spoken_of() -> None:
    settings = chosen("--method GE-binomial").settings
    assert settings == replace(
        PAPER, network="resnet8", autoencoder=0.0, width=32, epochs=10, epoch_updates=1000
    )
    assert (settings.batch, settings.positives, settings.side) == (256, 16, 1)
    assert (settings.learning_rate, settings.schedule) == (2e-4, "constant")


@pytest.mark.parametrize(
    ("line", "changes"),
    [
        ("-n 100 -r 3", {}),
        ("--units 8", {"width": 8}),
        ("--dropout 0.2 --l2 0.5", {"dropout": 0.2, "l2": 0.5}),
        ("--num-epochs 20 --slack -1", {"epochs": 20}),
        ("--bn off --autoencoder 0.5", {"norm": False, "autoencoder": 0.5}),
    ],
)
def test_the_own_recipe_takes_what_is_given(line: str, changes: dict[str, object]) -> None:
    choice = chosen(line)
    assert choice.is_heliodor_recipe
    assert choice.settings == replace(RECIPES["fast"], **({"epochs": 10} | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("line", "changes"),
    [
        ("--model conv127", {"network": "conv127"}),
        ("--learning-rate 0.01", {"learning_rate": 0.01}),
        ("--minibatch-size 64", {"batch": 64, "positives": 4}),
        ("--minibatch-balance 0.5", {"positives": 128}),
        ("--epoch-size 7", {"epoch_updates": 7}),
        ("--slack 3", {"penalty_weight": 3.0}),
        ("--method GE-KL --slack 3", {"objective": "ge-kl", "penalty_weight": 3.0}),
        ("--method PU --slack 3", {"objective": "nnpu"}),
        ("--method PN --units 64", {"objective": "pn", "width": 64}),
    ],
)
def test_one_option_of_learning_means_topaz_way(line: str, changes: dict[str, object]) -> None:
    choice = chosen(line)
    assert not choice.is_heliodor_recipe
    assert choice.settings == replace(training_recipe.TOPAZ, **({"epochs": 10} | changes))  # type: ignore[arg-type]
    assert (choice.normalization, choice.flatten_px) == ("none", 0.0)


def test_the_own_recipe_is_cut_into_the_epochs_asked_for() -> None:
    fast = RECIPES["fast"]
    for labelled in (10, 100, 1000):
        total = fast.epochs_for(labelled) * fast.epoch_updates
        for epochs in (1, 10, 25):
            settings = chosen(f"--num-epochs {epochs}").settings_for(labelled, 0.01)
            assert settings.epochs == epochs
            updates = settings.epoch_updates * epochs
            assert updates == pytest.approx(total, abs=epochs / 2)


def test_natural_draws_particles_as_often_as_they_are_labelled() -> None:
    assert chosen("--natural").settings_for(10, 0.05).positives == 13
    assert chosen("--natural").settings_for(10, 1e-6).positives == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--model resnet6", "unknown network"),
        ("--model model.sav", "unknown network"),
        ("--pooling max", "strides"),
        ("--unit-scaling 1", "double"),
        ("--num-epochs 0", "1 or more"),
        ("--minibatch-size 1", "2 or more"),
        ("--minibatch-balance 1", "between 0 and 1"),
        ("--units 0", "width"),
        ("--dropout 1", "dropout"),
        ("--learning-rate 0", "learning rate"),
        ("-r -1", "training radius"),
        ("--k-fold 4", "cannot be split"),
        ("--k-fold 2 --fold 2", "--fold must be between 0 and 1"),
        ("-n 0", "greater than 0"),
    ],
)
def test_what_cannot_be_honoured_is_a_sentence(
    options: str, message: str, project: Project
) -> None:
    with pytest.raises(BadInput, match=message) as caught:
        run(f"train -n 20 {project.lists('train', [0, 1, 2])} {options}")
    assert "\n" not in str(caught.value)


def test_training_needs_its_lists(project: Project) -> None:
    with pytest.raises(BadInput, match="--train-images is missing"):
        run("train -n 20")
    with pytest.raises(BadInput, match=r"nowhere\.txt cannot be read"):
        run(f"train -n 20 --train-images {project.folder}/proc --train-targets nowhere.txt")


def test_describe_trains_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("train --describe -m conv31 --units 4") == 0
    assert "Convolution" in capsys.readouterr().out


def test_folds_part_the_labelled_images(project: Project) -> None:
    line = project.lists("train", [0, 1, 2, 3])
    images, targets = (word.split("=")[1] for word in line.split())
    labelled = read_labeled(images, targets)
    parts = [split_folds(labelled, 2, fold, 42) for fold in (0, 1)]
    held = [{item.source.name for item in held} for _, held in parts]
    assert held[0] | held[1] == set(project.names)
    assert not held[0] & held[1]
    for train, test in parts:
        assert {i.source.name for i in [*train, *test]} == set(project.names)
    assert split_folds(labelled, 2, 0, 42) == parts[0]
    assert any(split_folds(labelled, 2, 0, seed) != parts[0] for seed in range(5))


def test_images_are_listed_in_many_ways(tmp_path: Path) -> None:
    project = make(tmp_path, number=2)
    tifffile.imwrite(tmp_path / "proc" / "c.tiff", np.zeros((40, 40), np.float32))
    folder = str(tmp_path / "proc")
    names = [source.name for source in read_images(folder)]
    assert names == ["c", "mic000000", "mic000001"]
    assert [source.name for source in read_images(folder, ".tiff")] == ["c"]
    with pytest.raises(BadInput, match="no image that ends in"):
        read_images(folder, ".png")
    # A table with other columns, and spaces for tabs.
    listed = tmp_path / "list.txt"
    listed.write_text(f"source image_name path\n0 a.mrc {project.images[0]}\n\n")
    assert [(s.name, s.path) for s in read_images(listed)] == [("a.mrc", project.images[0])]
    # Two lists, one behind the other.
    listed.write_text(f"image_name\tpath\na\t{project.images[0]}\n" * 2)
    assert [source.name for source in read_images(listed)] == ["a"]
    # Without paths, names are files.
    listed.write_text("image_name\nsome/a\nb.tif\n")
    assert [str(s.path) for s in read_images(listed)] == ["some/a.mrc", "b.tif"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no header"),
        ("name\tpath\na\tb.mrc\n", "no header"),
        ("image_name\tpath\n", "is empty"),
        ("image_name\tpath\na\n", "lacks a column in row 2"),
        ("image_name\tpath\na\tb.mrc\na.mrc\tc.mrc\n", "two images called a"),
    ],
)
def test_bad_lists(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text(text)
    with pytest.raises(BadInput, match=message):
        read_images(path)


@pytest.mark.parametrize("style", ["{stem}", "{stem}.mrc", "{file}", "{file}.mrc"])
def test_coordinates_find_their_image(style: str, tmp_path: Path) -> None:
    # By the name in the list, with and without suffix, or else by the name of the file.
    images = tmp_path / "images.txt"
    targets = tmp_path / "targets.txt"
    images.write_text(
        "image_name\tpath\n000012\t/d/12.mrc\n000013.mrc\t/d/13.mrc\nlone\t/d/1.mrc\n"
    )
    rows = [
        f"{style.format(stem=f'0000{n}', file=n)}\t{n + x}\t{n + 1}"
        for n, x in ((12, 0), (13, 0), (13, 9))
    ]
    targets.write_text("\n".join(["image_name\tx_coord\ty_coord", *rows]) + "\n")
    labelled = read_labeled(images, targets)
    assert [len(item.xy_px) for item in labelled] == [1, 2, 0]
    np.testing.assert_array_equal(labelled[1].xy_px, [[13, 14], [22, 14]])


def test_images_without_particles_are_left_aside(
    project: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = project.lists("train", [0, 1])
    listed = project.folder / "proc" / "image_list_train.txt"
    listed.write_text(listed.read_text() + f"lonely\t{project.images[2]}\n")
    prefix = f"--save-prefix {tmp_path}/m -o {tmp_path}/c.txt"
    assert run(f"train -n 20 {SMALL} --num-epochs 1 {line} {prefix}") == 0
    assert "ignored 1 of 3 train images without labeled particles" in capsys.readouterr().err
    assert load_model(tmp_path / "m_epoch1.sav").card.training_micrographs == project.names[:2]


def test_a_bad_image_is_left_out_and_told(
    project: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken.mrc"
    broken.write_bytes(b"nothing")
    images = [*project.images[:2], broken]
    own = Project(tmp_path, images, ["a", "b", "c"], project.xy[:3])
    (tmp_path / "proc").mkdir()
    line = f"train -n 20 {SMALL} --num-epochs 1 {own.lists('train', [0, 1, 2])}"
    assert run(f"{line} --save-prefix {tmp_path}/m -o {tmp_path}/c.txt") == 3
    assert "skipped c: " in capsys.readouterr().err
    assert load_model(tmp_path / "m_epoch1.sav").card.training_micrographs == ["a", "b"]


def test_the_same_line_gives_the_same_bytes(project: Project, tmp_path: Path) -> None:
    for name in "ab":
        line = f"train -n 20 {SMALL} --num-epochs 1 {lists(project)} -o {tmp_path}/{name}.txt"
        assert run(f"{line} --save-prefix {tmp_path}/{name}") == 0
    for end in (".txt", "_epoch1.sav"):
        first, second = ((tmp_path / f"{name}{end}").read_bytes() for name in "ab")
        assert first == second


def test_more_than_ten_epochs_are_padded(project: Project, tmp_path: Path) -> None:
    options = f"{SMALL} --epoch-size 1 --num-epochs 11 --save-prefix {tmp_path}/m"
    assert run(f"train -n 20 {options} {project.lists('train', [0])} -o {tmp_path}/c.txt") == 0
    assert (tmp_path / "m_epoch01.sav").exists()
    assert (tmp_path / "m_epoch11.sav").exists()


@pytest.mark.slow
def test_relions_lines_learn_and_find_the_particles(tmp_path: Path) -> None:
    project = make(tmp_path, number=5, shape=(200, 180), particles=24, depth=2.5)
    out = tmp_path / "out"
    few = replace(project, xy=[xy[:12] for xy in project.xy])
    line = f"{RELION.format(out=out).replace('-n 8', '-n 24')} {few.lists('train', [0, 1, 2])}"
    line += f" {project.lists('test', [3])} --save-prefix={out}/model"
    assert run(line) == 0
    tests = [row for row in curve(out / "model_training.txt")[1] if row["split"] == "test"]
    assert float(tests[-1]["auprc"]) > 0.9
    picks, truth = {}, {}
    for number in (3, 4):
        text = tmp_path / f"rank{number:06d}.txt"
        options = f"-t -6 -r 5 -d -1 -x 1 -m {out}/model_epoch10.sav -o {text}"
        assert run(f"extract {options} {project.images[number]}") == 0
        picks[str(number)] = as_relion(text)
        truth[str(number)] = project.xy[number]
    found = evaluate_picks(picks, truth, 3.0)
    assert found.micro.average_precision > 0.95
    best = match_picks(picks["4"][0][:24], truth["4"], 3.0)
    assert best.is_true_positive.mean() > 0.9


def test_no_number_of_particles_is_taken_for_none_given(project: Project) -> None:
    line = f"train -n nan --num-epochs 1 {project.lists('train', [0])}"
    with pytest.raises(BadInput, match="-n must be the number of particles per image"):
        run(line)


@pytest.mark.usefixtures("quick")
def test_labels_in_a_wrong_frame_are_told_to_the_log(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = make(tmp_path / "shown", 2, (256, 256), 40)
    project = replace(
        shown, xy=[np.column_stack([x, 255 - y]) for x, y in map(np.transpose, shown.xy)]
    )
    line = f"{RELION.format(out=tmp_path)} {project.lists('train', [0, 1])}"
    assert run(f"{line} --save-prefix={tmp_path}/model") == 0
    said = [text for text in capsys.readouterr().err.splitlines() if "warning" in text]
    assert len(said) == 1
    assert "y flipped" in said[0]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.box", "10 20 8 8 -1\n40 20 8 8 -2\n"),
        (
            "a.star",
            "data_\nloop_\n_rlnCoordinateX\n_rlnCoordinateY\n_rlnHelicalTubeID\n1 2 1\n5 6 1\n",
        ),
    ],
)
def test_filaments_are_not_learned(name: str, text: str, tmp_path: Path) -> None:
    images = tmp_path / "images.txt"
    images.write_text(f"image_name\tpath\na\t{tmp_path}/a.mrc\n")
    (tmp_path / name).write_text(text)
    with pytest.raises(BadInput, match="holds filaments, not particles"):
        read_labeled(images, tmp_path / name)
