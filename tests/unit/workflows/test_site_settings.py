"""Defaults of a site and of a user, in files."""

from __future__ import annotations

from pathlib import Path

import pytest

from heliodor.errors import BadInput
from heliodor.workflows import site_settings
from heliodor.workflows.cluster_settings import ClusterSettings
from heliodor.workflows.site_settings import read_cluster_defaults, settings_files


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Return the files of a site and of a user, which do not exist yet."""
    site, user = tmp_path / "etc/heliodor.toml", tmp_path / "config/heliodor/heliodor.toml"
    for path in (site, user):
        path.parent.mkdir(parents=True)
    monkeypatch.delenv("HELIODOR_CONFIG", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr(site_settings, "SITE_FILE", site)
    return site, user


def test_without_files_there_are_no_defaults(places: tuple[Path, Path]) -> None:
    assert read_cluster_defaults() == {}
    assert [each.path for each in settings_files()] == [*places]


def test_a_user_replaces_single_values_of_the_site(places: tuple[Path, Path]) -> None:
    site, user = places
    site.write_text('[cluster]\npartition = "cpu"\ntime = 60\nsetup = "module load a"\n')
    user.write_text('[cluster]\npartition = "gpu"\ngpus = 1\nmemory = 7.5\n')
    assert read_cluster_defaults() == {
        "partition": "gpu", "time": 60, "setup": ["module load a"], "gpus": 1, "memory": 7.5,
    }  # fmt: skip


def test_a_variable_names_the_file_of_the_site(
    places: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places[0].write_text("[cluster]\njobs = 2\n")
    places[1].write_text("[cluster]\ngpus = 2\n")
    monkeypatch.setenv("HELIODOR_CONFIG", str(tmp_path / "own.toml"))
    with pytest.raises(BadInput, match=r"own\.toml does not exist; correct \$HELIODOR_CONFIG"):
        read_cluster_defaults()
    (tmp_path / "own.toml").write_text("[cluster]\njobs = 9\n")
    assert read_cluster_defaults() == {"jobs": 9, "gpus": 2}


def test_without_the_variable_of_the_desktop_standard_the_users_file_is_in_its_usual_place(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("XDG_CONFIG_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert settings_files()[1].path == tmp_path / ".config/heliodor/heliodor.toml"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"[cluster]\nqueue = 1\n", "unknown key 'queue' in [cluster]; the keys are account"),
        (b"[cluster]\ncluster = 'slurm'\n", "unknown key 'cluster'"),
        (b"[cluster]\ndry_run = true\n", "unknown key 'dry_run'"),
        (b"[picking]\n", "has 'picking'; it may only have the table [cluster]"),
        (b"cluster = 3\n", "has 'cluster'; it may only have the table"),
        (b"[cluster]\njobs = 'four'\n", "must be a whole number, not 'four'"),
        (b"[cluster]\njobs = true\n", "must be a whole number, not True"),
        (b"[cluster]\njobs = 0\n", "jobs must be 1 or more"),
        (b"[cluster]\nmemory = nan\n", "0.5 GB of memory or more"),
        (b"[cluster]\npartition = 3\n", "must be a text, not 3"),
        (b"[cluster]\nsetup = [1]\n", "must be a text or a list of texts, not [1]"),
        (b"[cluster\n", "is not TOML"),
        (b"[cluster]\njobs = " + b"9" * 20_000 + b"\n", "is not TOML"),
        (b"\xff", "cannot be read (it is not a text in UTF-8)"),
    ],
)
def test_a_wrong_file_is_named(places: tuple[Path, Path], content: bytes, sentence: str) -> None:
    places[1].write_bytes(content)
    with pytest.raises(BadInput) as caught:
        read_cluster_defaults()
    assert sentence in str(caught.value)
    assert str(places[1]) in str(caught.value)


def test_a_folder_in_place_of_a_file_is_named(places: tuple[Path, Path]) -> None:
    places[0].mkdir()
    with pytest.raises(BadInput, match=r"heliodor\.toml cannot be read \(Is a directory\)"):
        read_cluster_defaults()


def test_what_is_chosen_counts_more_than_defaults() -> None:
    own = ClusterSettings(cluster="slurm", jobs=4, gpus=0)
    found = own.with_defaults({"jobs": 8, "gpus": 1, "time": 90, "setup": ["a"]})
    assert (found.jobs, found.gpus, found.time_min, found.setup) == (4, 0, 90, ["a"])
