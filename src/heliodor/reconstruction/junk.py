"""How many picks behave as junk in 2D classification, by comparison with decoys.

Picks and decoys are classified together. Decoys gather in some of the classes; picks that are
junk are spread over the classes as the decoys are, and particles hardly enter theirs. So in the
classes that hold half of the decoys and the fewest picks beside them, the share of the picks is
the share of junk times the share of the decoys.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from heliodor.conventions import FloatArray, IndexArray

#: The share of the decoys in the classes in which picks are compared with them.
DECOYS_COMPARED: Final = 0.5
#: The classification has failed if one class has more than this share of the images.
COLLAPSED: Final = 0.98
#: A class is junk if more than this share of its picks is.
JUNK_CLASS: Final = 0.5


@dataclass(frozen=True)
class Share:
    """An estimated share, with its standard error."""

    value: float
    error: float


@dataclass(frozen=True)
class ClassCounts:
    """The classes of picks and of decoys that were classified together.

    Attributes
    ----------
    picks, decoys
        Their number in each class, shape (k,).
    compared
        The classes in which picks are compared with decoys, shape (k,).
    """

    picks: FloatArray
    decoys: FloatArray
    compared: NDArray[np.bool_]

    @classmethod
    def count(cls, picks: IndexArray, decoys: IndexArray, classes: int) -> ClassCounts:
        """Count classes, which are numbered from 1.

        Parameters
        ----------
        picks, decoys
            The class of each.
        classes
            Their number.
        """
        own, other = (
            np.bincount(each, minlength=classes + 1)[1:].astype(np.float64)
            for each in (picks, decoys)
        )
        return cls(own, other, _choose_compared(own, other))

    @property
    def decoy_share(self) -> float:
        """The share of the decoys in the classes that are compared."""
        return float(self.decoys[self.compared].sum() / self.decoys.sum())

    @property
    def is_collapsed(self) -> bool:
        """Whether nearly all images are in one class, so that the classes show nothing."""
        images = self.picks + self.decoys
        return bool(images.max() > COLLAPSED * images.sum())

    def junk_of_each(self) -> FloatArray:
        """Return the share of each class's picks that is junk, nan in empty classes."""
        return spread_junk(self.picks, self.decoys, self.estimate(self.picks).value)

    def estimate(self, of: FloatArray) -> Share:
        """Return the share of junk among some of the picks.

        Parameters
        ----------
        of
            Their number in each class, shape (k,).
        """
        return estimate_share(
            float(of[self.compared].sum()),
            float(of.sum()),
            float(self.decoys[self.compared].sum()),
            float(self.decoys.sum()),
        )


def spread_junk(picks: FloatArray, decoys: FloatArray, share: float) -> FloatArray:
    """Return the share of each class's picks that is junk, if junk is spread as decoys are.

    Parameters
    ----------
    picks, decoys
        Their number in each class, shape (k,); at least one decoy.
    share
        The share of junk among all picks.

    Returns
    -------
    ndarray
        Shape (k,), nan in empty classes.
    """
    expected = share * picks.sum() * decoys / decoys.sum()
    found = np.full(len(picks), np.nan)
    np.divide(expected, picks, out=found, where=picks > 0)
    found[(picks == 0) & (decoys > 0)] = 1.0
    return np.asarray(np.minimum(found, 1.0))


def _choose_compared(picks: FloatArray, decoys: FloatArray) -> NDArray[np.bool_]:
    """Return the classes with the fewest picks per decoy that hold enough decoys, shape (k,)."""
    # A class with a single decoy says little; one more pick keeps it from being the first.
    order = np.argsort((picks + 1.0) / np.maximum(decoys, 1e-9), kind="stable")
    before = np.cumsum(decoys[order]) - decoys[order]
    compared = np.zeros(len(picks), dtype=bool)
    compared[order[before < DECOYS_COMPARED * decoys.sum()]] = True
    return compared & (decoys > 0)


def estimate_share(picks: float, all_picks: float, decoys: float, all_decoys: float) -> Share:
    """Return the share of junk from the numbers in the classes that are compared, and in all."""
    if not all_picks or not decoys:
        return Share(float("nan"), float("nan"))
    own, other = picks / all_picks, decoys / all_decoys
    ratio = own / other
    # The errors of two shares of independent counts; no count is taken to be exactly 0 or all.
    spread = [
        max(share * (1 - share), 0.5 / total) / total
        for share, total in ((own, all_picks), (other, all_decoys))
    ]
    error = float(np.sqrt(spread[0] + ratio**2 * spread[1])) / other
    return Share(min(ratio, 1.0), error)


def pool_shares(portions: Sequence[ClassCounts], picks: Sequence[FloatArray]) -> Share:
    """Return the share of junk among picks that were classified in several portions.

    Parameters
    ----------
    portions
        The classes of each portion.
    picks
        Of each portion, the number of picks in question in each class.
    """
    shares = [portion.estimate(of) for portion, of in zip(portions, picks, strict=True)]
    weights = np.array([of.sum() for of in picks], dtype=np.float64)
    used = weights > 0
    if not used.any():
        return Share(float("nan"), float("nan"))
    weights = weights[used] / weights.sum()
    values = np.array([share.value for share in shares])[used]
    errors = np.array([share.error for share in shares])[used]
    return Share(float(weights @ values), float(np.sqrt((weights**2) @ errors**2)))
