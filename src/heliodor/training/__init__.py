"""Train networks from labels."""
