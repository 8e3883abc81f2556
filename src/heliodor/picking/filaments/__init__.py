"""Trace filaments: from what a network says about the points of a lattice to smooth axes."""
