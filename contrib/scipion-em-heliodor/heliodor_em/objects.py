"""The trained model, as an object of a Scipion project."""

from __future__ import annotations

from typing import Any

import pyworkflow.object as pwobj
from pwem.objects import EMObject


class HeliodorModel(EMObject):
    """A model that heliodor trained.

    Parameters
    ----------
    path
        Its file, from the project folder.
    diameter
        The diameter of its particle in angstrom.
    """

    def __init__(
        self, path: str | None = None, diameter: float | None = None, **kwargs: Any
    ) -> None:
        EMObject.__init__(self, **kwargs)
        self._path = pwobj.String(path)
        self._diameter = pwobj.Float(diameter)

    def getPath(self) -> str:
        """Return the path of the file, from the project folder."""
        return str(self._path.get())

    def getDiameter(self) -> float:
        """Return the diameter of the particle in angstrom."""
        return float(self._diameter.get())

    def __str__(self) -> str:
        return f"HeliodorModel ({self.getDiameter():g} Å, {self.getPath()})"
