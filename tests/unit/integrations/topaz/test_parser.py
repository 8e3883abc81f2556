from __future__ import annotations

import argparse
import importlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from heliodor.integrations.topaz import parser
from heliodor.integrations.topaz.main import COMMANDS
from helpers.topaz_cli import (
    PICKS,
    good,
    refused,
    run,
    write_images,
)

# Command lines as hosts write them, but for the paths.
TRAIN = {
    "RELION": "EXE train  -n 200 -r 3 -d 0 -o O/model_training.txt --num-threads=1"
    " --num-workers=1 --train-images=O/proc/image_list_train.txt"
    " --test-images=O/proc/image_list_test.txt --train-targets=O/proc/target_list_train.txt"
    " --test-targets=O/proc/target_list_test.txt --save-prefix=O/model --num-epochs 5",
    "cryoSPARC": "topaz train --train-images J/image_list_train.txt"
    " --train-targets J/topaz_particles_processed_train.txt -s 0 -p 0"
    " --test-images J/image_list_test.txt --test-targets J/topaz_particles_processed_test.txt"
    " --num-particles 400 --learning-rate 0.0002 --minibatch-size 128 --num-epochs 10"
    " --method GE-binomial --slack -1.0 --autoencoder 0.0 --l2 0.0 --minibatch-balance 0.0625"
    " --epoch-size 5000 --model resnet8 --units 32 --dropout 0.0 --bn on --unit-scaling 2"
    " --ngf 32 --num-workers 1 --cross-validation-seed 17 --radius 3 --num-particles 500"
    " --device 0 --no-pretrained --save-prefix=J/models/model -o J/train_test_curve.txt",
    "cryoSPARC, cross validation": "topaz train --train-images I --train-targets C"
    " --k-fold 2 --fold 0 --cross-validation-seed 17 --num-particles 500 --radius 3"
    " --num-particles 500 -o J/curve.txt",
    "Scipion": "topaz train --radius 3 --autoencoder 0.000000 --num-epochs 10 --model resnet8"
    " --method GE-binomial --num-particles 300 --train-images L --train-targets C"
    " --test-images L2 --test-targets C2 --num-workers 4 --device 0 --save-prefix O/model"
    " -o O/model_training.txt",
}
EXTRACT = {
    "RELION": "EXE extract  -t -6 -r 8 -d -1 -x 4 -m O/model_epoch10.sav"
    " -o O/proc/rank000000.txt O/proc/rank000000.mrc",
    "RELION, no model": "EXE extract  -t -6 -r 8 -d 0 -x 4 -o O/rank000000.txt O/rank000000.mrc",
    "RELION, filaments": "EXE extract  --filaments --filaments_length 20 --filaments_plot -t -5"
    " -r 8 -d 0 -x 4 -o O/proc/rank000000.txt O/proc/rank000000.mrc",
    "Scipion": "topaz extract -t -6.0 -r 8 -m model_epoch10.sav -o O/picks.txt --num-workers 4"
    " --device 0 P/1.mrc P/2.mrc",
    "relion_run_topaz": "topaz extract D/1.mrc D/2.mrc --model M --radius 8 --threshold -6"
    " --up-scale 1 --batch-size 1 --min-radius 5 --max-radius 100 --step-radius 5"
    " --num-workers -1 --device 0 --output F",
    "tutorial": "topaz extract -r 14 -x 8 -m saved_models/EMPIAR-10025/model_epoch10.sav"
    " -o out.txt P/1.mrc",
}


@pytest.mark.parametrize(
    ("command", "module", "line"),
    [("train", "train", line) for line in TRAIN.values()]
    + [("extract", "extract", line) for line in EXTRACT.values()],
    ids=[f"train: {host}" for host in TRAIN] + [f"extract: {host}" for host in EXTRACT],
)
def test_lines_of_hosts_reach_their_command(
    command: str, module: str, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[argparse.Namespace] = []
    fake = SimpleNamespace(**{command: lambda args: seen.append(args) or 0})
    monkeypatch.setitem(sys.modules, f"heliodor.integrations.topaz.{module}", fake)  # type: ignore[arg-type]
    result = run(line)
    assert result.code == 0, result.err
    assert seen[0].command == command
    assert result.err.count("\n") <= 1


def test_values_of_relion_and_cryosparc() -> None:
    args = parser.parse(TRAIN["cryoSPARC"].split()[1:])
    assert (args.num_particles, args.slack, args.patch_size, args.pretrained) == (
        500,
        -1,
        0,
        False,
    )
    assert args.output == "J/train_test_curve.txt"
    assert {"num_particles", "slack", "pretrained", "output"} <= args.given
    assert args.given.isdisjoint({"pi", "k_fold", "natural", "given", "command"})
    args = parser.parse(EXTRACT["RELION"].split()[1:])
    assert (args.threshold, args.radius, args.device, args.up_scale) == (-6, 8, -1, 4)
    assert args.paths == ["O/proc/rank000000.mrc"]
    args = parser.parse(EXTRACT["RELION, filaments"].split()[1:])
    assert (args.filaments, args.filaments_length, args.filaments_plot) == (True, 20, True)


# Topaz 0.3.20's defaults.
DEFAULTS: dict[str, dict[str, Any]] = {
    "train": {
        "describe": False, "device": 0, "num_workers": 0, "num_threads": 0, "train_images": None,
        "train_targets": None, "test_images": None, "test_targets": None, "format": "auto",
        "image_ext": "", "k_fold": 0, "fold": 0, "cross_validation_seed": 42,
        "num_particles": -1, "pi": None, "radius": 3, "method": "GE-binomial", "slack": -1,
        "autoencoder": 0, "l2": 0.0, "learning_rate": 0.0002, "natural": False,
        "minibatch_size": 256, "minibatch_balance": 0.0625, "epoch_size": 1000, "num_epochs": 10,
        "preload": "auto", "pretrained": True, "model": "resnet8", "units": 32, "dropout": 0.0,
        "bn": "on", "pooling": None, "unit_scaling": 2, "ngf": 32, "patch_size": 96,
        "patch_padding": 48, "save_prefix": None, "output": None, "test_batch_size": 1,
    },
    "segment x": {
        "paths": ["x"], "model": "resnet16", "destdir": None, "device": 0, "num_threads": 0,
        "patch_size": None, "verbose": False,
    },
    "extract": {
        "paths": [], "model": "resnet16", "radius": None, "threshold": -6, "down_scale": 1,
        "up_scale": 1, "num_workers": 0, "num_threads": 0, "patch_size": 0, "batch_size": 1,
        "assignment_radius": None, "min_radius": 5, "max_radius": 100, "step_radius": 5,
        "targets": None, "only_validate": False, "device": 0, "output": None,
        "per_micrograph": False, "suffix": "", "format": "coord", "dims": 2, "verbose": False,
        "filaments": False, "filaments_length": -1, "filaments_plot": False,
        "no_worker": False,
    },
    "precision_recall_curve -r 7": {
        "predicted": None, "targets": None, "assignment_radius": 7, "images": "target",
    },
    "downsample x": {"file": "x", "scale": 4, "output": None, "verbose": False},
    "preprocess x": {
        "files": ["x"], "scale": 1, "affine": False, "sample": 10, "niters": 100, "alpha": 900,
        "beta": 1, "metadata": False, "device": -1, "num_workers": 0, "num_threads": 0,
        "destdir": None, "format": "mrc", "verbose": False,
    },
    "convert x": {
        "files": ["x"], "output": None, "from_format": "auto", "to_format": "auto", "suffix": "",
        "threshold": -float("inf"), "down_scale": 1, "up_scale": 1, "voltage": -1,
        "detector_pixel_size": -1, "magnification": -1, "amplitude_contrast": -1,
        "invert_y": False, "imagedir": None, "image_ext": ".mrc", "boxsize": 0, "verbose": 0,
    },
    "split x": {
        "file": "x", "output": None, "format": "auto", "suffix": "", "threshold": -float("inf"),
    },
    "train_test_split x": {
        "file": "x", "image_dir": None, "image_ext": "*", "format": "auto", "number": None,
        "seed": 0,
    },
    "scale_coordinates x": {"file": "x", "scale": 0.25, "output": None},
    "boxes_to_coordinates x": {
        "files": ["x"], "invert_y": False, "imagedir": None, "image_ext": "tiff", "output": None,
    },
    "star_to_coordinates x": {"file": "x", "output": None},
    "coordinates_to_star x": {
        "file": "x", "image_ext": ".mrc", "voltage": -1, "defocus_u": -1, "defocus_v": -1,
        "defocus_angle": -1, "spherical_aberation": -1, "amplitude_contrast": -1,
        "detector_pixel_size": -1, "magnification": -1, "output": None,
    },
    "coordinates_to_boxes x --destdir d --boxsize 8": {
        "paths": ["x"], "destdir": "d", "boxsize": 8, "invert_y": False, "imagedir": None,
        "image_ext": "tiff",
    },
    "coordinates_to_eman2_json x --destdir d": {
        "paths": ["x"], "destdir": "d", "invert_y": False, "imagedir": None, "image_ext": "tiff",
    },
    "star_particles_threshold x": {"file": "x", "output": None, "threshold": -float("inf")},
}  # fmt: skip
DEFAULTS["normalize x"] = DEFAULTS["preprocess x"]


@pytest.mark.parametrize("line", DEFAULTS)
def test_defaults(line: str) -> None:
    args = vars(parser.parse(line.split()))
    assert args.pop("command") == line.split()[0]
    given, defaults = args.pop("given"), args.pop("defaults")
    assert args == DEFAULTS[line]
    assert {**args, **defaults}.keys() == args.keys()
    assert given == {dest for dest, value in args.items() if value in ("x", ["x"], "d", 8, 7)}


def test_every_command_has_a_function_and_defaults() -> None:
    assert {line.split()[0] for line in DEFAULTS} == set(COMMANDS)
    assert parser.build_parser()[1].keys() == COMMANDS.keys() | parser.MISSING_COMMANDS.keys()


def test_the_executable_is_installed() -> None:
    project = Path(__file__).parents[4] / "pyproject.toml"
    scripts = tomllib.loads(project.read_text())["project"]["scripts"]
    module, function = scripts[parser.PROGRAM].split(":")
    assert callable(getattr(importlib.import_module(module), function))


def test_short_and_abbreviated_options() -> None:
    args = parser.parse("convert f -s 2 -x3 -t=-1.5 -o out --thresh -2 --to=star".split())
    assert (args.down_scale, args.up_scale, args.threshold, args.to_format) == (2, 3, -2, "star")
    args = parser.parse("preprocess f -t 3 -j -1 -a 1 -b 2 -v --dev 1".split())
    assert (args.num_workers, args.num_threads, args.alpha, args.beta) == (3, -1, 1, 2)
    assert (args.verbose, args.device) == (True, 1)
    args = parser.parse("train -k 3 -n 1e2 -p 4 -s 0".split())
    assert (args.k_fold, args.num_particles, args.patch_padding, args.patch_size) == (3, 100, 4, 0)


def test_arguments_from_a_file(tmp_path: Path) -> None:
    list_ = tmp_path / "arguments.txt"
    list_.write_text("-s\n4\n\n-o\nout folder\na.mrc\nb.mrc\n")
    args = parser.parse(["preprocess", f"@{list_}"])
    assert (args.scale, args.destdir, args.files) == (4, "out folder", ["a.mrc", "b.mrc"])


@pytest.mark.parametrize(
    "line",
    [
        "topaz",
        "topaz nonsense",
        "topaz train --nonsense 3",
        "topaz train --method best",
        "topaz train -r three",
        "topaz extract -t",
        "topaz preprocess",
        "topaz precision_recall_curve",
        "topaz preprocess @/no/such/file",
    ],
)
def test_what_argparse_refuses(line: str) -> None:
    result = run(line)
    assert result.code == 2
    assert re.search(r"^heliodor-topaz( \w+)?: error: ", result.err, re.MULTILINE)
    assert not result.out


@pytest.mark.parametrize(
    "line",
    [
        "relion_python_topaz denoise IN.mrc --output D/ --device 0 --patch-size 1024"
        " --patch-padding 256 --normalize",
        "topaz denoise3d -a x --unknown",
        "topaz gui",
        "topaz particle_stack x --size 3",
    ],
)
def test_commands_that_are_not_there(line: str) -> None:
    assert f"{line.split()[1]} is not available: " in refused(line)


def test_version_is_one_that_hosts_take() -> None:
    code = "from heliodor.integrations.topaz.main import main; import sys; main(['--version'])"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True
    )
    # cryoSPARC wants a semantic version on a line of its own, older ones numbers between dots.
    assert tuple(map(int, done.stdout.strip().split("."))) == (0, 3, 20)
    assert done.stderr == ""


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["extract", "--help"]])
def test_help_and_version_import_nothing_slow(words: list[str]) -> None:
    code = (
        "import sys\nfrom heliodor.integrations.topaz.main import main\n"
        f"try:\n    main({words!r})\nexcept SystemExit:\n    pass\n"
        "slow = {'torch', 'pandas', 'numpy', 'scipy'} & set(sys.modules)\n"
        "assert not slow, slow"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_one_line_names_the_options_without_effect(tmp_path: Path) -> None:
    write_images(tmp_path, "a.mrc")
    common = f"topaz preprocess {tmp_path}/a.mrc -o {tmp_path}/out"
    result = run(f"{common} --niters 50 --sample 1 --alpha 900 -b 2 --device 0")
    assert result.err.splitlines() == ["# note: no effect here: --niters, --beta, --device"]
    assert run(common).err == ""


@pytest.mark.parametrize(
    ("line", "idle"),
    [
        ("train --pretrained --num-workers 1", "--num-workers --pretrained"),
        ("train --no-pretrained --ngf 8", "--ngf"),
        ("train --fold 1 --cross-validation-seed 7", "--fold --cross-validation-seed"),
        ("train --k-fold 2 --fold 1 --cross-validation-seed 7", ""),
        ("train --method PN --slack 3", "--slack"),
        ("train --method PN --slack -1.0 --fold 0 --cross-validation-seed 42", ""),
        ("train --natural --minibatch-balance 0.1", "--minibatch-balance"),
        ("train --train-images list.txt --image-ext .tif", "--image-ext"),
        ("train --train-images . --image-ext .tif", ""),
        ("extract -fl 20 -fp a.mrc -r 3", "--filaments_length --filaments_plot"),
        ("extract -f -fl 20 -fp a.mrc -r 3", ""),
        ("extract a.mrc --suffix x -r 3 --assignment-radius 4", "--assignment-radius --suffix"),
        ("extract a.mrc --suffix x --per-micrograph --targets t --assignment-radius 4", ""),
        ("extract a.mrc --min-radius 5 --max-radius 100 --step-radius 5 -r 3", ""),
        ("extract a.mrc --min-radius 4 --targets t", ""),
        ("extract a.mrc --min-radius 4 --targets t -r 3", "--min-radius"),
        ("convert a.txt --imagedir d", "--imagedir"),
        ("convert a.txt --imagedir d --invert-y", ""),
        ("coordinates_to_boxes a --destdir d --boxsize 8 --image-ext mrc", "--image-ext"),
        ("train_test_split a -n 1 --image-ext mrc", "--image-ext"),
    ],
)
def test_options_that_mean_nothing_without_others(line: str, idle: str) -> None:
    assert sorted(parser.find_options_without_effect(parser.parse(line.split()))) == sorted(
        idle.split()
    )


def test_options_that_the_written_format_has_no_room_for(tmp_path: Path) -> None:
    picks = tmp_path / "a.txt"
    picks.write_text(PICKS)
    line = f"topaz convert {picks} --voltage 300 --boxsize 8 --suffix x -o {tmp_path}"
    assert good(f"{line}/b.txt").err == (
        "# note: no effect in coord files: --voltage, --boxsize, --suffix\n"
    )
    assert "files: --boxsize, --suffix\n" in good(f"{line}/b.star").err
    assert "files: --voltage\n" in good(f"{line}/boxes/ --to box").err
