"""Reconstruction from picks with RELION's programs, to judge the picks by it."""
