"""Where to compute: the device and the number of threads of a command."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from heliodor.errors import BadInput
from heliodor.picking.scoring import choose_device
from heliodor.utils.array_store import Shelf
from heliodor.utils.memory import keep_freed_memory
from heliodor.utils.threads import set_threads

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
