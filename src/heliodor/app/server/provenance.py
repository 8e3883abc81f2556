"""What made a file of results: the model, the threshold, and the corrections of the user."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from heliodor import __version__
from heliodor.app.server.annotations import KINDS, Annotations
from heliodor.app.server.predictions import Predictions
from heliodor.app.server.project import Project
from heliodor.app.server.user_masks import UserMaskStore


def describe_making(
    project: Project, annotations: Annotations, predictions: Predictions, masks: UserMaskStore
) -> dict[str, Any]:
    """Return what results that are written now are made with, ready for JSON."""
    settings = project.settings
    names = {source.name for source in project.sources}
    return {
        "heliodor": __version__,
        "date": datetime.now().astimezone().isoformat(timespec="seconds"),
        "model": settings.model,
        "model_file": str(project.model_file(settings.model)) if settings.model else None,
        "diameter_angstrom": settings.diameter_angstrom,
        "pixel_size_angstrom": settings.pixel_size_angstrom,
        "threshold": predictions.threshold(settings.model, settings.threshold),
        "threshold_is_automatic": settings.threshold is None,
        "threshold_max_fdr": settings.max_fdr if settings.threshold is None else None,
        "threshold_offsets": {
            name: own for name, own in sorted(settings.threshold_offsets.items()) if name in names
        },
        "exclusion_radius_angstrom": settings.exclusion_radius_angstrom,
        "edge_margin_angstrom": settings.edge_margin_angstrom,
        "excluded": sorted(settings.excluded & names),
        "contamination_ignored_on": sorted(settings.ignore_contamination & names),
        "contamination_edited_on": masks.digests(),
        **annotations.summary(),
    }


def list_differences(made: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return how the project has changed since results were made, as parts of a sentence."""
    differences = []
    if made.get("model") != now["model"]:
        differences.append(f"{name_model(now['model'])} is in use now")
    diameter = now["diameter_angstrom"]
    if made.get("diameter_angstrom") != diameter:
        shown = "not set" if diameter is None else f"{diameter:g} Å"
        differences.append(f"the diameter is {shown} now")
    before, threshold = made.get("threshold"), now["threshold"]
    if not isinstance(before, int | float) or abs(before - threshold) > 5e-4:
        differences.append(f"the threshold is {threshold:.2f} now")
    if any(made.get(key) != now[key] for key in (f"{kind}_digest" for kind in KINDS)):
        differences.append("labels have changed")
    if made.get("threshold_offsets", {}) != now["threshold_offsets"]:
        differences.append("thresholds of single micrographs have changed")
    for key, words in (
        ("exclusion_radius_angstrom", "minimum distance"),
        ("edge_margin_angstrom", "edge margin"),
    ):
        if made.get(key) != now[key]:
            differences.append(f"the {words} has changed")
    if made.get("excluded") != now["excluded"]:
        differences.append("other micrographs are excluded")
    if made.get("contamination_ignored_on") != now["contamination_ignored_on"]:
        differences.append("contamination is ignored on other micrographs")
    if made.get("contamination_edited_on", {}) != now["contamination_edited_on"]:
        differences.append("contamination has been edited")
    return differences


def name_model(number: int | None) -> str:
    """Return the name of a model for the user."""
    return f"model {number}" if number else "the general model"
