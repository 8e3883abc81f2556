"""Micrographs and coordinates: reading, matching, writing."""
