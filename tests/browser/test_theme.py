"""The page in both themes, and with the keyboard alone."""

from __future__ import annotations

from typing import Any

import pytest

from browser.page import PageInUse, Truth

pytestmark = pytest.mark.slow

#: Texts whose contrast with what is behind them is below 4.5. On images there is no one color.
WEAK = """() => {
  const parse = (color) => {
    const [r, g, b, a = 1] = color.match(/[\\d.]+/g).map(Number);
    return { rgb: [r, g, b], a };
  };
  const luminance = (rgb) => {
    const [r, g, b] = rgb.map((v) => v / 255).map((c) =>
      c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const { rgb, a } = parse(getComputedStyle(at).backgroundColor);
      if (a > 0.85) return rgb;
    }
    return [255, 255, 255];
  };
  const weak = [];
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].filter((n) => n.nodeType === 3).map((n) => n.textContent);
    if (!own.join("").trim() || !element.checkVisibility()) continue;
    if (element.closest(":disabled, #stage, .crop, option, svg")) continue;
    const [one, other] = [parse(getComputedStyle(element).color).rgb, ground(element)]
      .map(luminance).sort((a, b) => b - a);
    const contrast = (one + 0.05) / (other + 0.05);
    const name = element.id || element.className;
    if (contrast < 4.5) weak.push([name, own.join("").trim(), contrast]);
  }
  return weak;
}"""


def test_all_text_has_a_contrast_of_at_least_four_and_a_half(
    serve: Any, open_page: Any, simulated: Truth
) -> None:
    page: PageInUse = open_page(serve(simulated.micrographs, "--diameter", 150).url)
    page.wait_until_scored()
    page.choose(1)
    page.press("e")
    page.choose(2)
    page.press("d")
    page.wait_for_picks()
    grounds = set()
    for scheme in ("dark", "light"):
        page.page.emulate_media(color_scheme=scheme)
        for key in "12345m":
            page.press(key)
            page.page.wait_for_timeout(400)
            assert page.page.evaluate(WEAK) == [], (scheme, key)
        if scheme == "light":
            page.picture("light-table")
        page.press("m", "?")
        page.page.wait_for_timeout(200)
        assert page.page.evaluate(WEAK) == [], (scheme, "help")
        page.press("Escape", "3")
        page.page.wait_for_timeout(300)
        if scheme == "light":
            page.picture("light")
        color = "getComputedStyle(document.getElementById('right')).backgroundColor"
        grounds.add(page.page.evaluate(color))
    assert len(grounds) == 2
    # The switch goes before the system, and is kept.
    button = page.page.locator("#theme-button")
    button.click()
    button.click()
    assert page.page.evaluate("document.documentElement.dataset.theme") == "dark"
    page.page.reload()
    page.wait_for_picture()
    assert page.page.evaluate("document.documentElement.dataset.theme") == "dark"
    button.click()
    assert page.page.evaluate("document.documentElement.dataset.theme") is None


def test_everything_is_reached_with_the_tab_key_and_seen_to_be(
    serve: Any, open_page: Any, simulated: Truth
) -> None:
    page: PageInUse = open_page(serve(simulated.micrographs, "--diameter", 150).url)
    page.wait_until_scored()
    for key in "12345m":
        page.press(key)
        page.page.wait_for_timeout(300)
        wanted = {
            *page.page.evaluate(
                """() => [...document.querySelectorAll("button, input, select, a[href]")]
                  .filter((e) => e.checkVisibility() && !e.disabled && e.tabIndex >= 0
                    && e.id && !e.closest("dialog"))
                  .map((e) => e.id)"""
            )
        }
        if key == "m":
            wanted = {name for name in wanted if name.startswith(("table", "list", "look"))}
        page.page.evaluate("document.activeElement.blur()")
        reached: set[str] = set()
        for _ in range(90):
            page.press("Tab")
            name, outline = page.page.evaluate(
                """() => [document.activeElement.id,
                  getComputedStyle(document.activeElement).outlineStyle]"""
            )
            if name:
                assert outline != "none", name
            reached.add(name)
            if wanted <= reached:
                break
        assert wanted - reached == set(), key
        page.page.evaluate("document.activeElement.blur()")
