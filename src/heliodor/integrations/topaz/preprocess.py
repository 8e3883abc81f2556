"""The commands `preprocess`, `normalize` and `downsample`."""

from __future__ import annotations

import argparse
import glob
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heliodor.conventions import Image
from heliodor.data.micrographs.micrograph import open_micrograph, write_mrc
from heliodor.data.micrographs.normalization import Normalizer
from heliodor.data.micrographs.pixel_mixture import PixelHistograms, fit_pixel_mixture
from heliodor.data.micrographs.sources import (
    Source,
    find_sources,
)
from heliodor.errors import SOME_FAILED, BadInput
from heliodor.utils.files import (
    atomic_write,
    create_output_folder,
    refuse_to_replace,
    write_json,
)
from heliodor.utils.prefetch import prefetch
from heliodor.utils.threads import usable_cpus

log = logging.getLogger(__name__)

FORMATS = ("mrc", "tiff", "tif", "png", "jpg", "jpeg")
#: 8-bit images show values up to this many standard deviations from the mean.
_SHOWN_SD = 3.0


def preprocess(args: argparse.Namespace) -> int:
    """Downsample and normalize micrographs, and write them in the chosen formats.

    Micrographs that cannot be used are reported and skipped.
    """
    formats = [parse_format(name.strip()) for name in args.format.split(",") if name.strip()]
    if not formats:
        raise BadInput("--format is empty; give mrc, tiff, png or several of them")
    if args.destdir is None:
        raise BadInput("the output folder is missing; give it with -o")
    there = [name for name in args.files if os.path.exists(name) or glob.has_magic(name)]
    failures = [
        f"{name} does not exist" for name in dict.fromkeys(args.files) if name not in there
    ]
    sources = find_sources(there) if there else []
    folder = create_output_folder(args.destdir)
    results = (_result_path(source, folder, name) for source in sources for name in formats)
    refuse_to_replace(results, (source.path for source in sources))
    at_a_time = usable_cpus() if args.num_workers < 0 else min(args.num_workers, usable_cpus())
    at_a_time = max(1, min(at_a_time, len(sources)))
    threads = max(1, (args.num_threads if args.num_threads > 0 else usable_cpus()) // at_a_time)

    def one(source: Source) -> str | None:
        try:
            _preprocess(source, folder, formats, threads, args)
        except BadInput as error:
            return str(error)
        return None

    written = 0
    with prefetch(one, sources, at_a_time) as done:
        for source, outcome in done:
            reason = outcome.result()
            if reason is not None:
                failures.append(reason)
                continue
            written += 1
            if args.verbose:
                log.info(f"# wrote {source.output_stem}")
    return _report_failures(failures, written)


def _preprocess(
    source: Source, folder: Path, formats: Sequence[str], threads: int, args: argparse.Namespace
) -> None:
    image, pixel_size = _downsample_file(source.path, args.scale, threads)
    normal = Normalizer("standard" if args.affine else "micrograph").apply(image)
    for name in formats:
        write_image(_result_path(source, folder, name), normal, pixel_size, name)
    if args.metadata:
        write_json(
            folder / f"{source.output_stem}.metadata.json",
            _normalization_metadata(image, args.affine),
        )


def _result_path(source: Source, folder: Path, name: str) -> Path:
    return folder / f"{source.output_stem}.{name}"


def _downsample_file(path: Path, scale: int, threads: int) -> tuple[Image, float]:
    """Return a micrograph downsampled by `scale`, and its pixel size (0 if not known)."""
    if scale < 1:
        raise BadInput(f"--scale must be 1 or more, not {scale}")
    with open_micrograph(path) as micrograph:
        height, width = micrograph.shape
        shape = height // scale, width // scale
        if min(shape) < 1:
            raise BadInput(f"{path} is too small for --scale {scale}; give a smaller --scale")
        known = micrograph.header_pixel_size_angstrom or 0.0
        return micrograph.read_cropped(shape, threads), known * width / shape[1]


def _normalization_metadata(image: Image, affine: bool) -> dict[str, Any]:
    """Return the parameters of the normalization: mean, deviation and mixture components."""
    if affine:
        mean, sd = image.mean(dtype=np.float64), image.std(dtype=np.float64)
        return {"mu": float(mean), "std": float(sd), "pi": 1.0}
    fit = fit_pixel_mixture(PixelHistograms.from_images([image]))
    mixture, alpha = fit.mixture, float(fit.alpha[0])
    mu, sigma = alpha * mixture.mu, alpha * mixture.sigma
    return {
        "mu": float(mu[mixture.dominant]),
        "std": float(sigma[mixture.dominant]),
        "pi": float(mixture.weight[mixture.dominant]),
        "logp": float(fit.log_likelihood[-1]),
        "mus": mu.tolist(),
        "stds": sigma.tolist(),
        "pis": mixture.weight.tolist(),
    }


def _report_failures(failures: Sequence[str], written: int) -> int:
    """Report the failures, and return the exit code."""
    if not failures:
        return 0
    if not written:
        raise BadInput(f"no micrograph could be used: {failures[0]}")
    for reason in failures:
        log.info(f"# failed: {reason}")
    log.info(f"# {len(failures)} failed, {written} written")
    return SOME_FAILED


def downsample(args: argparse.Namespace) -> int:
    """Downsample one micrograph by Fourier cropping."""
    if args.output is None:
        raise BadInput("the output file is missing; give it with -o")
    output = Path(args.output)
    name = parse_format(output.suffix[1:])
    refuse_to_replace([output], [Path(args.file)])
    image, pixel_size = _downsample_file(Path(args.file), args.scale, usable_cpus())
    if args.verbose:
        log.info(f"# {args.file}: {image.shape[1]} x {image.shape[0]} pixels")
    write_image(output, image, pixel_size, name)
    return 0


def parse_format(name: str) -> str:
    """Return the name of an image format in lower case.

    Raises
    ------
    BadInput
        If the format is not supported.
    """
    if name.lower() not in FORMATS:
        raise BadInput(f"the image format must be one of {', '.join(FORMATS)}, not {name!r}")
    return name.lower()


def write_image(path: Path, image: Image, pixel_size_angstrom: float, name: str) -> None:
    """Write an image atomically.

    Parameters
    ----------
    path
        The file.
    image
        Shape (h, w). MRC and TIFF store float32; PNG and JPEG have 256 gray values from three
        standard deviations below the mean to three above it.
    pixel_size_angstrom
        For the MRC header; 0 if not known.
    name
        One of `FORMATS`.
    """
    if name == "mrc":
        write_mrc(path, image, pixel_size_angstrom)
    elif name in ("tiff", "tif"):
        import tifffile

        with atomic_write(path) as aside:
            tifffile.imwrite(aside, image.astype(np.float32))
    else:
        from PIL import Image as Pillow

        with atomic_write(path) as aside:
            Pillow.fromarray(_to_gray(image)).save(aside)


def _to_gray(image: Image) -> NDArray[np.uint8]:
    mean, sd = image.mean(dtype=np.float64), image.std(dtype=np.float64)
    relative = (image - mean) / (_SHOWN_SD * sd if sd else 1.0)
    return np.asarray(np.rint(np.clip(127.5 * (1 + relative), 0, 255)), dtype=np.uint8)
