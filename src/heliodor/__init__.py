"""heliodor: find the particles in cryoEM micrographs from a few labeled examples.

>>> import heliodor
>>> picks = heliodor.pick("micrographs/*.mrc", diameter=180)  # doctest: +SKIP
>>> picks.write("picks.star")  # doctest: +SKIP

See docs/python/index.md. Names are imported when they are used, so that ``import heliodor`` is
instant.
"""

from __future__ import annotations

#: True for type checkers alone; `typing` would be most of the time of this import.
TYPE_CHECKING = False

__version__ = "0.1.0"

#: Where each public name is defined.
_HOME = {
    "ComputeSettings": "utils.compute",
    "DataSettings": "training.settings",
    "Evaluation": "evaluation.metrics",
    "HeliodorError": "errors",
    "PickSettings": "picking.settings",
    "Picker": "api",
    "Picks": "data.coordinates.picks",
    "TrainSettings": "training.settings",
    "TrainingSettings": "training.settings",
    "convert": "api",
    "evaluate": "api",
    "pick": "api",
    "pick_filaments": "api",
    "read_micrograph": "data.micrographs.micrograph",
    "read_picks": "data.coordinates.formats",
    "train": "api",
    "train_filaments": "api",
}

__all__ = [
    "ComputeSettings",
    "DataSettings",
    "Evaluation",
    "HeliodorError",
    "PickSettings",
    "Picker",
    "Picks",
    "TrainSettings",
    "TrainingSettings",
    "__version__",
    "convert",
    "evaluate",
    "pick",
    "pick_filaments",
    "read_micrograph",
    "read_picks",
    "train",
    "train_filaments",
]

if TYPE_CHECKING:
    from heliodor.api import (
        Picker,
        convert,
        evaluate,
        pick,
        pick_filaments,
        train,
        train_filaments,
    )
    from heliodor.data.coordinates.formats import read_picks
    from heliodor.data.coordinates.picks import Picks
    from heliodor.data.micrographs.micrograph import read_micrograph
    from heliodor.errors import HeliodorError
    from heliodor.evaluation.metrics import Evaluation
    from heliodor.picking.settings import PickSettings
    from heliodor.training.settings import DataSettings, TrainingSettings, TrainSettings
    from heliodor.utils.compute import ComputeSettings


def __getattr__(name: str) -> object:
    """Import a public name when it is first used."""
    if name not in _HOME:
        raise AttributeError(f"module 'heliodor' has no attribute {name!r}")
    import importlib

    value: object = getattr(importlib.import_module(f"heliodor.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
