"""The requests to the engine, made from the state of a project."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from heliodor.app.protocol import OpenRequest, ProjectMicrograph, TrainRequest
from heliodor.app.server.annotations import Annotations
from heliodor.app.server.project import Project
from heliodor.conventions import FloatArray


def build_open_request(project: Project, threads: int, device: str = "auto") -> OpenRequest:
    """Return the request that opens a project with the model in use.

    Raises
    ------
    ValueError
        If the project has no diameter.
    """
    settings = project.settings
    if settings.diameter_angstrom is None:
        raise ValueError("the project has no diameter")
    model = project.model_file(settings.model).absolute() if settings.model else None
    micrographs = tuple(
        ProjectMicrograph(
            name=source.name,
            path=source.path.absolute(),
            pixel_size_angstrom=source.pixel_size_angstrom,
        )
        for source in project.sources
    )
    return OpenRequest(
        project=project.folder.absolute(),
        micrographs=micrographs,
        pixel_size_angstrom=settings.pixel_size_angstrom,
        diameter_angstrom=settings.diameter_angstrom,
        model=model,
        number=settings.model,
        threads=threads,
        device=device,
        exclusion_radius_angstrom=settings.exclusion_radius_angstrom,
        edge_margin_angstrom=settings.edge_margin_angstrom,
    )


def build_train_request(
    project: Project,
    annotations: Annotations,
    number: int,
    painted_over: Mapping[int, FloatArray],
) -> TrainRequest:
    """Return the request that trains the model of a number on all annotations.

    Those on excluded micrographs are left out.

    Parameters
    ----------
    painted_over
        Candidates in contamination that the user painted, by the micrograph's number; they are
        negatives.
    """
    negatives = _collect_positions(project, annotations, "negative")
    for place, xy in painted_over.items():
        negatives[place] = np.concatenate([negatives.get(place, np.zeros((0, 2))), xy])
    return TrainRequest(
        number=number,
        labels=_collect_positions(project, annotations, "particle"),
        negatives=negatives,
        out=project.model_file(number).absolute(),
    )


def _collect_positions(
    project: Project, annotations: Annotations, kind: str
) -> dict[int, FloatArray]:
    """Return the positions of all annotations of a kind, by the micrograph's number."""
    positions = {
        number: annotations.positions(project.sources[number].name, kind)
        for number in project.included
    }
    return {number: xy for number, xy in positions.items() if len(xy)}
