"""Stand-in for Scipion's pyworkflow; see README.md."""
