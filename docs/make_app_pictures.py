"""Make the images of the app from the screenshots of its browser test.

HELIODOR_SCREENSHOTS=shots .venv/bin/python -m pytest -p no:xdist tests/browser/test_story.py
.venv/bin/python docs/make_app_pictures.py shots
"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image

#: Names of the screenshots, and of the images in the documentation.
PICTURES = {"4-inspect-1440x900": "app_inspect", "5-review-1440x900": "app_review"}
WIDTH_PX = 1080


def main() -> None:
    folder, out = Path(sys.argv[1]), Path(__file__).with_name("images")
    for name, target in PICTURES.items():
        image = Image.open(folder / f"{name}.png").convert("RGB")
        size = (WIDTH_PX, round(image.height * WIDTH_PX / image.width))
        small = image.resize(size, Image.Resampling.LANCZOS)
        small.save(out / f"{target}.jpg", quality=72, optimize=True)


if __name__ == "__main__":
    main()
