"""The base classes of protocols, and how their steps are run."""

import json
import os
import subprocess

import pyworkflow.protocol.constants as cons
import pyworkflow.protocol.params as params

from pwem.objects import EMObject, SetOfCoordinates


class EMProtocol(EMObject):
    def __init__(self, **kwargs):
        super().__init__()
        self.stepsExecutionMode = cons.STEPS_SERIAL
        self._form, self._steps, self._said, self._folder = params.Form(), [], [], None
        self._defineParams(self._form)
        for name, param in self._form.params.items():
            setattr(self, name, param.create())
        for name, value in kwargs.items():
            assert name in self._form.params, f"{name} is not in the form"
            getattr(self, name).set(value)

    def getParam(self, name):
        return self._form.getParam(name)

    def _validate(self):
        return []

    def validate(self):
        return self._validate()

    def summary(self):
        return self._summary()

    def _getExtraPath(self, *paths):
        return os.path.join(self._folder, "extra", *paths)

    def _insertFunctionStep(self, function, *arguments, prerequisites=(), wait=False,
                            needsGPU=True):  # fmt: skip
        json.dumps(arguments)  # Scipion stores them
        self._steps.append((function, arguments))
        return len(self._steps)

    def info(self, text):
        self._said.append(text)

    warning = info

    def runJob(self, program, arguments, numberOfMpi=1):
        if self.useGpu.get():
            arguments = arguments % {"GPU": self.gpuList.get()}
        env = type(self)._plugin.getEnviron()
        command = f"{env.getPrepend()} {program} {arguments}"
        subprocess.check_call(command, shell=True, env=env)

    def _defineOutputs(self, **outputs):
        for name, value in outputs.items():
            setattr(self, name, value)

    def _defineSourceRelation(self, source, result):
        pass

    def run(self, folder):
        """Run all steps in the folder of the protocol."""
        self._folder = folder
        os.makedirs(self._getExtraPath(), exist_ok=True)
        self._insertAllSteps()
        for function, arguments in self._steps:
            getattr(self, function)(*json.loads(json.dumps(arguments)))
        self._finish()

    def _finish(self):
        pass


class ProtParticlePickingAuto(EMProtocol):
    def _defineParams(self, form):
        form.addSection("Input")
        form.addParam(
            "inputMicrographs",
            params.PointerParam,
            pointerClass="SetOfMicrographs",
            label="Input micrographs",
        )

    def _defineStreamingParams(self, form):
        form.addSection("Streaming")
        form.addParam("streamingSleepOnWait", params.IntParam, default=0)
        form.addParam("streamingBatchSize", params.IntParam, default=1)

    def _insertAllSteps(self):
        self.micDict = {mic.getMicName(): mic.clone() for mic in self.inputMicrographs.get()}
        names, size = list(self.micDict), self.streamingBatchSize.get()
        if size == 1:
            for name in names:
                self._insertFunctionStep("pickMicrographStep", name, *self._getPickArgs())
            return
        for start in range(0, len(names), size or len(names)):
            batch = names[start : start + (size or len(names))]
            self._insertFunctionStep("pickMicrographListStep", batch, *self._getPickArgs())

    def pickMicrographStep(self, name, *arguments):
        self._pickMicrograph(self.micDict[name], *arguments)

    def pickMicrographListStep(self, names, *arguments):
        self._pickMicrographList([self.micDict[name] for name in names], *arguments)

    def _finish(self):
        coordinates = SetOfCoordinates()
        coordinates.setMicrographs(self.inputMicrographs)
        for mic in self.micDict.values():
            self.readCoordsFromMics(self.getCoordsDir(), [mic], coordinates)
        self._defineOutputs(outputCoordinates=coordinates)

    def _summary(self):
        return [f"Number of input micrographs: {self.inputMicrographs.get().getSize()}"]
