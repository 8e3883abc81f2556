"""Make the pictures of the picking room from those that its browser test keeps.

HELIODOR_SCREENSHOTS=shots .venv/bin/python -m pytest -p no:xdist tests/browser/test_story.py
.venv/bin/python docs/make_room_pictures.py shots
"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image

#: What the test calls them, and what they are called here.
PICTURES = {"4-judge-1440x900": "room_judge", "5-ask-1440x900": "room_ask"}
WIDTH_PX = 1080


def main() -> None:
    folder, out = Path(sys.argv[1]), Path(__file__).with_name("images")
    for name, own in PICTURES.items():
        image = Image.open(folder / f"{name}.png").convert("RGB")
        size = (WIDTH_PX, round(image.height * WIDTH_PX / image.width))
        small = image.resize(size, Image.Resampling.LANCZOS)
        small.save(out / f"{own}.jpg", quality=72, optimize=True)


if __name__ == "__main__":
    main()
