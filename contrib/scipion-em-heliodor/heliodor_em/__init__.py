"""Scipion plugin that trains and picks with heliodor."""

from __future__ import annotations

import os
import shutil
from typing import Any

import pwem
import pyworkflow.utils as pwutils

__version__ = "0.1.0"
_references = ["heliodor", "Bepler2019"]

#: The variable in ``scipion.conf`` with the path of the program.
HELIODOR_PROGRAM = "HELIODOR_PROGRAM"


class Plugin(pwem.Plugin):
    """What Scipion asks of the plugin: its variables, and how its program is started."""

    @classmethod
    def _defineVariables(cls) -> None:
        cls._defineVar(HELIODOR_PROGRAM, "heliodor")

    @classmethod
    def getProgram(cls) -> str:
        """Return the path of the program, or its name if it is on the ``PATH``."""
        return str(cls.getVar(HELIODOR_PROGRAM))

    @classmethod
    def getEnviron(cls) -> Any:
        """Return the environment of the program, without Scipion's own Python packages."""
        environ = pwutils.Environ(os.environ)
        for name in ("PYTHONPATH", "PYTHONHOME"):
            environ.pop(name, None)
        return environ

    @classmethod
    def validateInstallation(cls) -> list[str]:
        """Return what is wrong with the installation, for Scipion to show."""
        program = cls.getProgram()
        if shutil.which(program):
            return []
        return [
            f"The program {program} was not found. Install heliodor into an environment of its"
            f" own, and set {HELIODOR_PROGRAM} in scipion.conf to the path of heliodor there,"
            " such as /opt/heliodor/bin/heliodor."
        ]

    @classmethod
    def defineBinaries(cls, env: Any) -> None:
        """Declare nothing: heliodor is installed by hand, into an environment of its own."""
