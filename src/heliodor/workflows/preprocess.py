"""The command `preprocess`: micrographs in, cropped and normalised MRC files out."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import numpy as np

from heliodor.conventions import Image
from heliodor.data.micrographs.micrograph import write_mrc
from heliodor.data.micrographs.modes import NormalizationMode
from heliodor.data.micrographs.normalization import MAX_FITTED_IMAGES, Normalizer
from heliodor.data.micrographs.sources import (
    MicrographInputs,
    Source,
    find_sources,
)
from heliodor.data.micrographs.working_images import (
    Failure,
    WorkingImage,
    WorkingImages,
)
from heliodor.errors import BadInput
from heliodor.utils import console
from heliodor.utils.files import create_output_folder
from heliodor.utils.locking import lock_folder
from heliodor.utils.prefetch import prefetch
from heliodor.utils.threads import resolve_threads
from heliodor.workflows.run_record import RunRecord

log = logging.getLogger(__name__)


def preprocess(
    micrographs: MicrographInputs,
    out: str | Path,
    working_pixel_size_angstrom: float,
    normalization: NormalizationMode = "micrograph",
    pixel_size_angstrom: float | None = None,
    threads: int | None = None,
    command_line: str = "",
) -> list[Failure]:
    """Fourier-crop and normalise micrographs as training and picking do.

    Writes one float32 MRC a micrograph, with the pixel size, cell and statistics of what it
    holds, and ``run.json``. In `joint` mode at most 256 images, spread over the set, are read
    once more before, to fit.

    Returns
    -------
    list of Failure
        Micrographs that could not be used.

    Raises
    ------
    BadInput
        If not a single one can be used, or a result cannot be written.
    """
    if not 0 < working_pixel_size_angstrom < 1000:
        raise BadInput(
            f"a working pixel size of {working_pixel_size_angstrom:g} A is not possible"
        )
    at_a_time = resolve_threads(threads)
    arguments = {
        "micrographs": micrographs,
        "working_pixel_size_angstrom": working_pixel_size_angstrom,
        "normalization": normalization,
        "pixel_size_angstrom": pixel_size_angstrom,
    }
    record = RunRecord("preprocess", arguments, command_line)
    sources = find_sources(micrographs)
    record.add_inputs("preprocessing", sources)
    folder = create_output_folder(out)
    _refuse_to_replace(sources, folder)
    images = WorkingImages(working_pixel_size_angstrom, pixel_size_angstrom, threads=at_a_time)
    if normalization != "joint":
        images.keep_bytes = 0  # no image is wanted twice
    with record.stage("fitting"):
        normalizer = _fit(sources, images, normalization)
    record.results["normalization"] = normalizer.as_dict()

    def ready(source: Source) -> tuple[WorkingImage, Image]:
        image = images.get(source)
        return image, normalizer.apply(image.image)

    written = 0
    with (
        lock_folder(folder),
        record.stage("writing"),
        console.progress("preprocessing") as progress,
        prefetch(ready, sources, at_a_time) as prepared,
    ):
        for number, (source, future) in enumerate(prepared, 1):
            try:
                image, normal = future.result()
            except BadInput as error:
                record.failures.append(Failure(source.name, str(error)))
                log.warning(f"{source.name} was left out: {error}")
            else:
                write_mrc(_result(source, folder), normal, image.working_pixel_size_angstrom)
                written += 1
            progress(number, len(sources))
    if not written:
        raise BadInput(f"no micrograph could be preprocessed: {record.failures[0].reason}")
    record.write(folder)
    log.info(f"wrote {written} micrographs to {folder}")
    return record.failures


def _result(source: Source, folder: Path) -> Path:
    return folder / f"{source.output_stem}.mrc"


def _refuse_to_replace(sources: list[Source], folder: Path) -> None:
    """Refuse an output folder in which a result would overwrite one of the micrographs."""
    given = {os.path.realpath(source.path) for source in sources}
    for source in sources:
        path = _result(source, folder)
        if os.path.realpath(path) in given:
            raise BadInput(
                f"the result {path} would replace a micrograph that was given; give another"
                " folder with -o"
            )


def _fit(sources: list[Source], images: WorkingImages, mode: NormalizationMode) -> Normalizer:
    if mode != "joint":
        return Normalizer.fit([], mode)
    good: list[Image] = []
    reasons: list[str] = []
    # More than these would fill the memory and add nothing.
    chosen = np.unique(np.linspace(0, len(sources) - 1, MAX_FITTED_IMAGES).astype(int))
    with prefetch(images.get, [sources[i] for i in chosen], images.threads) as prepared:
        for _source, image in prepared:
            try:
                good.append(image.result().image)
            except BadInput as error:
                reasons.append(str(error))  # said when the micrograph's turn to be written comes
    if not good:
        raise BadInput(f"no micrograph could be preprocessed: {reasons[0]}")
    return Normalizer.fit(good, mode)
