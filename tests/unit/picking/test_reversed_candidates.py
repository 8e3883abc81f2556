from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from heliodor.data.micrographs.micrograph import read_micrograph, write_mrc
from heliodor.data.micrographs.sources import find_sources
from heliodor.models.pretrained import load_model_for_picking
from heliodor.picking.reversed_candidates import search_reversed
from heliodor.picking.score_maps import open_working_images
from heliodor.picking.settings import PickSettings
from heliodor.picking.user_masks import NO_MASKS
from heliodor.workflows.in_memory import pick_in_memory
from helpers.cli import done

SETTINGS = PickSettings(bad_areas="keep", threshold=0.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a micrograph, the same with reversed contrast, and a file that is none."""
    folder = tmp_path_factory.mktemp("reversed")
    shells = ("--particle", "shell", "--pixel-size", 7, "--size-px", "256x224", "--snr", 1)
    done("simulate", folder, *shells, "--count", 1, "--particles", 15, "--contaminants", 0)
    path = next((folder / "micrographs").glob("*.mrc"))
    image = read_micrograph(path).image
    write_mrc(folder / "bright.mrc", 2 * image.mean() - image, 7.0)
    (folder / "none.mrc").write_bytes(b"")
    return path.rename(folder / "dark.mrc").parent


def test_candidates_are_those_of_the_reversed_micrograph(folder: Path) -> None:
    model = load_model_for_picking(None, 120.0)
    images = open_working_images(model)
    names = ("dark", "bright", "none")
    dark, bright, none = (find_sources(folder / f"{name}.mrc")[0] for name in names)
    found, failures = search_reversed(model, [bright, none], images, SETTINGS, NO_MASKS, 0.0)
    assert [failure.name for failure in failures] == [none.name]
    # Only the rest of a Gaussian fit of its pixels differs.
    picks = pick_in_memory(model, [dark], images, replace(SETTINGS, threshold=0.0)).picks
    assert len(picks) >= 8
    assert len(found) == pytest.approx(len(picks), abs=2)
    nearest = np.abs(found.xy_px[:, None] - picks.xy_px).max(axis=2).min(axis=1)
    assert np.median(nearest) < 0.5
    few, _ = search_reversed(model, [dark], images, SETTINGS, NO_MASKS, 0.0)
    assert len(few) < len(picks) / 2


def test_scores_are_moved_by_the_level_of_their_micrograph(folder: Path) -> None:
    model = load_model_for_picking(None, 120.0)
    images = open_working_images(model)
    sources = find_sources(folder / "bright.mrc")
    as_it_is, _ = search_reversed(model, sources, images, SETTINGS, NO_MASKS, 0.5)
    levels = {sources[0].name: -1.0, "other.mrc": 5.0}
    moved, _ = search_reversed(model, sources, images, SETTINGS, NO_MASKS, -0.5, levels)
    np.testing.assert_array_equal(moved.xy_px, as_it_is.xy_px)
    np.testing.assert_allclose(moved.score, as_it_is.score - 1, atol=1e-12)
