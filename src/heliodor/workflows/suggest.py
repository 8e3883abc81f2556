"""The command `suggest`: measure the particle diameter from labels."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from heliodor.conventions import to_working
from heliodor.data.coordinates.label_assignment import (
    LabeledSource,
    check_frame,
    check_sampling,
    describe_chance,
    drop_outside,
    read_labels,
)
from heliodor.data.coordinates.particle_average import LabeledView
from heliodor.data.coordinates.particle_diameter import (
    ENOUGH_LABELS,
    FINEST_ANGSTROM,
    MOST_MICROGRAPHS,
    NETWORK,
    Geometry,
    measure_geometry,
)
from heliodor.data.micrographs.fourier_crop import fourier_crop
from heliodor.data.micrographs.sources import MicrographInputs, find_sources
from heliodor.data.micrographs.working_images import (
    MAX_COARSENING,
    PIXEL_SIZE_RANGE,
    Failure,
    WorkingImage,
    WorkingImages,
    prepare_working_images,
    too_coarse_failure,
)
from heliodor.errors import BadInput
from heliodor.utils import console
from heliodor.utils.files import (
    atomic_write,
    create_output_folder,
    write_json,
)
from heliodor.utils.locking import lock_folder
from heliodor.utils.threads import resolve_threads
from heliodor.workflows.run_record import RunRecord

log = logging.getLogger(__name__)


def suggest(
    micrographs: MicrographInputs,
    labels: str | Path,
    out: str | Path | None = None,
    pixel_size_angstrom: float | None = None,
    trust_labels: bool = False,
    seed: int = 0,
    threads: int | None = None,
    command_line: str = "",
) -> tuple[Geometry, list[Failure]]:
    """Measure the particle diameter from labels, and the lengths that follow from it.

    Parameters
    ----------
    micrographs, labels
        As for training.
    out
        Folder for ``geometry.json`` and ``average.png``; None writes nothing.
    pixel_size_angstrom
        Of all micrographs; None takes those in the STAR file or the headers.
    trust_labels
        Whether to accept labels that, by the images, are flipped, swapped or scaled.
    seed
        Of the choice of labels, if there are many, and of the uncertainty.

    Returns
    -------
    Geometry, list of Failure
        The lengths, and the micrographs that could not be used.

    Raises
    ------
    BadInput
        If a file cannot be read, the labels do not match the images, there are fewer than five
        labels, or no particle is visible at them.
    """
    if seed < 0:
        raise BadInput(f"the seed must be 0 or more, not {seed}")
    arguments = {
        "micrographs": micrographs,
        "labels": labels,
        "pixel_size_angstrom": pixel_size_angstrom,
        "trust_labels": trust_labels,
        "seed": seed,
    }
    record = RunRecord("suggest", arguments, command_line)
    items = _read_labeled(micrographs, labels, record, pixel_size_angstrom)
    record.add_inputs("measuring", [item.source for item in items])
    images = WorkingImages(
        FINEST_ANGSTROM,
        pixel_size_angstrom,
        coarsest_angstrom=PIXEL_SIZE_RANGE[1],
        keep_bytes=0,
        threads=resolve_threads(threads),
    )
    folder = None if out is None else create_output_folder(out)
    with lock_folder(folder):
        views, original_angstrom, failures = _load_views(items, images, trust_labels, record)
        with record.stage("measuring"):
            try:
                geometry = measure_geometry(views, original_angstrom, seed)
            except BadInput as error:
                raise BadInput(f"{labels}: {error}") from error
        record.notes += geometry.notes
        record.skip(failures)
        for note in record.notes:
            log.warning(note)
        if folder is not None:
            _write(folder, geometry, record)
    return geometry, record.failures


def _read_labeled(
    micrographs: MicrographInputs,
    labels: str | Path,
    record: RunRecord,
    pixel_size_angstrom: float | None,
) -> list[LabeledSource]:
    """Return the micrographs with the most labels, most first."""
    sources = find_sources(micrographs)
    labeled, record.notes = read_labels(labels, sources, None, pixel_size_angstrom)
    items = sorted((i for i in labeled if len(i.xy_px)), key=lambda i: -len(i.xy_px))
    if len(items) > MOST_MICROGRAPHS:
        record.notes.append(
            f"only the {MOST_MICROGRAPHS} micrographs with the most labels are used, of"
            f" {len(items)}"
        )
    return items[:MOST_MICROGRAPHS]


def _load_views(
    items: Sequence[LabeledSource],
    images: WorkingImages,
    trust_labels: bool,
    record: RunRecord,
) -> tuple[list[LabeledView], float, list[Failure]]:
    """Read the micrographs at one pixel size, and check the labels against them.

    Returns
    -------
    list of LabeledView, float, list of Failure
        The images with labels, the median pixel size of their files in angstrom, and the
        micrographs that could not be used.
    """
    with record.stage("reading"), console.progress("reading micrographs") as progress:
        prepared, failures = prepare_working_images(
            [item.source for item in items], images, progress
        )
    prepared, too_coarse = _bring_to_one_scale(prepared)
    working = {image.source: image for image in prepared}
    overruled = trust_labels or images.pixel_size_angstrom is not None
    record.notes += check_sampling(items, working, overruled)
    items = [item for item in items if item.source in working]
    if not trust_labels:
        chance = describe_chance(check_frame(items, working))
        record.notes += [chance] if chance is not None else []
    items = drop_outside(items, working, record.notes)
    original_angstrom = float(np.median([image.pixel_size_angstrom for image in prepared]))
    views = [_view(item, working[item.source]) for item in items]
    return views, original_angstrom, [*failures, *too_coarse]


def _write(folder: Path, geometry: Geometry, record: RunRecord) -> None:
    """Write the figure and the record with the lengths."""
    from heliodor.report.plots import draw_particle_average

    record.results["geometry"] = geometry.as_dict()
    with atomic_write(folder / "average.png") as temporary:
        temporary.write_bytes(draw_particle_average(geometry))
    write_json(folder / "geometry.json", record.as_dict())
    log.info(f"wrote {folder / 'average.png'} and {folder / 'geometry.json'}")


def _bring_to_one_scale(
    prepared: Sequence[WorkingImage],
) -> tuple[list[WorkingImage], list[Failure]]:
    """Bring images to their median pixel size; fail those that are coarser."""
    usual = float(np.median([image.working_pixel_size_angstrom for image in prepared]))
    good: list[WorkingImage] = []
    failures: list[Failure] = []
    for image in prepared:
        ratio = image.working_pixel_size_angstrom / usual
        if ratio > MAX_COARSENING:
            failures.append(too_coarse_failure(usual, image))
        elif ratio < 1 / MAX_COARSENING:
            height, width = (max(1, round(side * ratio)) for side in image.shape)
            good.append(replace(image, image=fourier_crop(image.image, (height, width))))
        else:
            good.append(image)
    return good, failures


def _view(item: LabeledSource, image: WorkingImage) -> LabeledView:
    xy = to_working(item.xy_px, image.original_shape, image.shape)
    return LabeledView(image.image, image.working_pixel_size_angstrom, xy)


def render_table(geometry: Geometry, micrographs: Sequence[str], labels: str) -> str:
    """Return the lengths as a table for the terminal, with the next command."""
    g, extent = geometry, geometry.extent
    rough = ", rough" if g.labels < ENOUGH_LABELS else ""
    rows = [
        (
            "longest diameter",
            f"{g.diameter_angstrom:g} Å",
            f"{extent.low_angstrom:.0f} to {extent.high_angstrom:.0f} Å (95% interval{rough})",
        ),
        ("working pixel size", f"{g.working_pixel_size_angstrom:g} Å", f"for {NETWORK}"),
        ("training radius", f"{g.training_radius_angstrom:g} Å", "an eighth of the diameter"),
        ("exclusion radius", f"{g.exclusion_radius_angstrom:g} Å", _describe_exclusion(g)),
    ]
    lines = [f"{g.labels} labels on {g.micrographs} micrographs, {extent.labels} of them measured"]
    lines += [f"{name:20} {value:>8}   {more}" for name, value, more in rows]
    given = shlex.join([*micrographs, "--labels", labels])
    lines.append(
        "next: heliodor run --micrographs"
        f" {given} --diameter {g.diameter_angstrom:g} -o OUT"
        f"{_extra_options(g)} (the other lengths follow from the diameter)"
    )
    return "\n".join(lines)


def _describe_exclusion(geometry: Geometry) -> str:
    distance = geometry.label_distance_angstrom
    if distance is None:
        return "half the diameter; too few labels have neighbors to measure distances"
    smaller = geometry.exclusion_radius_angstrom < round(geometry.extent.diameter_angstrom / 2, 1)
    of_half = "less than half the diameter" if smaller else "half the diameter"
    return f"{of_half}; 95% of the labels are at least {distance:g} Å from the next"


def _extra_options(geometry: Geometry) -> str:
    if geometry.exclusion_radius_angstrom < round(geometry.extent.diameter_angstrom / 2, 1):
        return f" --exclusion-radius {geometry.exclusion_radius_angstrom:g}"
    return ""
