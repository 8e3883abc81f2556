"""Where to compute: the device and the number of threads of a command."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch

from heliodor.scoring import choose_device
from heliodor.threads import set_threads


@dataclass(frozen=True)
class Compute:
    """Where to compute."""

    device: str = "auto"
    threads: int | None = None

    def start(self) -> torch.device:
        """Fix the number of threads and return the device."""
        set_threads(self.threads)
        return choose_device(self.device)


def flat(*settings: Any) -> dict[str, Any]:
    """Return the fields of settings objects in one dictionary, for a run's record."""
    return {key: value for part in settings for key, value in asdict(part).items()}
