"""What a network of filaments says about a micrograph; tracing turns it into axes."""

from __future__ import annotations

from dataclasses import dataclass

from heliodor.conventions import FloatArray


@dataclass(frozen=True)
class FilamentMaps:
    """What the network says about filaments at the points of a lattice on one micrograph."""

    #: Log-odds that the axis of a filament passes within half a step (of `spacing_px`) of the
    #: point, shape (h, w).
    axis: FloatArray
    #: Cosine and sine of twice the angle of the axis (x to the right, y down: angle =
    #: atan2(dy, dx)), times confidence, shape (2, h, w).
    double_angle: FloatArray
    #: Offset (x, y) in pixels of the original micrograph from the point to the nearest point of
    #: the axis, shape (2, h, w).
    offset_px: FloatArray
    #: Log-odds of contamination, shape (h, w), or None.
    contaminant: FloatArray | None
    #: Position (x, y) in pixels of the original micrograph of the point [0, 0], and distance of
    #: neighboring points in pixels.
    first_px: tuple[float, float]
    spacing_px: float
