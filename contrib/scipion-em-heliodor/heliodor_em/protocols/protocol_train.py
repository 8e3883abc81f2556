"""Training a model on picked particles."""

from __future__ import annotations

import os
from typing import Any, ClassVar

import pyworkflow.protocol.constants as cons
import pyworkflow.protocol.params as params
from pwem.protocols import EMProtocol

from heliodor_em import convert
from heliodor_em.objects import HeliodorModel

from .command import HeliodorCommand, add_number

RECIPES = ["fast", "quick", "paper"]
#: What training starts from.
GENERAL, SCRATCH, MODEL = range(3)
STARTS = ["general", "scratch"]


class HeliodorProtTraining(EMProtocol, HeliodorCommand):
    """Trains a model of heliodor on some of your particles.

    Pick 50 to 500 particles on five or more micrographs that cover your range of defocus and ice.
    They need not be all particles of a micrograph.
    """

    _label = "training"
    _possibleOutputs: ClassVar[dict[str, type]] = {"outputModel": HeliodorModel}

    # ---------------------------- the form ----------------------------
    def _defineParams(self, form: Any) -> None:
        form.addSection(label="Input")
        form.addParam(
            "inputCoordinates",
            params.PointerParam,
            pointerClass="SetOfCoordinates",
            important=True,
            label="Coordinates",
            help="Some of the particles, such as those of a manual picking. Their micrographs are"
            " used for training.",
        )
        form.addParam(
            "diameter",
            params.FloatParam,
            default=None,
            allowsNull=True,
            important=True,
            label="Particle diameter (Å)",
            help="The longest diameter of the particle.",
        )
        form.addParam(
            "expectedParticles",
            params.FloatParam,
            default=None,
            allowsNull=True,
            label="Expected particles",
            help="The average number per micrograph, picked or not. Empty: estimated.",
        )
        form.addParam(
            "inputNegatives",
            params.PointerParam,
            pointerClass="SetOfCoordinates",
            allowsNull=True,
            expertLevel=cons.LEVEL_ADVANCED,
            label="Negatives",
            help="Positions on the same micrographs that are not particles.",
        )
        self._defineCommandParams(form)

        form.addSection(label="Training")
        form.addParam(
            "recipe",
            params.EnumParam,
            choices=RECIPES,
            default=0,
            label="Recipe",
            help="_fast_ is the default; _quick_ makes a hundred updates, for a first test;"
            " _paper_ trains as in the Topaz paper.",
        )
        form.addParam(
            "start",
            params.EnumParam,
            choices=["general model", "random weights", "trained in this project"],
            default=GENERAL,
            label="Start from",
            help="The weights with which training starts.",
        )
        form.addParam(
            "startModel",
            params.PointerParam,
            pointerClass="HeliodorModel",
            condition=f"start == {MODEL}",
            allowsNull=True,
            label="Trained model",
        )
        form.addParam(
            "seed",
            params.IntParam,
            default=0,
            expertLevel=cons.LEVEL_ADVANCED,
            label="Random seed",
            help="The same seed gives the same model on the same computer.",
        )
        form.addParallelSection(threads=4, mpi=0)

    def _validate(self) -> list[str]:
        errors = self._validateCommand()
        if not (self.diameter.get() or 0) > 0:
            errors.append("Give the particle diameter in angstrom.")
        if self.start.get() == MODEL and self.startModel.get() is None:
            errors.append("Select the trained model to start from.")
        return errors

    # ---------------------------- the steps ----------------------------
    def _insertAllSteps(self) -> None:
        self._insertFunctionStep("convertInputStep", needsGPU=False)
        # The options are an argument, so that Scipion repeats the step when they change.
        self._insertFunctionStep("trainStep", self._getOptions())
        self._insertFunctionStep("createOutputStep", needsGPU=False)

    def _getOptions(self) -> list[str]:
        """Return the options of ``heliodor train`` that the form gives."""
        words = ["--recipe", RECIPES[self.recipe.get()], "--seed", str(self.seed.get())]
        if self.start.get() == MODEL:
            words += ["--from", self.startModel.get().getPath()]
        elif self.start.get() == SCRATCH:
            words += ["--from", "scratch"]
        add_number(words, "--diameter", self.diameter)
        add_number(words, "--expected-particles", self.expectedParticles)
        return words

    def convertInputStep(self) -> None:
        """Write the micrographs and the coordinates for heliodor."""
        micrographs = list(self._iterMicrographs())
        convert.write_micrograph_list(self._getListPath(), micrographs)
        files = {mic.getObjId(): mic.getFileName() for mic in micrographs}
        coordinates = self.inputCoordinates.get()
        count = convert.write_labels(self._getLabelsPath(), coordinates.iterCoordinates(), files)
        if count == 0:
            raise ValueError("the set of coordinates has no particles: pick some first")
        negatives = self.inputNegatives.get()
        if negatives is not None:
            # Other sets of micrographs may number them differently, so the names decide.
            names = {mic.getMicName(): mic.getFileName() for mic in micrographs}
            same = {
                mic.getObjId(): names[mic.getMicName()]
                for mic in negatives.getMicrographs()
                if mic.getMicName() in names
            }
            convert.write_labels(self._getNegativesPath(), negatives.iterCoordinates(), same)

    def trainStep(self, options: list[str]) -> None:
        """Train; continues a training that was interrupted."""
        folder = self._getExtraPath("training")
        micrographs = list(self._iterMicrographs())
        words = ["train", f"@{self._getListPath()}", "--labels", self._getLabelsPath()]
        if self.inputNegatives.get() is not None:
            words += ["--negatives", self._getNegativesPath()]
        words += ["--pixel-size", f"{micrographs[0].getSamplingRate():.6g}", "-o", folder]
        files = {mic.getFileName() for mic in micrographs}
        self._runHeliodor([*words, *options], folder, files)

    def createOutputStep(self) -> None:
        """Register the model in the project."""
        path = self._getExtraPath("training", "model.safetensors")
        if not os.path.exists(path):
            raise FileNotFoundError(f"heliodor wrote no model ({path}); see its messages above")
        model = HeliodorModel(path=path, diameter=self.diameter.get())
        self._defineOutputs(outputModel=model)
        self._defineSourceRelation(self.inputCoordinates, model)

    # ---------------------------- paths and texts ----------------------------
    def _iterMicrographs(self) -> Any:
        for mic in self.inputCoordinates.get().getMicrographs():
            yield mic.clone()  # Scipion reuses one object while it iterates

    def _getListPath(self) -> str:
        return str(self._getExtraPath("micrographs.txt"))

    def _getLabelsPath(self) -> str:
        return str(self._getExtraPath("labels.tsv"))

    def _getNegativesPath(self) -> str:
        return str(self._getExtraPath("negatives.tsv"))

    def _summary(self) -> list[str]:
        model = getattr(self, "outputModel", None)
        summary = ["No model yet." if model is None else f"Model: {model.getPath()}"]
        failures = convert.read_failures(self._getExtraPath("training"))
        return [*summary, *convert.describe_failures(failures)]
