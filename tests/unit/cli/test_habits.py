"""Options of other programs get a hint in place of a plain refusal."""

from __future__ import annotations

from pathlib import Path

import pytest

from heliodor.cli.habits import find_hint
from helpers.cli import call


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ("pick a.mrc --diameter 150 --gpu 0", "no option --gpu: use --device, for example"),
        ("pick a.mrc -gpu 0", "no option -gpu: use --device"),
        ("pick -i a.mrc --diameter 150", "no option -i: give the micrographs without an option"),
        ("pick a.mrc --angpix=1.2", "no option --angpix: the pixel size of the micrographs is"),
        ("pick a.mrc -t 0.3", "the threshold is --threshold, in log-odds"),
        ("train a.mrc --train-targets b.txt", "no option --train-targets: the coordinates of"),
        ("train a.mrc -n 300", "no option -n: the number of particles per micrograph is"),
        ("evaluate -r 10", "no option -r: the maximum distance between a pick and its particle"),
        ("pick a.mrc --pixel_size 1", "no option --pixel_size: it is --pixel-size"),
        ("pick a.mrc --box_size 200", "no option --box_size: the longest diameter of"),
        ("preprocess a.mrc -s 8", "no option -s: the pixel size of the results is"),
        ("extract -m general a.mrc", "no command extract: use heliodor pick"),
        ("relion pick --in_mics a.star --o b --apix 1", "no option --apix: the pixel size"),
    ],
)
def test_what_is_meant_is_said(
    words: str, hint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # a job of RELION that fails leaves a file
    refused = call(*words.split())
    assert refused.code == 2
    assert hint in refused.sentence


@pytest.mark.parametrize("words", ["pick a.mrc --frobnicate", "convert a.star -n 5 -o b.star"])
def test_other_options_are_refused_as_before(words: str) -> None:
    refused = call(*words.split())
    assert refused.code == 2
    assert "No such option" in refused.err


def test_own_options_and_values_get_no_hint() -> None:
    assert find_hint(["--gpu", "0"], {"--gpu", "--device"}) is None
    assert find_hint(["a.mrc", "-2"], {"--device"}) is None
    assert find_hint(["--gpu", "0"], {"--threads"}) is None
