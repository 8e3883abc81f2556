"""Jobs of the CCP-EM Pipeliner that train and pick with heliodor."""

__version__ = "0.1.0"
