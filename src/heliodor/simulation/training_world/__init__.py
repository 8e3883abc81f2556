"""Random particles and imaging conditions for training the general model."""
