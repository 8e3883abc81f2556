"""What the tests of several modules share."""

from __future__ import annotations

import os
import signal
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
import pytest
from hypothesis import settings
from numpy.typing import NDArray

from heliodor.evaluation import calibration
from heliodor.utils import console

# A machine that is shared may stall for longer than any deadline. Continuous integration tries
# the same examples every time; new ones are found at home.
settings.register_profile("heliodor", deadline=None, derandomize="CI" in os.environ)
# Without the slow tests, fewer examples are tried, except where a test says how many.
settings.register_profile("quick", settings.get_profile("heliodor"), max_examples=25)
settings.load_profile("heliodor")

# The tests read the messages of functions as a command prints them.
console.show_messages()

# A shell without job control lets background jobs, and so the processes that tests start, ignore
# Ctrl-C; `nohup` does so with SIGHUP. Then no test of these signals could pass.
for _number, _usual in (
    (signal.SIGINT, signal.default_int_handler),
    *([(signal.SIGHUP, signal.SIG_DFL)] if hasattr(signal, "SIGHUP") else []),
):
    if signal.getsignal(_number) == signal.SIG_IGN:
        signal.signal(_number, _usual)

# No test leaves a process behind it, and each reads the program that it tests.
os.environ["HELIODOR_WORKER"] = "0"

WriteMrc = Callable[..., Path]

#: Resampled calibrations take most of the time of a small training; their number widens or narrows
#: intervals, and is what users get in the tests of calibration and in slow tests.
FEW_REPEATS, REPEATS = 3, calibration.BOOTSTRAP_REPEATS


def pytest_configure(config: pytest.Config) -> None:
    """Try fewer examples if the slow tests are left out."""
    if config.option.markexpr == "not slow":
        settings.load_profile("quick")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Resample calibrations less often, unless a test asks for `all_bootstrap_repeats`."""
    asked = "all_bootstrap_repeats" in getattr(item, "fixturenames", ())
    everything = asked or item.get_closest_marker("slow") or "evaluation" in item.path.parts
    calibration.BOOTSTRAP_REPEATS = REPEATS if everything else FEW_REPEATS
    return (yield)


@pytest.fixture
def all_bootstrap_repeats() -> None:
    """Let calibrations be resampled as often as for users."""


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Return the folder of real micrographs and labels, or skip the test."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("HELIODOR_DATA") or beside)
    if not (folder / "betagal").is_dir():
        pytest.skip(f"the real data are not in {folder}; set HELIODOR_DATA to their folder")
    return folder


@pytest.fixture
def write_mrc(tmp_path: Path) -> WriteMrc:
    """Return a function that writes an array as an MRC file below the test's own folder."""

    def write(name: str, data: NDArray[Any], pixel_size: float | None = None) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        compression = {".gz": "gzip", ".bz2": "bzip2"}.get(path.suffix)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pixels that are not numbers, or large ones
            with mrcfile.new(path, overwrite=True, compression=compression) as mrc:
                mrc.set_data(np.asarray(data))
                if pixel_size is not None:
                    mrc.voxel_size = pixel_size
        return path

    return write


@pytest.fixture
def noise() -> NDArray[np.float32]:
    """Return a rectangular picture of noise: 40 rows, 60 columns."""
    return np.random.default_rng(7).normal(100, 20, (40, 60)).astype(np.float32)
