"""What is kept in a store is the same in memory and in files, and files leave nothing behind."""

from __future__ import annotations

import errno
import gc
import os
import tempfile
from pathlib import Path

import numpy as np
import pytest

from heliodor.data.coordinates.labels import LabeledImage
from heliodor.errors import BadInput
from heliodor.training.sampler import Sampler
from heliodor.utils.array_store import ArrayStore
from heliodor.utils.compute import LEAST_GB, ComputeSettings
from helpers.networks import labelled_discs, noise


def mapped(folder: Path) -> int:
    """Count the mapped files of a folder, which have no name any more."""
    with Path("/proc/self/maps").open() as stream:
        return sum(str(folder.resolve()) in line and "(deleted)" in line for line in stream)


needs_proc = pytest.mark.skipif(
    not Path("/proc/self/maps").exists(), reason="only Linux tells what is mapped"
)


def test_without_a_folder_all_stays_in_memory() -> None:
    image = noise((40, 50))
    store = ArrayStore()
    assert store.add(image) is image
    assert store.allocate((3, 4), np.int8).shape == (3, 4)
    store.release_pages()


@needs_proc
def test_beyond_the_budget_arrays_lie_in_files_without_a_name(tmp_path: Path) -> None:
    image = noise((40, 50))
    store = ArrayStore(tmp_path, image.nbytes)
    first, second = store.add(image), store.add(image + 1)
    assert first is image
    assert mapped(tmp_path) == 1
    assert list(tmp_path.iterdir()) == []
    np.testing.assert_array_equal(second, image + 1)
    assert second.dtype == image.dtype
    second[3, 4] = 7
    store.release_pages()
    assert second[3, 4] == 7
    room = store.allocate(100, np.int8)
    assert mapped(tmp_path) == 2
    del second, room
    gc.collect()
    assert mapped(tmp_path) == 0


@needs_proc
def test_what_nobody_holds_any_more_does_not_count(tmp_path: Path) -> None:
    store = ArrayStore(tmp_path, 1000)
    for _ in range(5):
        room = store.allocate(1000, np.int8)
        assert mapped(tmp_path) == 0
        del room
    kept = store.allocate(600, np.int8)
    view = kept[:10]
    del kept  # the view still holds all of it
    assert mapped(tmp_path) == 0
    other = store.allocate(600, np.int8)
    assert mapped(tmp_path) == 1
    assert len(view) + len(other) == 610


def test_a_disk_without_space_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(BadInput, match=r"has no room for .* --memory \(No space left"):
        ArrayStore(tmp_path, 0).allocate(10**9, np.int8)


def test_a_file_system_that_reserves_nothing_will_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "posix_fallocate")
    image = noise((700, 500))
    np.testing.assert_array_equal(ArrayStore(tmp_path, 0).add(image), image)


def test_less_than_the_least_is_refused() -> None:
    with pytest.raises(BadInput, match=r"training needs 1 GB of memory or more, not 0\.5"):
        ComputeSettings(memory_gb=0.5)
    for wrong in (0.0, -3.0, float("nan")):
        with pytest.raises(BadInput, match="1 GB of memory or more") as caught:
            ComputeSettings(memory_gb=wrong)
        assert caught.value.parameter == "memory"
    assert (
        ComputeSettings(memory_gb=LEAST_GB).array_store(Path(tempfile.gettempdir())).budget_bytes
        > 0
    )


@pytest.mark.parametrize("share", [0.0, 0.4, 0.8])
def test_minibatches_are_the_same_wherever_the_images_lie(tmp_path: Path, share: float) -> None:
    images = [labelled_discs((60, 70 + 4 * seed), 9, seed, 5) for seed in range(3)]
    nbytes = 2 * sum(item.image.nbytes for item in images)
    store = ArrayStore(tmp_path, share * nbytes)
    there = [
        LabeledImage(store.add(item.image.copy()), item.xy_px, item.xy_px[:1] + 15)
        for item in images
    ]
    here = [LabeledImage(item.image, item.xy_px, item.xy_px[:1] + 15) for item in images]
    one = Sampler(here, 2.0, 31, 5, stride=2, side=3)
    other = Sampler(there, 2.0, 31, 5, stride=2, side=3, store=store)
    for _ in range(3):
        a, b = one.draw(5, 9, 2), other.draw(5, 9, 2)
        assert a.images.numpy().tobytes() == b.images.numpy().tobytes()
        assert a.labels.numpy().tobytes() == b.labels.numpy().tobytes()
        assert a.anchors.numpy().tobytes() == b.anchors.numpy().tobytes()
