"""The command `judge`: picks judged by reconstruction."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from heliodor.cli.options import Only, PixelSize, Seed, choice, out_option
from heliodor.cli.process_words import without_cluster_options
from heliodor.cli.session import command_line, end, import_jobs, show_outcome
from heliodor.utils import console
from heliodor.workflows.cluster_settings import ClusterSettings
from heliodor.workflows.judge_settings import JudgeSettings

#: Options of the cluster for processes that pick.
_OF_PICKING = ("jobs", "array_parallelism", "gpus")


def judge(
    picks: Annotated[
        str,
        typer.Argument(
            metavar="PICKS",
            help="The folder of heliodor pick, best with --threshold-series, or coordinates in any"
            " format that convert reads.",
        ),
    ],
    micrographs: Annotated[
        list[str],
        choice(
            "FILE",
            "The micrographs that the picks are on (MRC files); for maps, a STAR file of RELION"
            " with their defocus. Picks on other micrographs are ignored.",
            "Input",
        ),
    ],
    out: Annotated[Path, out_option("Folder for the results.", "judge")] = Path("judge"),
    pixel_size: PixelSize = None,
    seed: Seed = 0,
    threads: Annotated[
        int | None,
        choice(
            "N",
            "Number of RELION's programs that run at a time, each on one CPU; without RELION, of"
            " micrographs that are read at a time.",
            "Compute",
            default="the CPUs this process may use",
        ),
    ] = None,
    *,
    settings: JudgeSettings,
    cluster: Annotated[ClusterSettings, Only(but=_OF_PICKING)],
) -> None:
    """Judge picks by their 2D classes and maps, with RELION's programs.

    Says which share of the picks is false at each threshold, how well they reconstruct, and which
    threshold to pick at. Writes OUT/judge.html; run again, it continues where it was interrupted.
    Without RELION, --quick groups crops of the picks by what they look like.
    """
    if cluster.cluster is not None:
        words = without_cluster_options(sys.argv[1:])
        outcome = import_jobs().submit_judging(
            words, picks, micrographs, settings, pixel_size, out, cluster, threads
        )
        show_outcome(outcome)
        return
    from heliodor.reconstruction.judgement_tables import render_judgement
    from heliodor.workflows.judge import judge as judge_picks

    judgement, record = judge_picks(
        picks, micrographs, out, settings, pixel_size, seed, threads, command_line()
    )
    console.show_result(render_judgement(judgement))
    end(record.failures)
