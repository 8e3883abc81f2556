"""Micrographs: names, files, headers, pixels and working images."""
