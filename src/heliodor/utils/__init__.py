"""Helpers that know nothing of micrographs."""
