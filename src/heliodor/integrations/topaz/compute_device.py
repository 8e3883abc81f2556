"""Set up the device and threads from Topaz's options."""

from __future__ import annotations

import torch

from heliodor.integrations.topaz.output import report
from heliodor.utils.compute import ComputeSettings


def start_compute(device: int, threads: int) -> torch.device:
    """Set the number of threads and return the device.

    Parameters
    ----------
    device
        Number of a GPU; negative for the CPU, which is also used if there is no GPU.
    threads
        Number of threads; 0 or negative for all that are available to this process.

    Raises
    ------
    BadInput
        If there are GPUs, but not that one.
    """
    name = "cpu"
    if device >= 0:
        if torch.cuda.is_available():
            name = f"cuda:{device}"
        elif torch.backends.mps.is_available():
            name = "mps"
        else:
            report(f"no GPU found for device {device}; using the CPU")
    return ComputeSettings(name, threads if threads > 0 else None).start()
