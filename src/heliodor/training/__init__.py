"""Training networks from labels."""
