"""Coordinates of particles: labels, picks, files."""
