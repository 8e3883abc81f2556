"""Where to compute: device, number of threads, memory. PyTorch is imported when it is needed."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from heliodor.errors import BadInput
from heliodor.utils.prefetch import prefetch
from heliodor.utils.settings import option
from heliodor.utils.threads import resolve_threads

if TYPE_CHECKING:
    import torch

    from heliodor.utils.array_store import ArrayStore

T = TypeVar("T")
R = TypeVar("R")

#: Memory that the program, its libraries and a minibatch need, and the smallest limit.
WORK_GB, LEAST_GB = 0.9, 1.0

_COMPUTE = "Compute"


@dataclass(frozen=True)
class ComputeSettings:
    """Where to compute."""

    device: str = option(
        "auto", help="auto, cpu, cuda, cuda:N or mps.", group=_COMPUTE, metavar="DEVICE"
    )
    threads: int | None = option(
        None,
        help="Number of threads.",
        group=_COMPUTE,
        metavar="N",
        default="the CPUs this process may use",
    )
    #: GB (10^9 bytes) that a training may take; None is no limit.
    memory_gb: float | None = option(
        None,
        help="Memory limit for training; images beyond it are kept in temporary files in OUT,"
        " which is slower; the results are the same.",
        group=_COMPUTE,
        metavar="GB",
        default="no limit",
    )

    def __post_init__(self) -> None:
        if self.memory_gb is not None and not LEAST_GB <= self.memory_gb < 1e6:
            raise BadInput(
                f"training needs {LEAST_GB:g} GB of memory or more, not {self.memory_gb:g}",
                parameter="memory",
            )

    def array_store(self, folder: Path) -> ArrayStore:
        """Return where a training keeps its images: in memory up to the limit, then in files.

        Parameters
        ----------
        folder
            The files are on the disk of this folder.
        """
        from heliodor.utils.array_store import ArrayStore

        if self.memory_gb is None:
            return ArrayStore()
        return ArrayStore(folder, (self.memory_gb - WORK_GB) * 1e9)

    def start(self) -> torch.device:
        """Set the number of threads and the use of memory of this process; return the device.

        For commands: it changes the whole process. On a GPU too the same seed gives the same
        picks, so only deterministic kernels are used.
        """
        import torch

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
        If the device is unknown or not available; `auto` always finds one.
    """
    import torch

    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    # torch knows more names, some of which (meta) it makes tensors on that hold no numbers.
    if name.partition(":")[0] not in ("cpu", "cuda", "mps"):
        raise BadInput(
            f"the device must be one of auto, cpu, cuda, cuda:0 (or 1, ...), mps, not {name!r}",
            parameter="device",
        )
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).strip().splitlines()[0]
        raise BadInput(
            f"the device {name!r} cannot be used ({reason}); choose auto or cpu",
            parameter="device",
        ) from error
    return device


def set_threads(threads: int | None = None) -> int:
    """Set the number of threads that PyTorch uses in this process; see `resolve_threads`.

    Returns
    -------
    int
        The number in force.
    """
    count = resolve_threads(threads)
    import torch

    torch.set_num_threads(count)
    return count


@contextmanager
def one_thread_each(wanted: bool = True) -> Iterator[int]:
    """Let PyTorch use one thread in each thread that starts in the block, if `wanted`.

    Several tasks at once use processors better than several threads per task, and the sums of a
    network then do not depend on the number of processors.

    Yields
    ------
    int
        The number of threads that PyTorch used before, and uses again afterwards.
    """
    import torch

    before = torch.get_num_threads()
    if wanted:
        torch.set_num_threads(1)
    try:
        yield before
    finally:
        torch.set_num_threads(before)


def map_in_threads(
    function: Callable[[T], R],
    items: Sequence[T],
    device: torch.device | str,
    progress: Callable[[int, int], None] | None = None,
) -> list[R]:
    """Apply a function that uses PyTorch to items: on CPUs several at a time, one thread each.

    Parameters
    ----------
    function, items
        Results are in the order of the items.
    device
        Where the function computes; on a GPU one item at a time.
    progress
        Called with the numbers of items that are done and of all.
    """
    on_cpu = str(device).startswith("cpu")
    values = []
    with (
        one_thread_each(on_cpu) as threads,
        prefetch(function, items, threads if on_cpu else 1) as results,
    ):
        for _, future in results:
            values.append(future.result())
            if progress is not None:
                progress(len(values), len(items))
    return values


#: Parameters of mallopt, from malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
#: Blocks above this size in bytes are mapped one by one, as by default: the maximum that the C
#: library allows.
_LARGEST_KEPT = 2**25
#: Unused memory beyond this is returned to the system.
_MOST_UNUSED = 2**29


def keep_freed_memory() -> bool:
    """Let the C library keep freed large blocks, to reuse them for blocks of the same size.

    By default it returns them to the system, which zeroes the memory again, page by page, for the
    next layer of a network: that took a third of the time of scoring.

    Returns
    -------
    bool
        Whether it could be set: only glibc is known to support it.
    """
    if sys.platform != "linux":
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        return False
    # One arena, as those of threads keep no blocks of this size.
    kept = ((_MMAP_THRESHOLD, _LARGEST_KEPT), (_TRIM_THRESHOLD, _MOST_UNUSED))
    wanted = (*kept, (_ARENA_MAX, 1))
    return all(library.mallopt(name, value) == 1 for name, value in wanted)
