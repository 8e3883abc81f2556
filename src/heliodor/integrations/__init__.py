"""Being called by, and speaking with, other programs."""
