"""Picking with the general model or a trained one."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any

from pipeliner.display_tools import create_results_display_object, make_particle_coords_thumb
from pipeliner.job_options import (
    BooleanJobOption,
    FileDescription,
    FloatJobOption,
    InputNodeJobOption,
    JobOptionCondition,
    JobOptionValidationResult,
    MultipleChoiceJobOption,
)
from pipeliner.nodes import (
    NODE_MICROGRAPHCOORDSGROUP,
    NODE_MICROGRAPHGROUPMETADATA,
    NODE_MLMODEL,
)
from pipeliner.pipeliner_job import PipelinerCommand
from pipeliner.starfile_handler import StarFile

from .common import HeliodorJob

GENERAL, OWN = "general model", "own model"
AUTOPICK = "autopick.star"


class HeliodorPick(HeliodorJob):
    """Pick particles."""

    PROCESS_NAME = "heliodor.autopick"

    def __init__(self) -> None:
        super().__init__()
        self.jobinfo.display_name = "heliodor picking"
        self.jobinfo.short_desc = "Particle picking with heliodor"
        self.jobinfo.long_desc = (
            "Picks particles with heliodor. The general model needs the diameter of the particle"
            " and no training; a model that was trained on some of your own particles is more"
            " accurate. The next job is particle extraction."
        )
        self.always_continue_in_schedule = True

        self.joboptions["input_file"] = InputNodeJobOption(
            label="Input micrographs file:",
            node_type=NODE_MICROGRAPHGROUPMETADATA,
            node_kwds=["relion"],
            pattern=FileDescription("Input Micrographs", [".star"]),
            help_text="A STAR file with all micrographs to pick.",
            is_required=True,
        )
        self.joboptions["model_kind"] = MultipleChoiceJobOption(
            label="Model:",
            choices=[GENERAL, OWN],
            default_value_index=0,
            help_text="The general model was trained on simulated particles.",
            in_continue=True,
        )
        uses_own = JobOptionCondition([("model_kind", "=", OWN)])
        uses_general = JobOptionCondition([("model_kind", "=", GENERAL)])
        self.joboptions["model_file"] = InputNodeJobOption(
            label="Own model:",
            node_type=NODE_MLMODEL,
            node_kwds=["heliodor"],
            pattern=FileDescription("heliodor model", [".safetensors"]),
            help_text="The model.safetensors of a heliodor training job.",
            in_continue=True,
            required_if=uses_own,
            deactivate_if=uses_general,
        )
        self.joboptions["diameter"] = FloatJobOption(
            label="Particle diameter (A):",
            hard_min=0,
            help_text="The longest diameter of the particle in angstrom.",
            in_continue=True,
            required_if=uses_general,
            deactivate_if=uses_own,
        )
        self.joboptions["adapt"] = BooleanJobOption(
            label="Adapt the general model first?",
            default_value=False,
            help_text=(
                "The general model first learns from its surest picks on up to 8 of the"
                " micrographs, which takes about a minute."
            ),
            in_continue=True,
            deactivate_if=uses_own,
        )
        self.joboptions["threshold"] = FloatJobOption(
            label="Threshold (log-odds):",
            help_text=(
                "Candidates with this score or a higher one are picks. If blank, the threshold"
                " with the highest expected F1."
            ),
            in_continue=True,
        )
        self.joboptions["max_fdr"] = FloatJobOption(
            label="Most false picks (share):",
            hard_min=0,
            hard_max=1,
            help_text=(
                "Choose the threshold so that at most this share of the picks is expected to be"
                " false. Leave it blank if you give a threshold."
            ),
            in_continue=True,
        )
        self.joboptions["exclusion_radius"] = FloatJobOption(
            label="Minimum distance between picks (A):",
            hard_min=0,
            help_text="In angstrom. If blank, half the diameter.",
            in_continue=True,
        )
        self.joboptions["edge_margin"] = FloatJobOption(
            label="Minimum distance from the edge (A):",
            hard_min=0,
            help_text=(
                "In angstrom. If blank, that of the labels, if they keep away from the edges;"
                " otherwise 0."
            ),
            in_continue=True,
        )
        self.joboptions["bad_areas"] = MultipleChoiceJobOption(
            label="Picks in contamination:",
            choices=["leave-out", "keep"],
            default_value_index=0,
            help_text=(
                "leave-out: only confident picks in carbon, ice crystals and aggregates that the"
                " model detects; keep: pick there as elsewhere."
            ),
            in_continue=True,
        )
        self.joboptions["max_contamination"] = FloatJobOption(
            label="Most contamination (share):",
            hard_min=0,
            hard_max=1,
            help_text=(
                "No picks on micrographs of which a larger share is contamination. If blank,"
                " pick on all."
            ),
            in_continue=True,
        )
        self.add_compute_options()

    def create_output_nodes(self) -> None:
        """Declare the coordinates."""
        self.add_output_node(AUTOPICK, NODE_MICROGRAPHCOORDSGROUP, ["heliodor", "autopick"])

    def get_commands(self) -> list[PipelinerCommand]:
        """Return the command; run again, it continues an interrupted job."""
        words = ["pick", self.joboptions["input_file"].get_string(), "-o", self.output_dir]
        if self.joboptions["model_kind"].get_string() == OWN:
            words += ["--model", self.joboptions["model_file"].get_string()]
        else:
            self.add_number(words, "--diameter", "diameter")
            words += ["--adapt"] if self.joboptions["adapt"].get_boolean() else []
        self.add_number(words, "--threshold", "threshold")
        self.add_number(words, "--max-fdr", "max_fdr")
        self.add_number(words, "--exclusion-radius", "exclusion_radius")
        self.add_number(words, "--edge-margin", "edge_margin")
        words += ["--bad-areas", self.joboptions["bad_areas"].get_string()]
        self.add_number(words, "--max-contamination", "max_contamination")
        return [self.make_command(words)]

    def additional_joboption_validation(self) -> list[JobOptionValidationResult]:
        """Return what is wrong with the options together."""
        threshold, share = self.joboptions["threshold"], self.joboptions["max_fdr"]
        if threshold.is_blank or share.is_blank:
            return []
        said = "Give either a threshold or a share of false picks, not both"
        return [JobOptionValidationResult("error", [threshold, share], said)]

    def create_results_display(self) -> Sequence[Any]:
        """Show the picks on a micrograph, a histogram of their numbers, and what failed."""
        counts = [int(row["picks"]) for row in self.read_table("micrographs.tsv")]
        listed = os.path.join(self.output_dir, AUTOPICK)
        shown = []
        if counts:
            table = StarFile(listed).get_block("coordinate_files")
            first = table.find(["_rlnMicrographName", "_rlnMicrographCoordinates"])[0]
            shown = [
                make_particle_coords_thumb(first[0], first[1], self.output_dir),
                create_results_display_object(
                    "histogram",
                    title=f"{sum(counts)} picked particles",
                    data_to_bin=counts,
                    xlabel="Number of particles",
                    ylabel="Micrographs",
                    associated_data=[listed],
                ),
            ]
        return [*shown, *self.describe_failures(create_results_display_object)]

    def gather_metadata(self) -> dict[str, Any]:
        """Return the numbers of picks and micrographs, and the threshold."""
        with open(os.path.join(self.output_dir, "run.json"), encoding="utf-8") as stream:
            record = json.load(stream)
        return {
            "ParticleCount": record["picks"],
            "PickedMicrographs": len(record["picks_per_micrograph"]),
            "FailedMicrographs": len(record["failed"]),
            "Threshold": record["threshold"],
        }

    def prepare_onedep_deposition_data(self) -> list[Any]:
        """Return the entry on the selection of particles for a deposition."""
        selection = self.add_onedep_deposition_data(
            category="em_particle_selection",
            data_dict={
                "details": self.jobinfo.short_desc,
                "num_particles_selected": str(self.gather_metadata()["ParticleCount"]),
                "reference_model": "Trained ML model",
            },
        )
        return [selection]
