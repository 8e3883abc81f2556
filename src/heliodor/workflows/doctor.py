"""The command `doctor`: what this computer has, what is wrong with it, and how to fix that."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

import heliodor
from heliodor.errors import BadInput
from heliodor.models.pretrained import load_general_model
from heliodor.models.registry import named_models_folder, site_model_folders
from heliodor.picking.score_maps import card_step
from heliodor.picking.scoring import score_smoothly
from heliodor.utils.compute import one_thread_each
from heliodor.utils.locking import LockingUnsupported, try_lock
from heliodor.utils.threads import explain_usable_cpus, usable_cpus
from heliodor.workflows.models import list_models
from heliodor.workflows.site_settings import settings_files

#: Programs before and after picking that are looked for, by their most common command.
TOOLS: Final = {
    "RELION": ("relion_preprocess", "--version"),
    "cryoSPARC": ("cryosparcm", None),
    "EMAN2": ("e2version.py", None),
    "Scipion": ("scipion3", None),
    "Topaz": ("topaz", None),
    "SLURM": ("sbatch", "--version"),
}
#: Packages that some commands need.
PACKAGES: Final = {
    "cryosparc-tools": "results into cryoSPARC projects",
    "submitit": "working on a cluster with --cluster",
    "onnx": "heliodor model export",
}
#: Less memory or free space than this is worth a warning, GB.
LEAST_MEMORY_GB: Final = 3.0
LEAST_SPACE_GB: Final = 1.0
#: A device is tested for about so long.
TEST_SECONDS: Final = 1.0
#: Side of the image of the test, in working pixels.
TEST_SIDE: Final = 512
#: Programs that do not answer in this time are taken as they are.
PATIENCE_SECONDS: Final = 10.0


@dataclass(frozen=True)
class Finding:
    """Something that was found out."""

    group: str
    name: str
    value: str
    #: What is wrong with it, and how to fix that; empty if it is as it should be.
    problem: str = ""


def examine(test_seconds: float = TEST_SECONDS) -> list[Finding]:
    """Examine this computer as far as heliodor depends on it.

    Parameters
    ----------
    test_seconds
        How long each device is tested.

    Returns
    -------
    list of Finding
        In the order to show them.
    """
    return [
        *_examine_program(),
        *_examine_threads(),
        *_examine_devices(test_seconds),
        *_examine_models(),
        *_examine_folders(),
        *_examine_settings(),
        *_examine_tools(),
    ]


def render_findings(findings: Sequence[Finding]) -> str:
    """Return findings as text: a table by groups, then what is wrong."""
    width = max(len(finding.name) for finding in findings)
    lines, group = list[str](), ""
    for finding in findings:
        if finding.group != group:
            lines += ["", finding.group] if group else [finding.group]
            group = finding.group
        mark = "!" if finding.problem else " "
        lines.append(f"{mark} {finding.name.ljust(width)}  {finding.value}")
    problems = [f"- {f.name}: {f.problem}" for f in findings if f.problem]
    lines += ["", "What is wrong", *problems] if problems else ["", "Nothing is wrong."]
    return "\n".join(lines)


def as_json(findings: Sequence[Finding]) -> dict[str, Any]:
    """Return findings ready for JSON."""
    return {
        "heliodor": heliodor.__version__,
        "findings": [asdict(finding) for finding in findings],
        "problems": sum(bool(finding.problem) for finding in findings),
    }


def _examine_program() -> Iterator[Finding]:
    group = "Program"
    yield Finding(group, "heliodor", f"{heliodor.__version__} in {Path(heliodor.__file__).parent}")
    yield Finding(group, "Python", f"{platform.python_version()} ({sys.executable})")
    yield Finding(
        group, "system", f"{platform.system()} {platform.release()} {platform.machine()}"
    )
    for name in ("torch", "numpy", "scipy"):
        yield Finding(group, name, importlib.metadata.version(name))
    for name, purpose in PACKAGES.items():
        try:
            yield Finding(group, name, importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            yield Finding(group, name, f"not installed (only needed for {purpose})")


def _examine_threads() -> Iterator[Finding]:
    group, count = "Processors and memory", usable_cpus()
    reasons = explain_usable_cpus()
    yield Finding(group, "threads", f"{count} ({'; '.join(reasons)})")
    memory = _available_memory_gb()
    if memory is not None:
        problem = (
            f"less than {LEAST_MEMORY_GB:g} GB are free; close other programs, ask the scheduler"
            " for more, or train with --memory and pick with --threads 1"
            if memory < LEAST_MEMORY_GB
            else ""
        )
        yield Finding(group, "memory available", f"{memory:.1f} GB", problem)


def _examine_devices(seconds: float) -> Iterator[Finding]:
    import torch

    group = "Devices"
    yield Finding(group, "cpu", _measure("cpu", seconds))
    has_driver = _has_nvidia_device()
    built_for = torch.version.cuda
    if torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            yield _examine_gpu(group, number, seconds)
    elif has_driver and built_for is None:
        yield Finding(
            group, "cuda", "there is an NVIDIA GPU, but PyTorch is a build without CUDA",
            "install a PyTorch with CUDA: see https://pytorch.org/get-started/locally",
        )  # fmt: skip
    elif has_driver:
        yield Finding(
            group, "cuda", f"PyTorch (CUDA {built_for}) cannot use the NVIDIA GPU",
            "the driver may be older than this CUDA, or CUDA_VISIBLE_DEVICES"
            f" ({os.environ.get('CUDA_VISIBLE_DEVICES', 'not set')}) hides it; compare with"
            " nvidia-smi",
        )  # fmt: skip
    else:
        yield Finding(group, "cuda", "no NVIDIA GPU; everything runs on the CPU")
    if torch.backends.mps.is_available():
        yield Finding(group, "mps", _measure("mps", seconds))


def _examine_gpu(group: str, number: int, seconds: float) -> Finding:
    import torch

    name = f"cuda:{number}"
    try:
        free, total = (amount / 1e9 for amount in torch.cuda.mem_get_info(number))
        what = f"{torch.cuda.get_device_name(number)}, {free:.1f} of {total:.1f} GB free"
        speed = _measure(name, seconds)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[0]
        return Finding(
            group, name, "cannot be used", f"{reason}; choose another device with --device"
        )
    problem = "less than 1 GB is free; choose another device with --device" if free < 1.0 else ""
    return Finding(group, name, f"{what}; {speed}", problem)


def _measure(device: str, seconds: float) -> str:
    """Return how fast a device scores with the general model, as in picking."""
    model = load_general_model()
    network = model.network.to(device)
    step = card_step(model, model.card.working_pixel_size_angstrom)
    image = np.zeros((TEST_SIDE, TEST_SIDE), np.float32)
    with one_thread_each():
        score_smoothly(network, image, step, device)  # the first call also prepares the device
        times = _repeat(lambda: score_smoothly(network, image, step, device), seconds)
    speed = TEST_SIDE**2 / 1e6 / float(np.median(times))
    where = " on one thread" if device == "cpu" else ""
    return f"scores {speed:.2g} million working pixels per second{where}"


def _repeat(work: Callable[[], object], seconds: float) -> list[float]:
    """Return how long something takes, each time, for a while."""
    end, times = time.perf_counter() + seconds, list[float]()
    while not times or time.perf_counter() < end:
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return times


def _examine_models() -> Iterator[Finding]:
    group = "Models"
    general, filaments, *named = list_models()
    folders = {named_models_folder(): "your models"}
    folders |= dict.fromkeys(site_model_folders(), "models of the site")
    for own in (general, filaments):
        words = f"version {own.version}, fingerprint {own.fingerprint}"
        problem = f"{own.fault}; install heliodor again" if own.fault else ""
        yield Finding(group, own.name, own.file if problem else words, problem)
    for folder, name in folders.items():
        number = sum(Path(model.file).parent == folder for model in named)
        there = "" if folder.is_dir() else " (no such folder)"
        yield Finding(group, name, f"{number} in {folder}{there}")
    for model in named:
        if model.fault:
            yield Finding(group, model.name, model.file, model.fault)


def _examine_folders() -> Iterator[Finding]:
    group = "Folders"
    places = {"current folder": Path.cwd(), "temporary files": Path(tempfile.gettempdir())}
    with suppress(RuntimeError):  # there is no home
        places["home"] = Path.home()
    for name, folder in places.items():
        yield _examine_folder(group, name, folder)


def _examine_folder(group: str, name: str, folder: Path) -> Finding:
    try:
        free = shutil.disk_usage(folder).free / 1e9
        with tempfile.TemporaryDirectory(dir=folder, prefix=".heliodor-") as temporary:
            locks = _describe_locks(Path(temporary) / "lock")
    except OSError as error:
        return Finding(
            group, name, str(folder),
            f"cannot be written ({error.strerror}); write results elsewhere with -o",
        )  # fmt: skip
    problem = (
        f"less than {LEAST_SPACE_GB:g} GB is free; remove files, or write elsewhere with -o"
        if free < LEAST_SPACE_GB
        else ""
    )
    return Finding(group, name, f"{folder}, {free:.0f} GB free{locks}", problem)


def _describe_locks(path: Path) -> str:
    """Return what there is to know of file locks where a file is, after a comma; or nothing."""
    try:
        descriptor = try_lock(path)
    except LockingUnsupported:
        return ", no file locks: do not run two commands in one folder"
    if descriptor is not None:
        os.close(descriptor)
    return ""


def _examine_settings() -> Iterator[Finding]:
    group = "Settings"
    for each in settings_files():
        name = f"those of the {each.owner}"
        try:
            values = each.read()
        except BadInput as error:
            yield Finding(group, name, str(each.path), str(error))
            continue
        words = ", ".join(f"{key} = {value}" for key, value in values.items())
        there = f" ({words or 'no values'})" if each.path.is_file() else " (no such file)"
        yield Finding(group, name, f"{each.path}{there}")


def _examine_tools() -> Iterator[Finding]:
    group = "Other programs"
    for name, (command, option) in TOOLS.items():
        path = shutil.which(command)
        if path is None:
            yield Finding(group, name, f"not found ({command})")
            continue
        version = "" if option is None else _first_line([path, option])
        yield Finding(group, name, f"{path}{f' ({version})' if version else ''}")


def _first_line(command: Sequence[str]) -> str:
    """Return the first line that a program prints."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=PATIENCE_SECONDS, errors="replace"
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return next((line.strip() for line in done.stdout.splitlines() if line.strip()), "")


def _has_nvidia_device() -> bool:
    return Path("/dev/nvidiactl").exists() or shutil.which("nvidia-smi") is not None


def _available_memory_gb() -> float | None:
    """Return the memory that this process may still take, in GB; None if it is not known."""
    limits = list[float]()
    with suppress(OSError, ValueError, StopIteration):
        text = Path("/proc/meminfo").read_text()
        line = next(line for line in text.splitlines() if line.startswith("MemAvailable:"))
        limits.append(int(line.split()[1]) * 1024 / 1e9)
    with suppress(OSError, ValueError):
        group = Path("/sys/fs/cgroup")
        most = int((group / "memory.max").read_text())
        limits.append((most - int((group / "memory.current").read_text())) / 1e9)
    return min(limits) if limits else None
