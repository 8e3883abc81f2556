"""Memory: kept by the process for its next use."""

from __future__ import annotations

import ctypes
import sys

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
