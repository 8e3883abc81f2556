"""The command `preprocess`: write Fourier-cropped, normalized micrographs."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from heliodor.conventions import Image
from heliodor.data.micrographs.micrograph import write_mrc
from heliodor.data.micrographs.modes import NormalizationMode
from heliodor.data.micrographs.normalization import MAX_FITTED_IMAGES, Normalizer
from heliodor.data.micrographs.output_names import find_unwritable
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
from heliodor.utils.console import count_of
from heliodor.utils.files import create_output_folder, refuse_to_replace
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
    """Fourier-crop and normalize micrographs as training and picking do.

    Writes one float32 MRC file per micrograph, with its pixel size, cell and statistics, and
    ``run.json``. In `joint` mode at most 256 images, evenly chosen, are read once more before,
    to fit.

    Returns
    -------
    list of Failure
        Micrographs that could not be used.

    Raises
    ------
    BadInput
        If no micrograph can be used, or a result cannot be written.
    """
    if not 0 < working_pixel_size_angstrom < 1000:
        raise BadInput(
            f"the working pixel size must be between 0 and 1000 Å, not"
            f" {working_pixel_size_angstrom:g}"
        )
    workers = resolve_threads(threads)
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
    outputs = {source: folder / f"{source.output_stem}.mrc" for source in sources}
    refuse_to_replace(outputs.values(), (source.path for source in sources))
    images = WorkingImages(working_pixel_size_angstrom, pixel_size_angstrom, threads=workers)
    if normalization != "joint":
        images.keep_bytes = 0  # every image is used only once
    with record.stage("fitting"):
        normalizer = _fit(sources, images, normalization)
    record.results["normalization"] = normalizer.as_dict()
    unwritable = find_unwritable(folder, {own.name: path for own, path in outputs.items()})
    record.skip([Failure(name, why) for name, why in unwritable.items()])
    outputs = {own: path for own, path in outputs.items() if own.name not in unwritable}
    with lock_folder(folder):
        written = _write(outputs, images, normalizer, record)
        if not written:
            raise BadInput(f"no micrograph could be preprocessed: {record.failures[0].reason}")
    record.write(folder)
    log.info(f"wrote {count_of(written, 'micrograph')} to {folder}")
    return record.failures


def _write(
    outputs: Mapping[Source, Path],
    images: WorkingImages,
    normalizer: Normalizer,
    record: RunRecord,
) -> int:
    """Write the normalized micrographs, and return how many could be."""

    def normalize(source: Source) -> tuple[WorkingImage, Image]:
        image = images.get(source)
        return image, normalizer.apply(image.image)

    written = 0
    with (
        record.stage("writing"),
        console.progress("preprocessing") as progress,
        prefetch(normalize, outputs, images.threads) as prepared,
    ):
        for count, (source, future) in enumerate(prepared, 1):
            try:
                image, normalized = future.result()
            except BadInput as error:
                record.skip([Failure(source.name, str(error))])
            else:
                write_mrc(outputs[source], normalized, image.working_pixel_size_angstrom)
                written += 1
            progress(count, len(outputs))
    return written


def _fit(sources: list[Source], images: WorkingImages, mode: NormalizationMode) -> Normalizer:
    if mode != "joint":
        return Normalizer.fit([], mode)
    good: list[Image] = []
    reasons: list[str] = []
    # More images would take memory without improving the fit.
    chosen = np.unique(np.linspace(0, len(sources) - 1, MAX_FITTED_IMAGES).astype(int))
    with prefetch(images.get, [sources[i] for i in chosen], images.threads) as prepared:
        for _source, image in prepared:
            try:
                good.append(image.result().image)
            except BadInput as error:
                reasons.append(str(error))  # reported when the micrograph would be written
    if not good:
        raise BadInput(f"no micrograph could be preprocessed: {reasons[0]}")
    return Normalizer.fit(good, mode)
