"""Random filaments on simulated micrographs, for training the general filament model."""
