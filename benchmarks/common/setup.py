"""The settings that every stage of the speed benchmarks gets."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.common.tables import markdown


@dataclass(frozen=True)
class Setup:
    """A run of the benchmark."""

    #: Topaz's program, in its own environment.
    topaz: Path
    #: Where files go.
    work: Path
    threads: int
    repeats: int
    quick: bool
    #: What `benchmarks.speed.machine_limits.rates` measured.
    rates: dict[str, Any]

    @property
    def weights(self) -> Path:
        """The weights of resnet8 with 32 units that come with Topaz."""
        where = "lib/python*/site-packages/topaz/pretrained/detector/resnet8_u32.sav"
        (path,) = self.topaz.parents[1].glob(where)
        return path

    @property
    def read_and_transform(self) -> float:
        """The floor of a large micrograph, seconds: to read it and transform it once."""
        return float(self.rates["read_s"] + self.rates["rfft2_s"])


def processor() -> str:
    """Return the name that the processor gives itself."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.machine()


def describe(setup: Setup) -> str:
    """Return the first table: the machine, and what it can do at best."""
    rates = setup.rates
    side = "4096 x 4096 float32"
    rows = [
        ("date", f"{datetime.now(UTC):%Y-%m-%d}"),
        ("processor, cores used", f"{processor()}, {setup.threads}"),
        ("Python, PyTorch", f"{platform.python_version()}, {rates['torch']}"),
        ("repeats (medians)", str(setup.repeats) + (", quick" if setup.quick else "")),
        (f"read {side}, from the page cache into one buffer", f"{rates['read_s']:.4f} s"),
        (f"one rfft2 of it (scipy, {setup.threads} workers)", f"{rates['rfft2_s']:.4f} s"),
        ("copy memory", f"{rates['copy_bytes_per_s'] / 1e9:.1f} GB/s"),
    ]
    for kind in ("float32", "bf16"):
        product, convolution = (
            rates[f"{name}_{kind}"] / 1e9 for name in ("product", "convolution")
        )
        rows += [
            (f"multiply 2048^3, {kind}", f"{product:.0f} G multiply-adds/s"),
            (f"convolve 64 to 128, 5 x 5, {kind}", f"{convolution:.0f} G multiply-adds/s"),
        ]
    return markdown(["machine", ""], rows)
