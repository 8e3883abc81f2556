"""The settings of convert and check, and how they are typed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliodor.data.coordinates.frame_detection import Frame
from heliodor.errors import BadInput
from heliodor.utils.settings import build, options_of
from heliodor.workflows.settings import CheckSettings, ConversionSettings
from helpers.cli import call, done


@pytest.fixture
def converted(monkeypatch: pytest.MonkeyPatch) -> list[ConversionSettings]:
    """The settings with which conversions were begun; none is made."""
    seen: list[ConversionSettings] = []
    monkeypatch.setattr("heliodor.workflows.convert.convert", lambda *given: seen.append(given[3]))
    return seen


def test_nothing_typed_is_the_defaults(converted: list[ConversionSettings]) -> None:
    done("convert", "a.star")
    assert converted == [ConversionSettings()]
    assert converted[0].frame == Frame()


def test_everything_typed_reaches_the_settings(converted: list[ConversionSettings]) -> None:
    typed = "--trust --scale 0.5 --swap-xy --flip-x --flip-y --shift-px 3,-2.5 --threshold -1"
    typed += " --box-px 64 --shape-px 5760x4092 --pixel-size 1.5 --root Movies --strip-aligned"
    done("convert", "a.star", *typed.split(), "--image-suffix", ".tif", "--strip-uid")
    assert converted == [
        ConversionSettings(
            trust=True,
            scale=0.5,
            swap_xy=True,
            flip_x=True,
            flip_y=True,
            shift_px=(3.0, -2.5),
            threshold=-1.0,
            box_px=64,
            shape=(4092, 5760),
            pixel_size_angstrom=1.5,
            root="Movies",
            image_suffix=".tif",
            strip_uid=True,
            strip_aligned=True,
        )
    ]
    assert converted[0].frame == Frame(True, True, True, 0.5)
    done("convert", "a.star", "--fit")
    assert converted[1] == ConversionSettings(fit=True)


def test_check_takes_its_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[CheckSettings] = []

    def check(inputs: Any, micrographs: Any, settings: CheckSettings, progress: Any) -> list[Any]:
        seen.append(settings)
        return []

    monkeypatch.setattr("heliodor.integrations.project_check.check", check)
    done("check", "a.star")
    done("check", "a.star", "--distance", 40, "--pixel-size", 2, "--headers-only")
    assert seen == [CheckSettings(), CheckSettings(40.0, 2.0, True)]


numbers = st.floats(-4e5, 4e5)


@given(numbers, numbers)
def test_shifts_are_read_as_they_are_written(x: float, y: float) -> None:
    parse = options_of(ConversionSettings)["shift_px"].option.parse
    assert parse is not None
    assert parse(f"{x!r},{y!r}") == (x, y)


@pytest.mark.parametrize(
    ("command", "option", "value", "said"),
    [
        ("convert", "--shift-px", "1", "must be two numbers, as in 3,-2, not '1'"),
        ("convert", "--shift-px", "1,2,3", "must be two numbers, as in 3,-2"),
        ("convert", "--shift-px", "nan,0", "must be two numbers of pixels, not 'nan,0'"),
        ("convert", "--shape-px", "5x", "must be like 1024 or 5760x4092 (width x height)"),
        ("convert", "--shape-px", "0x5", "must be 1x1 pixels or more"),
        ("convert", "--scale", "0", "a scale of 0 is not plausible"),
        ("convert", "--box-px", "0", "a box of 0 pixels is not plausible"),
        ("convert", "--pixel-size", "-1", "a pixel size of -1 Å is not plausible"),
        ("convert", "--image-suffix", "mrc", "'mrc' must begin with a dot"),
        ("check", "--distance", "0", "a distance of 0 Å is not plausible"),
        ("check", "--pixel-size", "-2", "a pixel size of -2 Å is not plausible"),
    ],
)
def test_a_refusal_names_the_option_once(
    command: str, option: str, value: str, said: str, tmp_path: Path
) -> None:
    result = call(command, tmp_path / "a.star", option, value)
    assert result.code == 2
    assert said in result.sentence
    assert result.sentence.count(option) == 1


@pytest.mark.parametrize("other", [{"swap_xy": True}, {"flip_y": True}, {"scale": 2.0}])
def test_a_frame_is_either_found_or_given(other: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match="not both") as error:
        build(ConversionSettings, {"fit": True, **other})
    assert error.value.parameter == "fit"
