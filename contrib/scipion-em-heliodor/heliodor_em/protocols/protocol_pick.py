"""Picking particles with the general model or a trained one."""

from __future__ import annotations

import glob
import os
from typing import Any, ClassVar, Sequence

import pyworkflow.protocol.constants as cons
import pyworkflow.protocol.params as params
import pyworkflow.utils as pwutils
from pwem.objects import Coordinate, SetOfCoordinates
from pwem.protocols import ProtParticlePickingAuto
from pyworkflow.object import Float

from heliodor_em import convert

from .command import HeliodorCommand, add_number

#: The choices of the model.
GENERAL, TRAINED, FILE = range(3)
#: The choices for contamination, as heliodor's option calls them.
BAD_AREAS = ["leave-out", "keep"]


class HeliodorProtPicking(ProtParticlePickingAuto, HeliodorCommand):
    """Picks particles with heliodor.

    The general model needs the diameter of the particle and no training. A model that the
    training protocol made from some of your own particles is more accurate.
    """

    _label = "picking"
    _possibleOutputs: ClassVar[dict[str, type]] = {"outputCoordinates": SetOfCoordinates}

    def __init__(self, **kwargs: Any) -> None:
        ProtParticlePickingAuto.__init__(self, **kwargs)
        self.stepsExecutionMode = cons.STEPS_SERIAL

    # ---------------------------- the form ----------------------------
    def _defineParams(self, form: Any) -> None:
        ProtParticlePickingAuto._defineParams(self, form)
        form.addParam(
            "modelType",
            params.EnumParam,
            choices=["general model", "trained in this project", "file"],
            default=GENERAL,
            display=params.EnumParam.DISPLAY_COMBO,
            label="Model",
            help="The general model was trained on simulated particles and needs no training.",
        )
        form.addParam(
            "inputModel",
            params.PointerParam,
            pointerClass="HeliodorModel",
            condition=f"modelType == {TRAINED}",
            allowsNull=True,
            label="Trained model",
            help="The result of the protocol _heliodor - training_.",
        )
        form.addParam(
            "modelFile",
            params.FileParam,
            condition=f"modelType == {FILE}",
            default="",
            label="Model file",
            help="A model.safetensors that heliodor trained.",
        )
        form.addParam(
            "diameter",
            params.FloatParam,
            condition=f"modelType == {GENERAL}",
            default=None,
            allowsNull=True,
            validators=[],
            label="Particle diameter (Å)",
            help="The longest diameter of the particle.",
        )
        form.addParam(
            "adapt",
            params.BooleanParam,
            condition=f"modelType == {GENERAL}",
            default=False,
            label="Adapt the model first?",
            help="The general model first learns from its surest picks on up to 8 of the"
            " micrographs, which takes about a minute.",
        )
        form.addParam(
            "boxSize",
            params.IntParam,
            default=None,
            allowsNull=True,
            label="Box size (px)",
            help="The box size of the coordinates, which extraction proposes. Empty: 1.5 times"
            " the diameter. It does not change the picks. Necessary with a model file.",
        )
        self._defineCommandParams(form)

        form.addSection(label="Picks")
        form.addParam(
            "threshold",
            params.FloatParam,
            default=None,
            allowsNull=True,
            label="Threshold (log-odds)",
            help="Candidates with this score or a higher one are picks. Empty: the threshold with"
            " the highest expected F1; that of a trained model is chosen in training. With the"
            " general model it is found from the micrographs of each batch (see Streaming).",
        )
        form.addParam(
            "maxFdr",
            params.FloatParam,
            default=None,
            allowsNull=True,
            expertLevel=cons.LEVEL_ADVANCED,
            label="Most false picks (share)",
            help="Choose the threshold so that at most this share of the picks, between 0 and 1,"
            " is expected to be false.",
        )
        form.addParam(
            "exclusionRadius",
            params.FloatParam,
            default=None,
            allowsNull=True,
            label="Minimum distance (Å)",
            help="The minimum distance between two picks. Empty: half the diameter.",
        )
        form.addParam(
            "edgeMargin",
            params.FloatParam,
            default=None,
            allowsNull=True,
            expertLevel=cons.LEVEL_ADVANCED,
            label="Edge margin (Å)",
            help="The minimum distance of picks from the edge of the micrograph. Empty: that of"
            " the labels, if they keep away from the edges; otherwise 0.",
        )
        form.addParam(
            "badAreas",
            params.EnumParam,
            choices=["leave out", "keep"],
            default=0,
            label="Picks in contamination",
            help="_leave out_: only confident picks in carbon, ice crystals and aggregates that"
            " the model detects; _keep_: pick there as elsewhere.",
        )
        form.addParam(
            "maxContamination",
            params.FloatParam,
            default=None,
            allowsNull=True,
            expertLevel=cons.LEVEL_ADVANCED,
            label="Most contamination (share)",
            help="No picks on micrographs of which a larger share, between 0 and 1, is"
            " contamination. Empty: pick on all.",
        )
        self._defineStreamingParams(form)
        # One run for all micrographs there are, as the program needs seconds to start.
        form.getParam("streamingBatchSize").setDefault(0)
        form.addParallelSection(threads=4, mpi=0)

    def _validate(self) -> list[str]:
        errors = self._validateCommand()
        kind = self.modelType.get()
        if kind == GENERAL and not (self.diameter.get() or 0) > 0:
            errors.append("The general model needs the particle diameter in angstrom.")
        if kind == TRAINED and self.inputModel.get() is None:
            errors.append("Select a model that was trained in this project.")
        if kind == FILE:
            if not os.path.isfile(self.modelFile.get() or ""):
                errors.append(f"The model file {self.modelFile.get()!r} does not exist.")
            if not self.boxSize.get():
                errors.append("Give the box size, as you picked with a model file.")
        if self.threshold.get() is not None and self.maxFdr.get() is not None:
            errors.append("Give either a threshold or a share of false picks, not both.")
        for name in ("maxFdr", "maxContamination"):
            value = getattr(self, name).get()
            if value is not None and not 0 <= value <= 1:
                errors.append(f"*{self.getParam(name).label.get()}* must be between 0 and 1.")
        return errors

    # ---------------------------- the steps ----------------------------
    def _getPickArgs(self) -> list[Any]:
        # An argument of the steps, so that Scipion repeats them when the options change.
        return [self._getOptions()]

    def _getOptions(self) -> list[str]:
        """Return the options of ``heliodor pick`` that the form gives."""
        kind = self.modelType.get()
        words: list[str] = []
        if kind == GENERAL:
            add_number(words, "--diameter", self.diameter)
            words += ["--adapt"] if self.adapt.get() else []
        elif kind == TRAINED:
            words += ["--model", self.inputModel.get().getPath()]
        else:
            words += ["--model", self.modelFile.get()]
        add_number(words, "--threshold", self.threshold)
        add_number(words, "--max-fdr", self.maxFdr)
        add_number(words, "--exclusion-radius", self.exclusionRadius)
        add_number(words, "--edge-margin", self.edgeMargin)
        add_number(words, "--max-contamination", self.maxContamination)
        return [*words, "--bad-areas", BAD_AREAS[self.badAreas.get()]]

    def _pickMicrograph(self, mic: Any, options: Sequence[str]) -> None:
        self._pickMicrographList([mic], options)

    def _pickMicrographList(self, micList: Sequence[Any], options: Sequence[str]) -> None:
        if not micList:
            return
        # The same folder when Scipion continues the step, so that heliodor resumes.
        folder = self._getExtraPath("picks", f"{micList[0].getObjId():06d}")
        pwutils.makePath(folder, self.getCoordsDir())
        listed = os.path.join(folder, "micrographs.txt")
        convert.write_micrograph_list(listed, micList)
        self._runHeliodor(
            [
                *("pick", f"@{listed}", "-o", folder),
                *("--pixel-size", f"{micList[0].getSamplingRate():.6g}"),
                *options,
            ],
            folder,
            {mic.getFileName() for mic in micList},
        )
        paths = {mic.getFileName(): self._getCoordsPath(mic) for mic in micList}
        convert.split_picks(folder, paths)

    # ---------------------------- the output ----------------------------
    def getCoordsDir(self) -> str:
        """Return the folder with a table of picks for each micrograph."""
        return str(self._getExtraPath("coordinates"))

    def _getCoordsPath(self, mic: Any) -> str:
        return os.path.join(self.getCoordsDir(), f"mic_{mic.getObjId():06d}.tsv")

    def readCoordsFromMics(
        self, outputDir: str, micDoneList: Sequence[Any], coordSet: Any
    ) -> None:
        """Add the picks of micrographs that are done to the output."""
        if coordSet.getBoxSize() is None:
            coordSet.setBoxSize(self._getBoxSize(micDoneList[0].getSamplingRate()))
        for mic in micDoneList:
            for pick in convert.read_picks(self._getCoordsPath(mic)):
                coordinate = Coordinate()
                coordinate.setMicrograph(mic)
                coordinate.setPosition(convert.to_pixel(pick.x), convert.to_pixel(pick.y))
                coordinate._heliodorScore = Float(pick.score)
                coordSet.append(coordinate)

    def _getBoxSize(self, pixel_size: float) -> int:
        if self.boxSize.get():
            return int(self.boxSize.get())
        trained = self.modelType.get() == TRAINED
        diameter = self.inputModel.get().getDiameter() if trained else self.diameter.get()
        return convert.default_box_size(diameter, pixel_size)

    def _getFailures(self) -> list[tuple[str, str]]:
        runs = sorted(glob.glob(self._getExtraPath("picks", "*")))
        return [failure for run in runs for failure in convert.read_failures(run)]

    def _summary(self) -> list[str]:
        summary: list[str] | None = ProtParticlePickingAuto._summary(self)
        return [*(summary or []), *convert.describe_failures(self._getFailures())]
