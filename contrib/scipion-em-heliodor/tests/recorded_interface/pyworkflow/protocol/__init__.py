"""Protocols: their constants and parameters."""
