"""Projects of cryoSPARC."""
