"""Training on picked particles."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from pipeliner.display_tools import create_results_display_object
from pipeliner.job_options import (
    FileDescription,
    FloatJobOption,
    InputNodeJobOption,
    IntJobOption,
    JobOptionValidationResult,
    MultipleChoiceJobOption,
)
from pipeliner.nodes import (
    NODE_MICROGRAPHCOORDSGROUP,
    NODE_MICROGRAPHGROUPMETADATA,
    NODE_MLMODEL,
    NODE_PARTICLEGROUPMETADATA,
)
from pipeliner.pipeliner_job import PipelinerCommand

from .common import HeliodorJob

MODEL, HISTORY = "model.safetensors", "training.tsv"


class HeliodorTrain(HeliodorJob):
    """Train a model."""

    PROCESS_NAME = "heliodor.autopick.train"

    def __init__(self) -> None:
        super().__init__()
        self.jobinfo.display_name = "heliodor training"
        self.jobinfo.short_desc = "Train a heliodor model for particle picking"
        self.jobinfo.long_desc = (
            "Trains a model of heliodor on some of your particles, for heliodor picking. Pick 50"
            " to 500 particles on five or more micrographs that cover your range of defocus and"
            " ice. They need not be all particles of a micrograph."
        )

        self.joboptions["input_file"] = InputNodeJobOption(
            label="Input micrographs file:",
            node_type=NODE_MICROGRAPHGROUPMETADATA,
            node_kwds=["relion"],
            pattern=FileDescription("Input Micrographs", [".star"]),
            help_text="A STAR file with the micrographs that you labeled, or more.",
            is_required=True,
        )
        self.joboptions["input_coords"] = InputNodeJobOption(
            label="Coordinates of particles:",
            node_type=NODE_MICROGRAPHCOORDSGROUP,
            pattern=FileDescription("Coordinates", [".star"]),
            help_text="Such as the result of a manual picking job.",
        )
        self.joboptions["input_particles"] = InputNodeJobOption(
            label="OR: extracted particles:",
            node_type=NODE_PARTICLEGROUPMETADATA,
            node_kwds=["relion"],
            pattern=FileDescription("Particles", [".star"]),
            help_text="Such as the particles of good 2D classes.",
        )
        self.joboptions["diameter"] = FloatJobOption(
            label="Particle diameter (A):",
            hard_min=0,
            help_text="The longest diameter of the particle in angstrom.",
            is_required=True,
        )
        self.joboptions["expected_particles"] = FloatJobOption(
            label="Expected particles per micrograph:",
            hard_min=0,
            help_text="The average number, labeled or not. If blank, it is estimated.",
        )
        self.joboptions["recipe"] = MultipleChoiceJobOption(
            label="Recipe:",
            choices=["fast", "quick", "paper"],
            default_value_index=0,
            help_text=(
                "fast: the default; quick: a hundred updates, for a first test; paper: as in the"
                " Topaz paper."
            ),
        )
        self.joboptions["start_model"] = InputNodeJobOption(
            label="Start from this model:",
            node_type=NODE_MLMODEL,
            node_kwds=["heliodor"],
            pattern=FileDescription("heliodor model", [".safetensors"]),
            help_text="If blank, training starts from the general model.",
        )
        self.joboptions["seed"] = IntJobOption(
            label="Random seed:",
            default_value=0,
            hard_min=0,
            help_text="The same seed gives the same model on the same computer.",
            is_required=True,
        )
        self.add_compute_options()

    def create_output_nodes(self) -> None:
        """Declare the model."""
        self.add_output_node(MODEL, NODE_MLMODEL, ["heliodor"])

    def get_commands(self) -> list[PipelinerCommand]:
        """Return the command; run again, it continues an interrupted job."""
        coords = self.joboptions["input_coords"].get_string()
        labels = coords or self.joboptions["input_particles"].get_string()
        words = ["train", self.joboptions["input_file"].get_string(), "--labels", labels]
        words += ["-o", self.output_dir, "--recipe", self.joboptions["recipe"].get_string()]
        words += ["--seed", self.joboptions["seed"].get_string()]
        self.add_number(words, "--diameter", "diameter")
        self.add_number(words, "--expected-particles", "expected_particles")
        start = self.joboptions["start_model"].get_string()
        words += ["--from", start] if start else []
        return [self.make_command(words)]

    def additional_joboption_validation(self) -> list[JobOptionValidationResult]:
        """Return what is wrong with the options together."""
        both = [self.joboptions["input_coords"], self.joboptions["input_particles"]]
        if sum(option.is_blank for option in both) == 1:
            return []
        return [JobOptionValidationResult("error", both, "Give either coordinates or particles")]

    def create_results_display(self) -> Sequence[Any]:
        """Show the loss during training, and the micrographs that could not be used."""
        rows = list(self.read_table(HISTORY))
        graph = create_results_display_object(
            "graph",
            title="Loss during training",
            xvalues=[[int(row["epoch"]) for row in rows]],
            xaxis_label="Epoch",
            yvalues=[[float(row["loss"]) for row in rows]],
            yaxis_label="Loss",
            data_series_labels=["loss"],
            associated_data=[os.path.join(self.output_dir, HISTORY)],
        )
        return [graph, *self.describe_failures(create_results_display_object)]

    def gather_metadata(self) -> dict[str, Any]:
        """Return the number of epochs and the last loss."""
        rows = list(self.read_table(HISTORY))
        return {
            "Epochs": len(rows),
            "Loss": float(rows[-1]["loss"]),
            "FailedMicrographs": len(self.read_failures()),
        }
