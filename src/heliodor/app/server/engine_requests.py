"""What the engine is told to do with a project: see `heliodor.app.protocol`."""

from __future__ import annotations

from typing import Any

from heliodor.app.server.annotations import Annotations
from heliodor.app.server.project import Project

#: Places (x, y) by the micrograph's number, as JSON has them.
Positions = dict[str, list[list[float]]]


def build_open_request(project: Project, threads: int) -> dict[str, Any]:
    """Return what opens a project with the model in use."""
    settings = project.settings
    model = project.model_file(settings.model).absolute() if settings.model else None
    return {
        "do": "open",
        "project": str(project.folder.absolute()),
        "micrographs": [
            {
                "path": str(source.path.absolute()),
                "name": source.name,
                "pixel_size": source.pixel_size_angstrom,
            }
            for source in project.sources
        ],
        "pixel_size": settings.pixel_size_angstrom,
        "diameter": settings.diameter_angstrom,
        "model": None if model is None else str(model),
        "number": settings.model,
        "threads": threads,
    }


def collect_positions(project: Project, annotations: Annotations, kind: str) -> Positions:
    """Return all annotations of a kind, by the numbers of their micrographs."""
    every = {
        str(number): annotations.positions(source.name, kind)
        for number, source in enumerate(project.sources)
    }
    return {number: xy.tolist() for number, xy in every.items() if len(xy)}


def build_train_request(
    project: Project, number: int, labels: Positions, negatives: Positions
) -> dict[str, Any]:
    """Return what makes the model of a number from annotations."""
    return {
        "do": "train",
        "number": number,
        "labels": labels,
        "negatives": negatives,
        "out": str(project.model_file(number).absolute()),
        "seed": 0,
    }
