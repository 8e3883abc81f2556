"""Micrographs: files, headers, pixels."""
