"""What the jobs share: the program, the options for computing, and reading its tables."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from typing import Any

from pipeliner.external_program_utils import ExternalProgram
from pipeliner.job_options import BooleanJobOption, IntJobOption, JobOptionCondition
from pipeliner.pipeliner_job import PipelinerCommand, PipelinerJob, Ref

from . import run_heliodor

FAILED = "failed.tsv"


class HeliodorJob(PipelinerJob):
    """The part of the jobs that concerns the program."""

    OUT_DIR = "AutoPick"
    CATEGORY_LABEL = "Automated Particle Picking"

    def __init__(self) -> None:
        super().__init__()
        self.jobinfo.programs = [
            ExternalProgram(
                run_heliodor.PROGRAM,
                vers_com=[run_heliodor.PROGRAM, "--version"],
                onedep_categories={"PARTICLE SELECTION": "em_image_processing"},
            )
        ]
        self.jobinfo.job_author = "heliodor developers"
        self.jobinfo.references = [
            Ref(
                authors=[
                    *("Bepler T", "Morin A", "Rapp M", "Brasch J", "Shapiro L", "Noble AJ"),
                    "Berger B",
                ],
                title=(
                    "Positive-unlabeled convolutional neural networks for particle picking in"
                    " cryo-electron micrographs"
                ),
                journal="Nat. Methods",
                year="2019",
                volume="16",
                pages="1153-1160",
                doi="10.1038/s41592-019-0575-8",
            )
        ]
        self.can_continue = True

    def add_compute_options(self) -> None:
        """Add the options for the GPU, the threads, the queue, and further arguments."""
        self.joboptions["use_gpu"] = BooleanJobOption(
            label="Use GPU acceleration?",
            default_value=False,
            help_text="heliodor uses a single GPU. Without one, it computes on the threads below.",
            in_continue=True,
            jobop_group="Running options",
        )
        self.joboptions["gpu_id"] = IntJobOption(
            label="Which GPU to use:",
            default_value=0,
            hard_min=0,
            help_text="The number of the GPU, counted from 0.",
            in_continue=True,
            deactivate_if=JobOptionCondition([("use_gpu", "=", False)]),
            jobop_group="Running options",
        )
        self.get_runtab_options(threads=True, addtl_args=True)

    def make_command(self, words: list[str]) -> PipelinerCommand:
        """Return the command with the options for computing, run by `run_heliodor`."""
        gpu = self.joboptions["use_gpu"].get_boolean()
        device = f"cuda:{int(self.joboptions['gpu_id'].get_number())}" if gpu else "cpu"
        words = [*words, "--device", device, "--threads", str(self.get_nr_threads())]
        words += ["--progress", "lines", *self.parse_additional_args()]
        return PipelinerCommand(["python3", os.path.abspath(run_heliodor.__file__), *words])

    def add_number(self, words: list[str], option: str, name: str) -> None:
        """Add an option with the value of a job option, unless that is blank."""
        value = self.joboptions[name]
        if not value.is_blank:
            words += [option, f"{value.get_number():g}"]

    def read_table(self, name: str) -> Iterator[dict[str, str]]:
        """Yield the rows of a table in the job's folder, or nothing if there is none yet."""
        path = os.path.join(self.output_dir, name)
        if os.path.exists(path):
            with open(path, encoding="utf-8", newline="") as stream:
                yield from csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE)

    def read_failures(self) -> list[tuple[str, str]]:
        """Return the micrographs that could not be used, and why."""
        return [(row["micrograph"], row["reason"]) for row in self.read_table(FAILED)]

    def describe_failures(self, create: Any) -> list[Any]:
        """Return a display object that lists the micrographs that could not be used, if any.

        Parameters
        ----------
        create
            The Pipeliner's ``create_results_display_object``.
        """
        failures = self.read_failures()
        if not failures:
            return []
        count = len(failures)
        shown = create(
            "text",
            title=f"{count} micrograph{'s' * (count > 1)} could not be used",
            display_data="\n".join(f"{name}: {reason}" for name, reason in failures),
            associated_data=[os.path.join(self.output_dir, FAILED)],
        )
        return [shown]
