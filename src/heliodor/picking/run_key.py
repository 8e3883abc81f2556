"""What the candidates of a micrograph depend on, by which kept results are known to be valid."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from heliodor import __version__
from heliodor.data.micrographs.working_images import WorkingImages
from heliodor.models.model_file import Model, fingerprint_model
from heliodor.picking.score_maps import FLOOR
from heliodor.picking.settings import PickSettings, settings_that_change_picks
from heliodor.picking.user_masks import NO_MASKS, UserMasks
from heliodor.utils.hashing import digest


def journal_key(
    model: Model, settings: PickSettings, images: WorkingImages, masks: UserMasks = NO_MASKS
) -> dict[str, Any]:
    """Return all that determines the candidates of a given micrograph, ready for JSON."""
    return {
        "heliodor": __version__,
        "model": fingerprint_model(model),
        **settings_that_change_picks(settings),
        "floor": min(FLOOR, settings.threshold_for(model)),
        "pixel_size_angstrom": images.pixel_size_angstrom,
        **({"masks": masks.fingerprints()} if masks.files else {}),
    }


def digest_run_key(key: Mapping[str, Any]) -> str:
    """Return a hash of a run key."""
    return digest([json.dumps(key, sort_keys=True).encode()])
