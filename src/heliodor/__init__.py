"""heliodor: find the particles in cryoEM micrographs from a few labelled examples."""

__version__ = "0.1.0"
