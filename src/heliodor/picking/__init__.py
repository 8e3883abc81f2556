"""Scoring micrographs and picking particles."""
