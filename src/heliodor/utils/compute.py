"""Where to compute: the device and the number of threads of a command."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from heliodor.errors import BadInput
from heliodor.utils.array_store import Shelf
from heliodor.utils.threads import chosen_threads

#: What the program, its libraries and a minibatch take, and the least that it can work with.
WORK_GB, LEAST_GB = 0.9, 1.0


@dataclass(frozen=True)
class Compute:
    """Where to compute."""

    device: str = "auto"
    threads: int | None = None
    #: GB (10^9 bytes) that a training may take; None is no limit.
    memory_gb: float | None = None

    def __post_init__(self) -> None:
        if self.memory_gb is not None and not LEAST_GB <= self.memory_gb < 1e6:
            raise BadInput(
                f"training cannot do with {self.memory_gb:g} GB of memory (--memory); give"
                f" {LEAST_GB:g} or more"
            )

    def shelf(self, folder: Path) -> Shelf:
        """Return where a training keeps its images: in memory while it lasts, then in files.

        Parameters
        ----------
        folder
            On whose disk the files lie.
        """
        if self.memory_gb is None:
            return Shelf()
        return Shelf(folder, (self.memory_gb - WORK_GB) * 1e9)

    def start(self) -> torch.device:
        """Fix the number of threads, see to the use of memory, and return the device.

        On a GPU too the same seed is to give the same picks, so only deterministic kernels.
        """
        torch.backends.cudnn.deterministic = True
        torch.backends.cudnn.benchmark = False
        set_threads(self.threads)
        keep_freed_memory()
        return choose_device(self.device)


def choose_device(name: str = "auto") -> torch.device:
    """Return the device to compute on: auto, cpu, cuda, cuda:N or mps.

    Raises
    ------
    BadInput
        If the device is unknown or not there; `auto` always finds one.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    # torch knows more names, some of which (meta) it makes tensors on that hold no numbers.
    if name.partition(":")[0] not in ("cpu", "cuda", "mps"):
        raise BadInput(f"the device {name!r} is none of auto, cpu, cuda, cuda:0 (or 1, ...), mps")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).strip().splitlines()[0]
        raise BadInput(
            f"the device {name!r} cannot be used ({reason}); give --device auto or cpu"
        ) from error
    return device


#: mallopt's names of what is given back to the system, from malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8


#: Larger blocks than this, bytes, are mapped each for itself, as by default: the most that the
#: C library allows.
_LARGEST_KEPT = 2**25


#: So much may lie unused before the end of it is given back.
_MOST_UNUSED = 2**29


def keep_freed_memory() -> bool:
    """Let the C library keep large blocks that were freed, for the next ones of their size.

    By default it gives them back, and the system fills the same memory with zeros, page by page,
    for the next layer of a network: that took a third of the time of scoring.

    Returns
    -------
    bool
        Whether that could be asked for: only glibc is known to understand it.
    """
    if sys.platform != "linux":
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        return False
    # One arena, as those that threads have for themselves keep nothing of this size.
    kept = ((_MMAP_THRESHOLD, _LARGEST_KEPT), (_TRIM_THRESHOLD, _MOST_UNUSED))
    wanted = (*kept, (_ARENA_MAX, 1))
    return all(library.mallopt(name, value) == 1 for name, value in wanted)


def set_threads(threads: int | None = None) -> int:
    """Fix the number of threads that PyTorch uses in this process; see `chosen_threads`.

    Returns
    -------
    int
        The number in force.
    """
    number = chosen_threads(threads)

    torch.set_num_threads(number)
    return number


@contextmanager
def one_thread_each(wanted: bool = True) -> Iterator[int]:
    """Let PyTorch use one thread in each thread that begins in here, if that is wanted.

    Several pieces of work at a time use processors better than several threads for each piece,
    and the sums of a network then do not depend on how many processors there are.

    Yields
    ------
    int
        The number of threads that PyTorch used before, and uses again afterwards.
    """
    before = torch.get_num_threads()
    if wanted:
        torch.set_num_threads(1)
    try:
        yield before
    finally:
        torch.set_num_threads(before)
