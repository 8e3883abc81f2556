"""The cost of finding contamination in picking: the second output, the mask, the distances.

    python -m benchmarks.speed.contamination_cost [--side 950] [--turns 15] [--network resnet8]
        [--width 16]

Study, 2026-11. Scores one image with and without the contaminant output, in turn, on one thread;
the classifier is set so that a fifth of the image is contamination. Prints the median of the
ratios.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

from heliodor.models.networks import build_network
from heliodor.picking.contamination import ContaminationMask
from heliodor.picking.scoring import score_smoothly, score_with_contaminants

#: Working pixels of a particle's diameter, as the usual network has it, and so many candidates.
DIAMETER_PX, CANDIDATES = 35.0, 1500


def seconds(action: Callable[[], Any]) -> float:
    """Return the processor's time that an action takes, whatever else the machine does."""
    started = time.process_time()
    action()
    return time.process_time() - started


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=950, help="of the image in pixels [950]")
    parser.add_argument("--turns", type=int, default=15, help="repeats [15]")
    parser.add_argument("--network", default="resnet8", help="[resnet8]")
    parser.add_argument("--width", type=int, default=16, help="channels of the network [16]")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    network = build_network(args.network, args.width, contaminant=True).eval()
    random = np.random.default_rng(0)
    image = random.standard_normal((args.side, args.side)).astype(np.float32)
    for step in (network.stride, 1):

        def plain(step: int = step) -> Any:
            return score_smoothly(network, image, step)

        def both(step: int = step) -> Any:
            return score_with_contaminants(network, image, step)

        plain(), both()
        pairs = [(seconds(plain), seconds(both)) for _ in range(args.turns)]
        ratio = statistics.median(b / a for a, b in pairs)
        usual = statistics.median(a for a, _ in pairs)
        kind = "dense" if step == 1 else f"every {step} px"
        print(f"{kind:>11}: {1e3 * usual:7.1f} ms without, {100 * (ratio - 1):+.2f} % with")
    points = -(-args.side // network.stride)
    smooth = gaussian_filter(random.standard_normal((points, points)), points / 15)
    log_odds = 20 * (smooth - np.quantile(smooth, 0.8)) / smooth.std()
    places = random.uniform(0, args.side, (CANDIDATES, 2))

    def areas() -> ContaminationMask:
        found = ContaminationMask.from_log_odds(
            log_odds.astype(np.float32), float(network.stride), DIAMETER_PX
        )
        found.distance_angstrom(places)
        return found

    found = areas()
    taken = statistics.median(seconds(areas) for _ in range(args.turns))
    clean = np.full_like(log_odds, -9.0, dtype=np.float32)
    none = statistics.median(
        seconds(lambda: ContaminationMask.from_log_odds(clean, float(network.stride), DIAMETER_PX))
        for _ in range(args.turns)
    )
    print(
        f"mask and {CANDIDATES} distances: {1e3 * taken:.1f} ms where {found.fraction:.0%} of"
        f" {points} x {points} points is bad, {1e3 * none:.1f} ms where nothing is"
    )


if __name__ == "__main__":
    main()
