"""Importers of models from other programs."""
