"""Where to compute: what Topaz's numbers of devices and threads mean here."""

from __future__ import annotations

import torch

from heliodor.integrations.topaz.output import report
from heliodor.utils.compute import ComputeSettings


def start_compute(device: int, threads: int) -> torch.device:
    """Fix the threads and return the device.

    Parameters
    ----------
    device
        A GPU's number; below 0 the CPU, which also takes the place of a GPU where there is none.
    threads
        0 or below: all that this process may use.

    Raises
    ------
    BadInput
        If there is no GPU of that number beside others.
    """
    name = "cpu"
    if device >= 0:
        if torch.cuda.is_available():
            name = f"cuda:{device}"
        elif torch.backends.mps.is_available():
            name = "mps"
        else:
            report(f"There is no GPU for device {device}: computing on the CPU.")
    return ComputeSettings(name, threads if threads > 0 else None).start()
