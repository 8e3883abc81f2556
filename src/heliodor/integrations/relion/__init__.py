"""RELION External jobs."""
