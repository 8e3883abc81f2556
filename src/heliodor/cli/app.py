"""The command `app`: the heliodor app in a browser."""

from __future__ import annotations

import logging
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
from heliodor.errors import BadInput

log = logging.getLogger(__name__)


def app(
    micrographs: MicrographsOfProject = None,
    labels: Annotated[
        str | None,
        choice(
            "FILE",
            "Coordinates of some particles, or of some filaments, for a new project.",
            "Input",
        ),
    ] = None,
    diameter: Annotated[
        float | None,
        number(
            "ANGSTROM",
            "Longest diameter of the particle; it can be set in the app too.",
            "Particle",
        ),
    ] = None,
    filaments: Annotated[
        bool,
        flag("--filaments", "A new project of filaments; needs --width.", "Filaments"),
    ] = False,
    width: Annotated[
        float | None, number("ANGSTROM", "Width of the filaments.", "Filaments")
    ] = None,
    out: Annotated[
        Path, out_option("Project folder (created, or reopened if it exists).", "picking")
    ] = Path("picking"),
    port: Annotated[
        int | None,
        choice("N", "Port on this machine.", "Other", default="8765, or the next free one"),
    ] = None,
    host: Annotated[
        str,
        choice(
            "ADDRESS",
            "Interface to listen on; 0.0.0.0 is all of them, so that other computers can connect"
            " with the token.",
            "Other",
            default="127.0.0.1, only this machine",
        ),
    ] = "127.0.0.1",
    base_url: Annotated[
        str,
        choice(
            "URL",
            "Address, or path, at which a proxy (Open OnDemand, JupyterHub, nginx) shows the app;"
            " {port} stands for the port.",
            "Other",
            default="none",
        ),
    ] = "",
    allowed_host: Annotated[
        list[str] | None,
        choice(
            "NAME",
            "Another name of the host by which browsers reach the app; may be repeated.",
            "Other",
            default="this machine, and that of --base-url",
        ),
    ] = None,
    idle_shutdown: Annotated[
        float | None,
        number(
            "MINUTES",
            "Stop if nobody has used the page and nothing was computed for so long.",
            "Other",
            default="never",
        ),
    ] = None,
    read_only_link: Annotated[
        bool,
        flag("--read-only-link", "Print an address for colleagues who may only look.", "Other"),
    ] = False,
    pixel_size: PixelSize = None,
    threads: Threads = None,
    device: Annotated[
        str, choice("DEVICE", "auto, cpu, cuda, cuda:N or mps.", "Compute", default="auto")
    ] = "auto",
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
    if filaments and width is None:
        raise BadInput(
            "the width of the filaments is missing; give it in angstrom", parameter="width"
        )
    if width is not None:
        if not filaments:
            raise BadInput(
                "this is an option of --filaments, which is not given", parameter="width"
            )
        from heliodor.models.filament_model_file import check_filament_width

        check_filament_width(width)
    from heliodor.app.server import server
    from heliodor.app.server.addresses import Addresses

    server.serve(
        micrographs,
        out,
        labels,
        diameter,
        port,
        pixel_size,
        threads,
        replace,
        Addresses(host, base_url, tuple(allowed_host or ())),
        idle_shutdown,
        read_only_link,
        device,
        _is_cluster_configured(),
        width,
    )


def _is_cluster_configured() -> bool:
    """Return whether the site, or the user, has said how jobs are submitted to SLURM."""
    from heliodor.workflows.site_settings import read_cluster_defaults

    try:
        return bool(read_cluster_defaults())
    except BadInput as error:  # the app itself does not need it
        log.warning(f"{error}; the page cannot submit jobs to the cluster")
        return False
