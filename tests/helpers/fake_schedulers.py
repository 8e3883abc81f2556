"""Programs that stand for those of cluster schedulers: they run a job's tasks, one by one."""

from __future__ import annotations

import sys
from pathlib import Path

#: Runs a job script, as often as its array has elements, in the current folder.
_SUBMIT = r"""#!@python@
import os, re, subprocess, sys
script = open(sys.argv[-1]).read() if len(sys.argv) > 1 else sys.stdin.read()
found = re.search(r"@array@", script)
numbers = range(int(found[1]), int(found[2]) + 1) if found else [None]
for number in numbers:
    own = {} if number is None else {"@variable@": str(number)}
    os.environ.update(PBS_O_WORKDIR=os.getcwd(), **own)
    if code := subprocess.run(["sh", "-c", script]).returncode:
        sys.exit(code)
print("Submitted batch job 17")
"""
#: Starts as many processes as it is told to.
_SRUN = """#!@python@
import subprocess, sys
words = sys.argv[3:]
processes = [subprocess.Popen(words) for _ in range(int(sys.argv[2]))]
sys.exit(max(process.wait() for process in processes))
"""
#: The variable with the number of an element, and how an array is asked for.
_ARRAYS = {
    "sbatch": ("SLURM_ARRAY_TASK_ID", r"#SBATCH --array=(\d+)-(\d+)"),
    "bsub": ("LSB_JOBINDEX", r"#BSUB -J .*\[(\d+)-(\d+)\]"),
    "qsub": ("PBS_ARRAY_INDEX", r"#PBS -J (\d+)-(\d+)"),
}


def write_schedulers(folder: Path) -> None:
    """Write sbatch and srun (SLURM), bsub (LSF) and qsub (PBS) into a folder."""
    texts = {
        name: _SUBMIT.replace("@variable@", variable).replace("@array@", array)
        for name, (variable, array) in _ARRAYS.items()
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in {**texts, "srun": _SRUN}.items():
        path = folder / name
        path.write_text(text.replace("@python@", sys.executable))
        path.chmod(0o755)
