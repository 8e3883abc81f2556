"""Synthetic cryoEM micrographs with known truth."""

from heliodor.simulation.builtin_particles import PARTICLES, Particle
from heliodor.simulation.contaminant_levels import ContaminantLevels
from heliodor.simulation.dataset import SimulatedSet, simulate
from heliodor.simulation.micrograph import (
    MicrographLayers,
    SimulatedMicrograph,
    simulate_layers,
    simulate_micrograph,
)
from heliodor.simulation.settings import (
    Detector,
    Orientations,
    SimulationSettings,
)
from heliodor.simulation.structures import read_structure

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
