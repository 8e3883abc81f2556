"""Command lines of ``heliodor-topaz``, run within the process of the tests."""

from __future__ import annotations

import glob
import io
import os
import shlex
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from unittest import mock

import mrcfile
import numpy as np

from heliodor.integrations.topaz.main import main
from helpers.cli import Result

PICKS = (
    "image_name\tx_coord\ty_coord\tscore\n"
    "b\t10\t21\t1.5\na\t35\t40\t-2.25\nb\t101\t3\t0.125\na\t7\t9\t4.0\n"
)
#: As RELION 3.1 and later write it: optics groups first, fractions, folders.
RELION_STAR = """
# version 30001

data_optics

loop_
_rlnOpticsGroupName #1
_rlnOpticsGroup #2
_rlnMicrographPixelSize #3
opticsGroup1 1 1.25


# version 30001

data_particles

loop_
_rlnCoordinateX #1
_rlnCoordinateY #2
_rlnMicrographName #3
_rlnAutopickFigureOfMerit #4
_rlnOpticsGroup #5
10.6 20.2 MotionCorr/job002/a.mrc 1.0 1
31.0 22.25 MotionCorr/job002/a.mrc 3.0 1
5.0 6.0 MotionCorr/job002/b.mrc 2.0 1
"""


def run(line: str) -> Result:
    """Run a line as a shell does: words split, patterns expanded, the program's name dropped."""
    words = []
    for word in shlex.split(line)[1:]:
        words += sorted(glob.glob(word)) or [word]
    out, err = io.StringIO(), io.StringIO()
    with (
        mock.patch.dict(os.environ, OMP_NUM_THREADS="1"),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        try:
            code: object = main(words)
        except SystemExit as end:
            code = end.code or 0
    assert isinstance(code, int)
    assert "Traceback" not in err.getvalue()
    return Result(code, out.getvalue(), err.getvalue())


def good(line: str) -> Result:
    """Run a line that must end well."""
    result = run(line)
    assert result.code == 0, result.err
    return result


def refused(line: str) -> str:
    """Run a line that must be refused, and return the sentence."""
    result = run(line)
    assert result.code == 2
    last = result.err.splitlines()[-1]
    assert last.startswith("# error: "), result.err
    return last


def write_images(folder: Path, *names: str, pixel_size: float = 1.5) -> None:
    """Write small micrographs with a dark patch."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed, name in enumerate(names):
        image = np.random.default_rng(seed).normal(10, 2, (66, 82)).astype(np.float32)
        image[20:30, 20:40] -= 8
        with mrcfile.new(folder / name, overwrite=True) as mrc:
            mrc.set_data(image)
            mrc.voxel_size = pixel_size
