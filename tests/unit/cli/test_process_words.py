"""The command lines of the processes that a command starts."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliodor.cli.process_words import without_cluster_options, words_of_settings
from heliodor.picking.settings import PickSettings
from heliodor.utils.settings import option
from helpers.cli import call


def test_the_options_of_the_cluster_are_not_those_of_its_processes() -> None:
    words = ["pick", "--jobs", "3", "a.mrc", "--cluster=slurm", "--dry-run", "--setup=a b"]
    words += ["--setup", "c", "-o", "x", "--memory", "4"]
    assert without_cluster_options(words) == ["pick", "a.mrc", "-o", "x"]
    kept = without_cluster_options(words, kept=("memory",))
    assert kept == ["pick", "a.mrc", "-o", "x", "--memory", "4"]
    assert without_cluster_options(["--gpus"]) == []


def maybe(values: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    return st.none() | values


SETTINGS = st.builds(
    PickSettings,
    threshold=maybe(st.floats(-5, 5)),
    exclusion_radius_angstrom=maybe(st.floats(0, 300)),
    edge_margin_angstrom=maybe(st.floats(0, 300)),
    scores=st.sampled_from(["smooth", "dense"]),
    threshold_series=st.sampled_from([0, 2, 7]),
    bad_areas=st.sampled_from(["leave-out", "keep"]),
    mask=maybe(st.lists(st.sampled_from(["masks", "-a b.png", "c=d"]), min_size=1, max_size=3)),
    max_contamination=maybe(st.floats(0, 1)),
    bad_area_masks=st.booleans(),
)


@given(SETTINGS)
def test_a_command_gets_the_same_settings_from_their_words(settings: PickSettings) -> None:
    seen = list[PickSettings]()

    def take(model: object, micrographs: object, out: object, own: PickSettings, *_: object):
        seen.append(own)
        raise SystemExit(7)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("heliodor.workflows.pick.pick", take)
        assert call("pick", "a.mrc", *words_of_settings(settings)).code == 7
    assert seen == [settings]


def test_an_option_in_a_form_of_its_own_cannot_be_written() -> None:
    @dataclass(frozen=True)
    class Odd:
        shift: tuple[int, int] = option((0, 0), help="", group="Other", parse=lambda text: (1, 2))

    with pytest.raises(TypeError, match="shift cannot be written"):
        words_of_settings(Odd((1, 2)))
    assert words_of_settings(Odd()) == []
