"""The command `app`: the picking room in a browser."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from heliodor.cli.options import (
    PixelSize,
    Threads,
    number,
)
from heliodor.errors import BadInput

#: The web server's packages, which are not needed for anything else.
_NEEDED = ("starlette", "uvicorn")


def app(
    micrographs: Annotated[
        list[str],
        typer.Argument(
            metavar="MICROGRAPHS...",
            help="Files, folders, patterns, a RELION micrographs STAR, or @list.txt.",
        ),
    ],
    labels: Annotated[
        str | None,
        typer.Option(
            metavar="L", help="Coordinates of some particles, for a new project to begin with."
        ),
    ] = None,
    diameter: Annotated[
        float | None,
        number("ANGSTROM", "The particle's longest diameter; can be set in the page too."),
    ] = None,
    out: Annotated[
        Path,
        typer.Option(
            "-o", "--out", metavar="PROJECT", help="The project's folder, new or to go on with."
        ),
    ] = Path("picking"),
    port: Annotated[
        int | None,
        typer.Option(metavar="N", help="Port on this machine [default: 8765, or the next free]"),
    ] = None,
    pixel_size: PixelSize = None,
    threads: Threads = None,
) -> None:
    """Label, train, judge and pick in a browser, here or through an SSH tunnel."""
    if missing := [name for name in _NEEDED if find_spec(name) is None]:
        raise BadInput(
            f"heliodor app needs the package {' and '.join(missing)}; install heliodor[app]"
        )
    from heliodor.app.server import server

    server.serve(micrographs, out, labels, diameter, port, pixel_size, threads)
