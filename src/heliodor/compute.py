"""Where to compute: the device and the number of threads of a command."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from heliodor.memory import keep_freed_memory
from heliodor.scoring import choose_device
from heliodor.threads import set_threads


@dataclass(frozen=True)
class Compute:
    """Where to compute."""

    device: str = "auto"
    threads: int | None = None

    def start(self) -> torch.device:
        """Fix the number of threads, see to the use of memory, and return the device.

        On a GPU too the same seed is to give the same picks, so only deterministic kernels.
        """
        torch.backends.cudnn.deterministic = True
        torch.backends.cudnn.benchmark = False
        set_threads(self.threads)
        keep_freed_memory()
        return choose_device(self.device)
