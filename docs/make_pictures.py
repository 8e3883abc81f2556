"""Make the pictures of the README from the demonstration's results.

make demo && .venv/bin/python docs/make_pictures.py demo
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from heliodor.conventions import to_working
from heliodor.formats import read_picks
from heliodor.gallery import draw_micrograph
from heliodor.matching import match
from heliodor.preparation import prepare
from heliodor.report import GalleryItem
from heliodor.sources import find_sources

DIAMETER, PIXEL_SIZE = 150.0, 6.0


def main() -> None:
    demo = Path(sys.argv[1])
    picks = dict(read_picks(demo / "results" / "picks.tsv").by_micrograph())
    truth = dict(read_picks(demo / "unseen" / "truth.star").by_micrograph())
    source = find_sources(demo / "unseen" / "micrographs.star")[0]
    own, true = picks[source.name], truth[source.name]
    matching = match(own.xy_px, true.xy_px, 0.4 * DIAMETER / 4.0)
    found = np.isin(np.arange(len(true)), matching.truth_index)
    image = prepare(source, PIXEL_SIZE)

    def working(xy: np.ndarray) -> np.ndarray:
        return to_working(xy, image.original_shape, image.shape)

    item = GalleryItem(
        name=source.name,
        image=image.image,
        pixel_size_angstrom=image.working_pixel_size_angstrom,
        picks_xy_px=working(own.xy_px),
        picks_score=own.score,
        labels_xy_px=None,
        truth_xy_px=working(true.xy_px),
        picks_matched=matching.is_true_positive,
        truth_matched=found,
    )
    out = Path(__file__).parent / "images" / "picks.png"
    out.parent.mkdir(exist_ok=True)
    out.write_bytes(draw_micrograph(item, DIAMETER))
    print(f"wrote {out} ({out.stat().st_size} bytes)")


if __name__ == "__main__":
    main()
