from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from heliodor.errors import BadInput
from heliodor.models.registry import (
    find_named_model,
    list_named_models,
    named_model_path,
    site_model_folders,
)


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The user's folder and two of the site, with models of some names."""
    own, first, second = (tmp_path / name for name in ("own", "first", "second"))
    monkeypatch.setenv("HELIODOR_MODELS", str(own))
    monkeypatch.setenv("HELIODOR_SITE_MODELS", f"{first}{os.pathsep}{second}{os.pathsep}")
    for folder, names in ((own, "ab"), (first, "bc"), (second, "cd")):
        folder.mkdir()
        for name in names:
            (folder / f"{name}.safetensors").touch()
    return [own, first, second]


def test_the_users_models_come_first(folders: list[Path]) -> None:
    own, first, second = folders
    places = [(name, find_named_model(name)) for name in "abcd"]
    assert [path and path.parent for _, path in places] == [own, own, first, second]
    assert find_named_model("e") is None
    listed = [(model.name, model.path.parent, model.hidden) for model in list_named_models()]
    assert listed == [
        ("a", own, False), ("b", own, False), ("b", first, True), ("c", first, False),
        ("c", second, True), ("d", second, False),
    ]  # fmt: skip


def test_names_do_not_lead_out_of_the_folder(folders: list[Path]) -> None:
    (folders[0].parent / "x.safetensors").touch()
    assert find_named_model("../x") is None
    with pytest.raises(BadInput, match="not a valid model name"):
        named_model_path("../x")


def test_without_the_variable_the_sites_models_are_in_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("HELIODOR_SITE_MODELS", raising=False)
    assert site_model_folders() == [Path(sys.prefix) / "share" / "heliodor" / "models"]
    monkeypatch.setenv("HELIODOR_SITE_MODELS", "")
    assert site_model_folders() == []
