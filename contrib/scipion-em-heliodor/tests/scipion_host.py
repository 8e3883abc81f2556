"""Projects with protocols that run, in the recorded interface or in Scipion itself."""

import os
from pathlib import Path

from pwem.objects import Micrograph, SetOfCoordinates, SetOfMicrographs

IS_REAL = os.environ.get("HELIODOR_REAL_HOST") == "1"
PIXEL_SIZE = 4.0


class RecordedProject:
    """A project in the current folder, with the stand-ins."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.count = 0

    def micrographs(self, files):
        """Return a pointer to a set of micrographs."""
        found = SetOfMicrographs()
        for file in files:
            found.append(_micrograph(file))
        return found

    def coordinates(self, micrographs, centers):
        """Return a set of coordinates at (micrograph number from 0, x, y)."""
        found = SetOfCoordinates()
        found.setMicrographs(_Pointer(micrographs))
        _add(found, micrographs, centers)
        return found

    def new(self, protocol_class, **values):
        """Return a new protocol with the values of its form."""
        import heliodor_em

        heliodor_em.Plugin._defineVariables()
        protocol_class._plugin = heliodor_em.Plugin
        return protocol_class(**values)

    def run(self, protocol):
        """Run a protocol; returns why it failed, or nothing."""
        self.count += 1
        protocol.run(f"Runs/{self.count:06d}")


class _Pointer:
    def __init__(self, value):
        self.value = value

    def get(self):
        return self.value


class RealProject:
    """A project of Scipion; its folder becomes the current one."""

    def __init__(self, folder):
        from pyworkflow.project import Project

        home = Path(folder) / "scipion_home"
        (home / "config").mkdir(parents=True)
        hosts = home / "config" / "hosts.conf"
        hosts.write_text("[localhost]\nPARALLEL_COMMAND = mpirun\n")
        import pyworkflow
        from pwem import Domain

        pyworkflow.Config.setDomain("pwem")
        self.project = Project(Domain, str(Path(folder) / "project"))
        self.project.create(hostsConf=str(hosts))
        os.chdir(self.project.path)
        self.import_ = None

    def micrographs(self, files):
        from pwem.protocols import ProtImportMicrographs

        found = self._register(ProtImportMicrographs, "_createSetOfMicrographs")
        found.output.setSamplingRate(PIXEL_SIZE)
        for file in files:
            found.output.append(_micrograph(file))
        return found.finish("outputMicrographs")

    def coordinates(self, micrographs, centers):
        from pwem.protocols import ProtImportCoordinates

        found = self._register(ProtImportCoordinates, "_createSetOfCoordinates", micrographs)
        found.output.setBoxSize(60)
        _add(found.output, micrographs.get(), centers)
        return found.finish("outputCoordinates")

    def _register(self, protocol_class, create, *arguments):
        protocol = self.project.newProtocol(protocol_class)
        self.project.saveProtocol(protocol)
        protocol.makePathsAndClean()
        return _Registered(self.project, protocol, getattr(protocol, create)(*arguments))

    def new(self, protocol_class, **values):
        return self.project.newProtocol(protocol_class, **values)

    def run(self, protocol):
        from pyworkflow.protocol.executor import StepExecutor

        self.project.saveProtocol(protocol)
        protocol.setStatus("launched")
        self.project._setupProtocol(protocol)
        protocol.makePathsAndClean()
        gpus = protocol.getGpuList() if protocol.usesGpu() else None
        protocol.setStepsExecutor(StepExecutor(protocol.getHostConfig(), gpuList=gpus))
        protocol.run()
        self.project._storeProtocol(protocol)
        if protocol.getStatus() != "finished":
            raise RuntimeError(protocol.getErrorMessage())


class _Registered:
    def __init__(self, project, protocol, output):
        self.project, self.protocol, self.output = project, protocol, output

    def finish(self, name):
        from pyworkflow.object import Pointer

        self.protocol._defineOutputs(**{name: self.output})
        self.output.write()
        self.protocol.setFinished()
        self.project._storeProtocol(self.protocol)
        return Pointer(self.protocol, extended=name)


def _micrograph(file):
    found = Micrograph(location=str(file))
    found.setMicName(Path(file).name)
    found.setSamplingRate(PIXEL_SIZE)
    return found


def _add(found, micrographs, centers):
    from pwem.objects import Coordinate

    all_of_them = [mic.clone() for mic in micrographs]
    for number, x, y in centers:
        coordinate = Coordinate()
        coordinate.setMicrograph(all_of_them[number])
        coordinate.setPosition(x, y)
        found.append(coordinate)


def connect(field, source):
    """Give a field of a form its input: a set, or what `output_of` returned."""
    if IS_REAL:
        field.set(source.getObjValue())
        field.setExtended(source.getExtended())
    else:
        field.set(source)


def output_of(protocol, name):
    """Return what other protocols take as input: an output of a protocol that was run."""
    if not IS_REAL:
        return getattr(protocol, name)
    from pyworkflow.object import Pointer

    return Pointer(protocol, extended=name)


Project = RealProject if IS_REAL else RecordedProject
