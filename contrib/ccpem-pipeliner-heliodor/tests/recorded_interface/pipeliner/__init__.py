"""Stand-in for the CCP-EM Pipeliner; see README.md."""
