"""The modes of normalization that a user chooses among; light to import."""

from __future__ import annotations

from typing import Literal, get_args

#: A mixture fitted per micrograph; one for the data set with a scale per micrograph (the
#: paper's); mean and standard deviation; or nothing, for normalized micrographs.
NormalizationMode = Literal["joint", "micrograph", "standard", "none"]

NORMALIZATION_MODES: tuple[NormalizationMode, ...] = get_args(NormalizationMode)
