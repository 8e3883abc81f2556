"""How the candidates of a micrograph are kept in the journal of picking."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from heliodor.conventions import FloatArray
from heliodor.data.micrographs.working_images import is_plausible_pixel_size
from heliodor.picking.contamination import ContaminationMask
from heliodor.picking.filaments.batch import TracedMicrograph
from heliodor.picking.filaments.refinement import ScoredAxis
from heliodor.picking.filaments.width import profile_positions


class FilamentCodec:
    """Writes and reads the candidates of a micrograph; see `heliodor.picking.journal.Codec`."""

    def encode(self, result: TracedMicrograph) -> dict[str, Any]:
        """Return the values of a result, ready for JSON."""
        found = result.contamination
        return {
            "pixel_size_angstrom": result.pixel_size_angstrom,
            "shape": list(result.shape),
            "axes": [one.axis.tolist() for one in result.axes],
            "scores": [one.scores.tolist() for one in result.axes],
            "profile": [None if np.isnan(v) else v for v in result.profile.tolist()],
            "profile_length_px": result.profile_length_px,
            "bad_areas": None if found is None else found.as_dict(),
        }

    def decode(self, name: str, values: Mapping[str, Any]) -> TracedMicrograph:
        """Return the candidates of a micrograph.

        Raises
        ------
        ValueError, LookupError, TypeError, OverflowError
            If the values are damaged.
        """
        size, length = float(values["pixel_size_angstrom"]), float(values["profile_length_px"])
        height, width = (int(side) for side in values["shape"])
        if not is_plausible_pixel_size(size) or not np.isfinite(length) or min(height, width) < 1:
            raise ValueError("impossible values")
        profile = np.array(
            [np.nan if v is None else v for v in values["profile"]], dtype=np.float64
        )
        if profile.shape != profile_positions().shape:
            raise ValueError("the profile has another length")
        axes = tuple(
            _read_axis(points, scores)
            for points, scores in zip(values["axes"], values["scores"], strict=True)
        )
        found = values.get("bad_areas")  # unknown to earlier versions
        contamination = None if found is None else ContaminationMask.from_dict(found)
        return TracedMicrograph(name, size, (height, width), axes, profile, length, contamination)

    def has_decoys(self, result: TracedMicrograph) -> bool:
        """Return that there is nothing left to look for: filaments need no decoys."""
        return True


#: The candidates of tracing filaments.
FILAMENTS: Final = FilamentCodec()


def _read_axis(points: Any, scores: Any) -> ScoredAxis:
    axis: FloatArray = np.array(points, dtype=np.float64)
    values: FloatArray = np.array(scores, dtype=np.float64)
    if axis.ndim != 2 or axis.shape[1] != 2 or values.shape != (len(axis),) or len(axis) < 2:
        raise ValueError("an axis has the wrong shape")
    if not np.isfinite(axis).all() or not np.isfinite(values).all():
        raise ValueError("not a number")
    return ScoredAxis(axis, values)
