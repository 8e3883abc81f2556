"""The protocols of the plugin."""

from .protocol_pick import HeliodorProtPicking
from .protocol_train import HeliodorProtTraining

__all__ = ["HeliodorProtPicking", "HeliodorProtTraining"]
