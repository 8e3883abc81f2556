"""The history of a training: the figures of each epoch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any


@dataclass(frozen=True)
class Epoch:
    """One line of ``training.tsv``: means over the epoch, and the result of validation."""

    epoch: int
    update: int
    seconds: float
    learning_rate: float
    loss: float
    positive_loss: float
    unlabelled_term: float
    #: Mean probability over the unlabeled regions; the class prior is its expected value.
    mean_probability: float
    #: Mean error of the autoencoder's reconstruction, 0 without one.
    reconstruction: float
    #: Region average precision on the labels of the validation images, nan without any.
    validation_ap: float

    def as_dict(self) -> dict[str, Any]:
        """Return the fields ready for JSON; see `from_dict`."""
        ap = None if math.isnan(self.validation_ap) else self.validation_ap
        return asdict(self) | {"validation_ap": ap}

    @classmethod
    def from_dict(cls, value: Any) -> Epoch:
        """Rebuild exactly from `as_dict`; raises ValueError if the value is not an epoch."""
        names = {field.name for field in fields(cls)}
        if not isinstance(value, dict) or value.keys() != names:
            raise ValueError("an epoch lacks fields")
        value = value | {"validation_ap": math.nan} if value["validation_ap"] is None else value
        whole = all(type(value[name]) is int for name in ("epoch", "update"))
        if not whole or not all(type(number) in (int, float) for number in value.values()):
            raise ValueError("the fields of an epoch must be numbers")
        return cls(**value)


def history_table(history: Sequence[Epoch]) -> str:
    """Return the epochs as a TSV text with a header."""
    rows = [asdict(epoch) for epoch in history]
    lines = ["\t".join(rows[0])] if rows else []
    for row in rows:
        lines.append(
            "\t".join(f"{v:.6g}" if isinstance(v, float) else str(v) for v in row.values())
        )
    return "\n".join(lines) + "\n"
