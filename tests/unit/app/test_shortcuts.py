"""The keys of the app."""

from __future__ import annotations

import re
from collections import Counter
from importlib.resources import files


def test_no_key_does_two_things_at_a_time() -> None:
    source = files("heliodor.app").joinpath("static", "shortcuts.js").read_text(encoding="utf-8")
    # Those of `review` and `selected` come first and only while something is open or selected.
    always = re.findall(r"^    key\(\[([^\]]+\"|\"\[\"|\"\]\")\]", source, flags=re.MULTILINE)
    keys = Counter(key for own in always for key in re.findall(r'"([^"]+)"', own))
    assert {"m", "w", "g", "v", "Ctrl+z"} <= keys.keys()
    assert {key for key, number in keys.items() if number > 1} == set()
