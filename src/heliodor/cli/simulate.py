"""The command that makes micrographs with known truth."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

from heliodor.simulation.settings import SimulationSettings
from heliodor.utils import console

log = logging.getLogger(__name__)


def simulate(
    out: Annotated[
        Path,
        typer.Argument(
            metavar="OUT",
            help="Folder for the results. [default: simulated]",
            show_default=False,
        ),
    ] = Path("simulated"),
    *,
    settings: SimulationSettings,
) -> None:
    """Simulate micrographs with known particles or filaments: MRC files and their truth."""
    from heliodor.simulation.dataset import simulate as make

    particle = settings.resolved_particle
    if settings.structure is not None:
        log.info(f"{particle.name}: {particle.description}")
    what = "particle" if settings.filament is None else "filament"
    with console.progress(f"simulating {particle.name}") as progress:
        made = make(out, settings, progress)
    log.info(
        f"{console.count_of(made.micrograph_count, 'micrograph')} with"
        f" {console.count_of(made.particle_count, what)} in {out}"
    )
