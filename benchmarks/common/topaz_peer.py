"""Install Topaz 0.3.20, the reference program, into an environment of its own.

    python -m benchmarks.common.topaz_peer FOLDER

It is never a dependency of heliodor. Its package would replace a CPU build of PyTorch with
gigabytes of CUDA, so its dependencies are listed here. Of torchvision, whose compiled part fits no
CPU build, only rotations and mirrors are used, which work without that part.
"""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

NEEDED = (
    "torch==2.13.0 numpy scipy pandas scikit-learn pillow h5py psutil tqdm future setuptools<81"
)


def install(folder: Path) -> Path:
    """Make the environment where it is not there yet, and return its `topaz`."""
    program = folder / "bin" / "topaz"
    if program.exists():
        return program
    venv.create(folder, with_pip=True, clear=True)
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet"]
    subprocess.run([*pip, *NEEDED.split()], check=True)
    subprocess.run([*pip, "--no-deps", "torchvision==0.28.0"], check=True)
    (vision,) = folder.glob("lib/python*/site-packages/torchvision/__init__.py")
    vision.write_text('__version__ = "0.28.0"\n')
    # Last, for the program's being there tells that the environment is whole.
    subprocess.run([*pip, "--no-deps", "topaz-em==0.3.20"], check=True)
    return program


if __name__ == "__main__":
    print(install(Path(sys.argv[1])))
