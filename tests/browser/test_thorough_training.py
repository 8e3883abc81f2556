"""A thorough training in the background, and its model that the user takes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from browser.page import PATIENCE, PageInUse, Truth

pytestmark = pytest.mark.slow

#: The app, whose thorough trainings are short ones that wait for a file.
_APP = """
import functools, runpy, sys
from heliodor.app.server import state
command = [{python!r}, {trainer!r}]
state.ThoroughTraining = functools.partial(state.ThoroughTraining, command=command)
runpy.run_module("heliodor", run_name="__main__", alter_sys=True)
"""
_TRAINER = """
import json, runpy, sys, time
from pathlib import Path
sys.argv[sys.argv.index("thorough")] = "quick"
what, seconds = "training the second of four models, at coarser pixels", 0
while not Path({go!r}).exists():
    seconds += 1
    values = {{"what": what, "done": min(seconds, 199), "total": 200}}
    print(json.dumps({{"event": "progress", **values}}), file=sys.stderr, flush=True)
    time.sleep(1)
runpy.run_module("heliodor", run_name="__main__", alter_sys=True)
"""


def test_a_thorough_model_is_offered_and_used_when_the_user_says_so(
    serve: Any, open_page: Any, simulated: Truth, tmp_path: Path
) -> None:
    app, trainer, go = (tmp_path / name for name in ("app.py", "trainer.py", "go"))
    app.write_text(_APP.format(python=sys.executable, trainer=str(trainer)))
    trainer.write_text(_TRAINER.format(go=str(go)))
    server = serve(simulated.micrographs, "--diameter", 150, program=[str(app)])
    page: PageInUse = open_page(server.url)
    page.page.set_viewport_size({"width": 1024, "height": 768})
    page.wait_until_scored()
    page.press("2")
    button = page.page.locator("#thorough")
    assert button.is_disabled()
    page.wait_for("#thorough-hint", "Needs at least 10 labeled particles")
    page.picture("thorough-few")
    for place in (0, 1):
        page.choose(place)
        for x, y in simulated.apart(place, 6):
            page.click(float(x), float(y))
    page.wait_for("#thorough-hint", "More accurate")
    button.click()
    page.wait_for("#thorough-message", "Training the second of four models, about ")
    assert button.is_disabled()
    other: PageInUse = open_page(page.page.url, page)
    other.press("2")
    other.wait_for("#thorough-hint", "A thorough training is running")
    page.picture("thorough-running")

    # The user cancels it in the other tab, starts it again, and goes on meanwhile.
    other.page.locator("#thorough-cancel").click()
    page.wait_for("#thorough-message", "Thorough training canceled")
    button.click()
    page.wait_for("#thorough-message", "Training the second of four models")
    page.press("t")
    page.wait_for("#train-message", "Model 1 trained in ")
    page.picture("thorough-beside")
    go.touch()
    done = "Model 2 is trained thoroughly on 12 labels, and is not in use yet."
    page.wait_for("#thorough-message", done)
    other.wait_for("#thorough-message", done)
    models = page.page.locator("#models")
    assert "12 labels on 2 micrographs; trained thoroughly" in models.inner_text()
    assert page.get("/api/project")["engine"]["model"] == 1
    page.picture("thorough-done")
    page.page.locator("#thorough-use").click()
    page.wait_for("#train-model", "Model 2", PATIENCE)
    page.page.locator("#thorough-offer").wait_for(state="hidden")
    assert page.get("/api/project")["engine"]["model"] == 2
    row = models.locator("li", has_text="Model 2")
    assert "in use" in row.inner_text()
    assert "labels kept apart" not in row.inner_text()
