"""The page behind a proxy, and the read-only link for colleagues."""

from __future__ import annotations

import re
from typing import Any

import pytest

from browser.page import PageInUse, Truth
from helpers.proxy import free_port, proxy

pytestmark = pytest.mark.slow

PREFIX = "/user/me/heliodor/"


def test_the_page_works_behind_a_proxy_and_a_colleague_can_only_look(
    serve: Any, open_page: Any, simulated: Truth
) -> None:
    # Browsers look for all names that end with .localhost on this machine.
    name = "hub.localhost"
    backend = free_port()
    base = ("--base-url", f"http://{name}{PREFIX}")
    server = serve(simulated.micrographs, "--diameter", 150, *base, port=backend)
    token = server.url.partition("#token=")[2]
    with proxy(backend, PREFIX, strips=False, keeps_host=True) as port:
        page: PageInUse = open_page(f"http://{name}:{port}{PREFIX}#token={token}")
        page.wait_until_scored()
        page.click(500, 500)
        page.wait_for_labels(1, 0)
        page.saved()
        page.page.locator("#share-button").click()
        link = page.page.locator("#share-link")
        page.page.wait_for_function("() => document.getElementById('share-link').value !== ''")
        address = link.input_value()
        assert re.fullmatch(rf"http://{name}:{port}{PREFIX}#token=[\w-]+", address)
        page.press("Escape")

        # In another browser, and in another tab of this one.
        for count, beside in ((1, None), (2, page)):
            other: PageInUse = open_page(address, beside)
            assert other.page.locator("#read-only").is_visible()
            other.wait_for_labels(count, 0)
            other.wait_for_picks()
            before = other.page.locator("#threshold").input_value()
            other.click(300, 300)
            other.click(320, 300, button="right")
            other.press("t", "e", "d", "x", "[", "Control+z")
            for key in "12345":
                other.press(key)
                other.page.wait_for_timeout(150)
                buttons = other.page.locator(".panel button:visible:not(.reader, .crop)")
                assert buttons.count() == 0, buttons.all_text_contents()
            assert other.page.locator("#threshold").input_value() == before
            assert other.page.locator("#toast").is_hidden()
            if beside is None:
                other.press("1")
                other.picture("read-only")
            other.wait_for_labels(count, 0)
            # What the owner does appears.
            page.click(200 + 100 * count, 500)
            other.wait_for_labels(count + 1, 0)
            assert other.page.locator("#read-only").is_visible()
            other.page.close()
        page.page.reload()
        page.wait_for_picture()
        assert page.page.locator("#read-only").is_hidden()
        page.wait_for_labels(3, 0)
        page.saved()
