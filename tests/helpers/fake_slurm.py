"""Programs that stand for those of SLURM, and run the jobs on this computer at once.

The jobs have the numbers 17, 18, ...; a job waits for those that it depends on. While the file
`HOLD` is beside the programs, no job begins.
"""

from __future__ import annotations

import sys
from pathlib import Path

HOLD = "hold"

_SBATCH = r"""#!@python@
import os, re, subprocess, sys, time
from pathlib import Path
here = Path(__file__).parent

def wait_for(script):
    for rule, numbers in re.findall(r"(afterok|afterany):(\d+)", script):
        ended = here / f"{numbers}.ended"
        while not ended.exists():
            time.sleep(0.05)
        if rule == "afterok" and ended.read_text() != "0":
            return False
    return True

def run(number, script):
    code = 1
    if wait_for(script):
        (here / f"{number}.running").touch()
        found, processes = re.search(r"--array=.?(\d+)-(\d+)", script), []
        own = {"SLURM_JOB_ID": str(number)}
        for element in range(int(found[1]), int(found[2]) + 1) if found else [None]:
            if element is not None:
                own = {"SLURM_ARRAY_JOB_ID": str(number), "SLURM_ARRAY_TASK_ID": str(element),
                       "SLURM_JOB_ID": str(1000 * number + element)}
            processes.append(subprocess.Popen(["bash", "-c", script], env={**os.environ, **own}))
        code = max(process.wait() for process in processes)
    (here / f"{number}.ended").write_text(str(code))

if sys.argv[1] == "--run":
    run(int(sys.argv[2]), (here / f"{sys.argv[2]}.script").read_text())
    sys.exit()
number = 17 + len(list(here.glob("*.script")))
(here / f"{number}.script").write_text(Path(sys.argv[1]).read_text())
if not (here / "hold").exists():
    subprocess.Popen([sys.executable, __file__, "--run", str(number)],
                     stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
print(f"Submitted batch job {number}")
"""
#: Runs the command behind its own options, with its messages in the files that they name.
_SRUN = """#!@python@
import os, sys
own, words = sys.argv, sys.argv[sys.argv.index("@python@"):]
names = {"%j": "SLURM_JOB_ID", "%A": "SLURM_ARRAY_JOB_ID", "%a": "SLURM_ARRAY_TASK_ID"}
for option, number in (("--output", 1), ("--error", 2)):
    path = own[own.index(option) + 1].replace("%t", "0")
    for mark, name in names.items():
        path = path.replace(mark, os.environ.get(name, ""))
    os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644), number)
os.execv(words[0], words)
"""
_SCANCEL = """#!@python@
import sys
open("scancelled", "w").write(" ".join(sys.argv[1:]))
"""
_SQUEUE = r"""#!@python@
import re, sys
from pathlib import Path
here, number = Path(__file__).parent, sys.argv[sys.argv.index("--jobs") + 1]
script = here / f"{number}.script"
if not script.exists() or (here / f"{number}.ended").exists():
    sys.exit("slurm_load_jobs error: Invalid job id specified")
text = script.read_text()
found = re.search(r"--array=.?(\d+)-(\d+)", text)
count = int(found[2]) - int(found[1]) + 1 if found else 1
is_held = "--dependency" in text and not (here / f"{number}.running").exists()
state = "PENDING|Dependency" if is_held else "RUNNING|None"
if (here / "hold").exists():
    state = "PENDING|Resources"
print("\n".join([state] * count))
"""


def write_slurm(folder: Path) -> None:
    """Write sbatch, srun, scancel and squeue into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = {"sbatch": _SBATCH, "srun": _SRUN, "scancel": _SCANCEL, "squeue": _SQUEUE}
    for name, text in texts.items():
        path = folder / name
        path.write_text(text.replace("@python@", sys.executable))
        path.chmod(0o755)
