"""Synthetic cryoEM micrographs with known truth."""

from heliodor.simulate.micrograph import (
    Layers,
    SimulatedMicrograph,
    simulate_layers,
    simulate_micrograph,
)
from heliodor.simulate.particles import PARTICLES, Particle
from heliodor.simulate.settings import Orientations, SimulationSettings
from heliodor.simulate.writing import SimulatedSet, simulate

__all__ = [
    "PARTICLES",
    "Layers",
    "Orientations",
    "Particle",
    "SimulatedMicrograph",
    "SimulatedSet",
    "SimulationSettings",
    "simulate",
    "simulate_layers",
    "simulate_micrograph",
]
