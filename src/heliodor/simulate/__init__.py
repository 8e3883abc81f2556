"""Synthetic cryoEM micrographs with known truth."""

from heliodor.simulate.levels import Levels
from heliodor.simulate.micrograph import (
    Layers,
    SimulatedMicrograph,
    simulate_layers,
    simulate_micrograph,
)
from heliodor.simulate.particles import PARTICLES, Particle
from heliodor.simulate.settings import Detector, Orientations, SimulationSettings
from heliodor.simulate.structure import read_structure
from heliodor.simulate.writing import SimulatedSet, simulate

__all__ = [
    "PARTICLES",
    "Detector",
    "Layers",
    "Levels",
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
