"""The colors of the page can be read in both themes."""

from __future__ import annotations

import re
from itertools import product

import pytest

from heliodor.app.server.application import STATIC

_PAIR = re.compile(r"(--[\w-]+): light-dark\(([^,]+|rgba\([^)]*\)), ([^;]+)\);")
#: WCAG 2.2: of text, and of what is drawn.
TEXT, GRAPHICS = 4.5, 3.0


def themes() -> list[dict[str, str]]:
    """Return the colors of the light and of the dark theme, by name."""
    pairs = _PAIR.findall((STATIC / "theme.css").read_text("utf-8"))
    assert len(pairs) > 30
    return [{name: own[which].strip() for name, *own in pairs} for which in (0, 1)]


def luminance(color: str) -> float:
    """Return the relative luminance of #rrggbb, or of rgba() that is nearly opaque."""
    if color.startswith("rgba"):
        parts = [float(part) for part in color[5:-1].split(",")]
        assert parts[3] >= 0.9
        channels = [part / 255 for part in parts[:3]]
    else:
        channels = [int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_black_on_white_has_the_highest_contrast() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("colors", themes(), ids=["light", "dark"])
def test_text_and_graphics_have_enough_contrast(colors: dict[str, str]) -> None:
    grounds = ["ground", "panel", "raised", "hover", "selected", "row-hover"]
    pairs = [*product(["text", "dim"], grounds, [TEXT])]
    pairs += [("strong", "pressed", TEXT), ("text", "toast", TEXT), ("text", "card", TEXT)]
    pairs += [("on-accent", "accent", TEXT), ("on-accent", "accent-hover", TEXT)]
    pairs += [("alarm", own, TEXT) for own in ("panel", "alarm-ground", "card", "ground")]
    pairs += [("good", own, TEXT) for own in ("panel", "good-ground", "selected")]
    pairs += [("axis", "ground", TEXT)]
    drawn = ["label", "pick", "negative", "focus", "curve", "histogram-kept", "bar"]
    pairs += [*product(drawn, ["panel", "ground"], [GRAPHICS])]
    weak = {
        f"{front} on {back}": round(value, 2)
        for front, back, least in pairs
        if (value := contrast(colors[f"--{front}"], colors[f"--{back}"])) < least
    }
    assert weak == {}


def test_all_colors_of_the_page_are_those_of_the_theme() -> None:
    known = {*themes()[0]}
    for sheet in STATIC.glob("*.css"):
        if sheet.name != "theme.css":
            used = {*re.findall(r"var\((--[\w-]+)\)", sheet.read_text("utf-8"))}
            assert used - known <= {"--radius", "--columns"}, sheet.name
    for script in STATIC.glob("*.js"):
        used = {*re.findall(r'readColor\("(--[\w-]+)"\)', script.read_text("utf-8"))}
        assert used <= known, script.name
