"""The command `app`: the heliodor app in a browser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from heliodor.cli.options import (
    MicrographsOfProject,
    PixelSize,
    Threads,
    choice,
    flag,
    number,
    out_option,
)


def app(
    micrographs: MicrographsOfProject = None,
    labels: Annotated[
        str | None,
        choice("FILE", "Coordinates of some particles, for a new project.", "Input"),
    ] = None,
    diameter: Annotated[
        float | None,
        number(
            "ANGSTROM",
            "Longest diameter of the particle; it can be set in the app too.",
            "Particle",
        ),
    ] = None,
    out: Annotated[
        Path, out_option("Project folder (created, or reopened if it exists).", "picking")
    ] = Path("picking"),
    port: Annotated[
        int | None,
        choice("N", "Port on this machine.", "Other", default="8765, or the next free one"),
    ] = None,
    pixel_size: PixelSize = None,
    threads: Threads = None,
    replace: Annotated[
        bool,
        flag(
            "--replace",
            "Confirm that an existing project gets other micrographs, labels, or another diameter"
            " or pixel size.",
            "Output",
        ),
    ] = False,
) -> None:
    """Label, train, inspect and pick in a browser, on this computer or through an SSH tunnel."""
    from heliodor.app.server import server

    server.serve(micrographs, out, labels, diameter, port, pixel_size, threads, replace)
