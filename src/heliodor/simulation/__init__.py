"""Synthetic cryoEM micrographs with known truth.

Names are imported when they are used, as the command line needs only the settings, which are
light.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

#: Where each public name is defined.
_HOME = {
    "PARTICLES": "builtin_particles",
    "ContaminantLevels": "contaminant_levels",
    "Detector": "settings",
    "MicrographLayers": "micrograph",
    "Orientations": "settings",
    "Particle": "builtin_particles",
    "SimulatedMicrograph": "micrograph",
    "SimulatedSet": "dataset",
    "SimulationSettings": "settings",
    "read_structure": "structures",
    "simulate": "dataset",
    "simulate_layers": "micrograph",
    "simulate_micrograph": "micrograph",
}

__all__ = [
    "PARTICLES",
    "ContaminantLevels",
    "Detector",
    "MicrographLayers",
    "Orientations",
    "Particle",
    "SimulatedMicrograph",
    "SimulatedSet",
    "SimulationSettings",
    "read_structure",
    "simulate",
    "simulate_layers",
    "simulate_micrograph",
]

if TYPE_CHECKING:
    from heliodor.simulation.builtin_particles import PARTICLES, Particle
    from heliodor.simulation.contaminant_levels import ContaminantLevels
    from heliodor.simulation.dataset import SimulatedSet, simulate
    from heliodor.simulation.micrograph import (
        MicrographLayers,
        SimulatedMicrograph,
        simulate_layers,
        simulate_micrograph,
    )
    from heliodor.simulation.settings import Detector, Orientations, SimulationSettings
    from heliodor.simulation.structures import read_structure


def __getattr__(name: str) -> object:
    """Import a public name when it is first used."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value
