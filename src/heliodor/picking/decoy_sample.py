"""On which micrographs decoys are looked for."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable

from heliodor.data.micrographs.sources import Source

#: Micrographs on which decoys are looked for: this number, or this share if that is more.
DECOY_MICROGRAPHS, DECOY_SHARE = 16, 0.02


def choose_decoy_micrographs(names: Iterable[str]) -> frozenset[str]:
    """Choose the micrographs on which decoys are looked for, independent of their order.

    By a fingerprint of their names, so that a set that is picked in parts, or again with some
    more, is sampled in nearly the same way.
    """
    ranked = sorted(names, key=_fingerprint)
    return frozenset(ranked[: max(DECOY_MICROGRAPHS, math.ceil(DECOY_SHARE * len(ranked)))])


def rank_by_fingerprint(sources: Iterable[Source]) -> list[Source]:
    """Return micrographs in an order that does not depend on how they were given."""
    return sorted(sources, key=lambda source: _fingerprint(source.name))


def _fingerprint(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()
