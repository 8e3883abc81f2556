"""Filaments: their axes on micrographs, helical segments along them, and files of them."""
