"""A browser, a server with its engine, and simulated micrographs with known particles."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from browser.page import PageInUse, Truth
from helpers.cli import done

if TYPE_CHECKING:
    from playwright.sync_api import Browser

CHROMIUM = Path(os.environ.get("HELIODOR_CHROMIUM", "/usr/bin/chromium"))
SOURCE = Path(__file__).resolve().parents[2] / "src"


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Return Chromium, or skip the test."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: no tests in a browser"
    )
    if not CHROMIUM.exists():
        pytest.skip(f"there is no {CHROMIUM}: set HELIODOR_CHROMIUM to a Chromium")
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(
            executable_path=str(CHROMIUM),
            args=["--no-sandbox", "--js-flags=--expose-gc", "--enable-precise-memory-info"],
        )
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Truth:
    """Return four micrographs of a barrel, and where its particles are."""
    folder = tmp_path_factory.mktemp("simulated")
    # fmt: off
    done("simulate", folder, "--count", 4, "--size-px", "1024x1024", "--snr", 0.3,
         "--contaminants", 0, "--seed", 5)
    # fmt: on
    return Truth(folder)


@pytest.fixture(scope="session")
def contaminated(tmp_path_factory: pytest.TempPathFactory) -> Truth:
    """Return two micrographs of a barrel with much contamination."""
    folder = tmp_path_factory.mktemp("contaminated")
    # fmt: off
    done("simulate", folder, "--count", 2, "--size-px", "1024x1024", "--snr", 0.3,
         "--contaminants", 6, "--seed", 7)
    # fmt: on
    return Truth(folder)


@dataclass
class Server:
    """`heliodor app`, running."""

    url: str
    project: Path
    process: subprocess.Popen[str]

    def stop(self) -> None:
        """Stop it as Ctrl-C does."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait(20)


Serve = Callable[..., Server]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Return a function that starts the server on a free port."""
    with ExitStack() as at_end:

        def start(
            *arguments: object,
            project: Path = tmp_path / "project",
            port: int = 0,
            program: Sequence[str] = ("-m", "heliodor"),
        ) -> Server:
            command = [sys.executable, *program, "app", *map(str, arguments)]
            environment = os.environ | {"PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1"}
            process = subprocess.Popen(
                [*command, "-o", str(project), "--port", str(port)],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=environment,
                text=True,
            )
            at_end.enter_context(process)
            at_end.callback(process.kill)
            assert process.stdout is not None
            output = ""
            for line in process.stdout:
                output += line
                if found := re.search(r"http://\S+/#token=\S+", line):
                    return Server(found.group(), project, process)
            pytest.fail(f"the server ended: {output}")

        yield start


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Return the folder for screenshots: $HELIODOR_SCREENSHOTS if it is set."""
    folder = Path(os.environ.get("HELIODOR_SCREENSHOTS") or tmp_path / "pictures")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


OpenPage = Callable[..., PageInUse]


@pytest.fixture
def open_page(browser: Browser, pictures: Path) -> Iterator[OpenPage]:
    """Return a function that opens the page; at the end, check that no page had an error."""
    with ExitStack() as at_end:
        opened: list[PageInUse] = []

        def open_it(url: str, beside: PageInUse | None = None) -> PageInUse:
            if beside is None:
                context = browser.new_context(
                    viewport={"width": 1440, "height": 900}, color_scheme="dark"
                )
                at_end.callback(context.close)
            else:
                context = beside.page.context
            page = PageInUse(context.new_page(), pictures)
            opened.append(page)
            page.open(url)
            return page

        yield open_it
        for page in opened:
            assert page.errors == []
