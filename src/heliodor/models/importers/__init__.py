"""Reading models of other programs."""
