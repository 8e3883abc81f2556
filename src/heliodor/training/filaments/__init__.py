"""Training of networks of filaments."""
