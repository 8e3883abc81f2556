"""How fast this machine reads, transforms, multiplies and copies: the floors of the tables.

    python -m benchmarks.speed.machine_limits rates THREADS FILE      the rates, as JSON
    python -m benchmarks.speed.machine_limits bulk THREADS FILE ...   turns of reading and
        transforming all files

Files are read into one reused buffer, from the page cache wherever they fit there.
"""

from __future__ import annotations

import copy
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.common.turns import serve

#: The header of an MRC file without an extended one.
HEADER_BYTES = 1024
SIDE_PX = 4096
PRODUCT = 2048
#: Inputs, outputs, width of the convolution, images and their side: most of what resnet8 does.
CONVOLUTION = (64, 128, 5, 8, 68)


def read(path: Path, buffer: np.ndarray[Any, Any]) -> None:
    """Read the pixels of a float32 MRC file into a buffer."""
    with path.open("rb", buffering=0) as stream:
        stream.seek(HEADER_BYTES)
        into = memoryview(buffer).cast("B")
        got = 0
        while got < len(into):
            more = stream.readinto(into[got:])
            if not more:
                raise ValueError(f"{path} is no {buffer.shape} float32 MRC file")
            got += more


def read_and_transform(
    files: Sequence[Path], buffer: np.ndarray[Any, Any], threads: int, transform: bool = True
) -> None:
    """Read files, one after the other, and transform each."""
    from scipy import fft

    for path in files:
        read(path, buffer)
        if transform:
            fft.rfft2(buffer, workers=threads)


def timed(work: Callable[[], Any], repeats: int = 5) -> float:
    """Return the median seconds, behind one that is not counted."""
    work()
    took = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        took.append(time.perf_counter() - began)
    return statistics.median(took)


def rates(threads: int, file: Path) -> dict[str, Any]:
    """Return the machine's rates: seconds, bytes a second and multiply-adds a second."""
    import torch
    from scipy import fft

    torch.set_num_threads(threads)
    buffer = np.empty((SIDE_PX, SIDE_PX), dtype=np.float32)
    found: dict[str, Any] = {"torch": torch.__version__, "threads": threads}
    found["read_s"] = timed(lambda: read(file, buffer))
    found["rfft2_s"] = timed(lambda: fft.rfft2(buffer, workers=threads))
    whole = torch.from_numpy(buffer)
    target = torch.empty_like(whole)
    found["copy_bytes_per_s"] = buffer.nbytes / timed(lambda: target.copy_(whole))
    inputs, outputs, width, images, side = CONVOLUTION
    for name, kind in (("float32", torch.float32), ("bf16", torch.bfloat16)):
        with torch.inference_mode():
            one, other = (torch.randn(PRODUCT, PRODUCT).to(kind) for _ in range(2))
            found[f"product_{name}"] = PRODUCT**3 / timed(lambda a=one, b=other: a @ b)
            layer = torch.nn.Conv2d(inputs, outputs, width).to(kind)
            layer = layer.to(memory_format=torch.channels_last)
            x = torch.randn(images, inputs, side, side).to(kind)
            x = x.to(memory_format=torch.channels_last)
            adds = layer(x).numel() * inputs * width**2
            found[f"convolution_{name}"] = adds / timed(lambda c=layer, a=x: c(a))
    return found


def multiply_adds(network: Any, side_px: tuple[int, int], step: int = 1) -> int:
    """Return the multiply-adds of the scores of every `step`-th pixel, as convolutions.

    The dense twin's for every pixel, those of the strided network for a lattice; layer by layer.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    edge = network.receptive_field // 2
    height, width = (side + 2 * edge for side in side_px)
    abstract = copy.deepcopy(network).to("meta")
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        abstract(torch.empty(1, 1, height, width, device="meta"), dense=step == 1)
    shifts = 1 if step == 1 else (network.stride // step) ** 2
    return shifts * int(counter.get_total_flops()) // 2


if __name__ == "__main__":
    what, threads, *names = sys.argv[1:]
    files = [Path(name) for name in names]
    if what == "rates":
        print(json.dumps(rates(int(threads), files[0])))
    else:
        from scipy import fft  # noqa: F401  (imported before the clock runs)

        pixels = np.empty((SIDE_PX, SIDE_PX), dtype=np.float32)
        serve(lambda _: read_and_transform(files, pixels, int(threads)))
