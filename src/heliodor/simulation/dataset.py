"""Write a dataset of simulated micrographs with its ground truth."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from heliodor.data.filaments.filament import Filament, Filaments
from heliodor.data.filaments.writers import render_filaments
from heliodor.data.micrographs.micrograph import write_mrc
from heliodor.data.star import write_blocks
from heliodor.errors import BadInput
from heliodor.simulation.detector import to_eight_bit
from heliodor.simulation.micrograph import simulate_micrograph
from heliodor.utils.files import atomic_write, create_output_folder, write_text

if TYPE_CHECKING:
    from pathlib import Path

    from heliodor.conventions import FloatArray
    from heliodor.simulation.optics import Optics
    from heliodor.simulation.scene import Mask
    from heliodor.simulation.settings import SimulationSettings

#: Labels that are made on a micrograph before the next one is labeled.
LABELS_AT_ONCE = 20

LABELS_STAR, TRUTH_STAR, MICROGRAPHS_STAR = "labels.star", "truth.star", "micrographs.star"
#: The truth about filaments.
FILAMENTS_STAR = "filaments.star"

Columns = Mapping[str, Sequence[str | float | int]]


@dataclass(frozen=True)
class SimulatedSet:
    """The files of a simulated dataset."""

    folder: Path
    """Folder of the dataset."""
    micrographs_star: Path
    """Micrographs with their optics and defocus."""
    truth_star: Path
    """All particles, or the axes of all filaments."""
    labels_star: Path | None
    """A random subset of the particles or filaments, if labels were requested."""
    micrograph_count: int
    """Number of micrographs."""
    particle_count: int
    """Number of particles, or filaments, in the truth."""
    label_count: int
    """Number of labels."""


@dataclass(frozen=True)
class _MicrographTruth:
    """The truth about one micrograph."""

    name: str
    xy_px: FloatArray
    angles_deg: FloatArray
    optics: Optics
    axes_px: tuple[FloatArray, ...]


def simulate(
    out: Path,
    settings: SimulationSettings,
    progress: Callable[[int, int], None] | None = None,
) -> SimulatedSet:
    """Simulate micrographs and write them with their truth.

    Parameters
    ----------
    out
        Output folder, for ``micrographs/*.mrc``, ``micrographs.star``, ``truth.star`` (of
        filaments ``filaments.star``) and, if requested, ``labels.star`` and ``masks/*.png``. The
        STAR files have the layout of RELION
        3.1 and later; micrograph names are relative to them; coordinates are in pixels, from 0.
    settings
        What to simulate.
    progress
        Called with (number done, total number) after each micrograph.

    Returns
    -------
    SimulatedSet
        The paths and counts.

    Raises
    ------
    BadInput
        If `out` already holds a dataset or cannot be written.
    """
    for name in (LABELS_STAR, TRUTH_STAR, FILAMENTS_STAR, MICROGRAPHS_STAR):
        if (out / name).exists():
            raise BadInput(
                f"{out / name} already exists; choose another folder or remove the old dataset"
            )
    create_output_folder(out / "micrographs")
    if settings.masks:
        create_output_folder(out / "masks")
    truths = []
    for index in range(settings.count):
        truths.append(_write_micrograph(out, settings, index))
        if progress is not None:
            progress(index + 1, settings.count)
    has_filaments = settings.filament is not None
    counts = [len(truth.axes_px if has_filaments else truth.xy_px) for truth in truths]
    chosen = choose_labels(counts, settings.labels, settings.seed)
    if has_filaments:
        _write_filament_files(out, settings, truths, chosen)
    else:
        _write_star_files(out, settings, truths, chosen)
    return SimulatedSet(
        folder=out,
        micrographs_star=out / MICROGRAPHS_STAR,
        truth_star=out / (FILAMENTS_STAR if has_filaments else TRUTH_STAR),
        labels_star=out / LABELS_STAR if settings.labels else None,
        micrograph_count=len(truths),
        particle_count=sum(counts),
        label_count=len(chosen),
    )


def _write_micrograph(out: Path, settings: SimulationSettings, index: int) -> _MicrographTruth:
    """Simulate one micrograph, write its image and mask, and return its truth."""
    micrograph = simulate_micrograph(settings, index)
    path = out / "micrographs" / f"{settings.resolved_particle.name}_{index + 1:04d}.mrc"
    image = to_eight_bit(micrograph.image) if settings.eight_bit else micrograph.image
    write_mrc(path, image, settings.pixel_size_angstrom)
    if settings.masks:
        write_mask(out / "masks" / f"{path.stem}.png", micrograph.blocked)
    return _MicrographTruth(
        f"{path.parent.name}/{path.name}",
        micrograph.xy_px,
        micrograph.angles_deg,
        micrograph.optics,
        micrograph.axes_px,
    )


def _write_star_files(
    out: Path,
    settings: SimulationSettings,
    truths: Sequence[_MicrographTruth],
    chosen: Sequence[tuple[int, int]],
) -> None:
    optics = _optics_columns(settings)
    everything = [
        (image, row) for image, one in enumerate(truths) for row in range(len(one.xy_px))
    ]
    if settings.labels:
        columns = _particle_columns(truths, chosen)
        shown = ("rlnMicrographName", "rlnCoordinateX", "rlnCoordinateY", "rlnOpticsGroup")
        labels = {name: columns[name] for name in shown}
        _write_star(out / LABELS_STAR, optics, "particles", labels)
    _write_star(out / TRUTH_STAR, optics, "particles", _particle_columns(truths, everything))
    _write_star(out / MICROGRAPHS_STAR, optics, "micrographs", _micrograph_columns(truths))


def _write_filament_files(
    out: Path,
    settings: SimulationSettings,
    truths: Sequence[_MicrographTruth],
    chosen: Sequence[tuple[int, int]],
) -> None:
    assert settings.resolved_filament is not None
    optics, width = _optics_columns(settings), settings.resolved_filament.width_angstrom
    everything = [
        (image, row) for image, one in enumerate(truths) for row in range(len(one.axes_px))
    ]
    files = {FILAMENTS_STAR: everything} | ({LABELS_STAR: chosen} if settings.labels else {})
    for name, rows in files.items():
        own = tuple(
            Filament(truths[image].name, truths[image].axes_px[row], row + 1, width)
            for image, row in rows
        )
        table = Filaments(tuple(truth.name for truth in truths), own)
        write_text(out / name, render_filaments(table, optics))
    _write_star(out / MICROGRAPHS_STAR, optics, "micrographs", _micrograph_columns(truths))


def write_mask(path: Path, blocked: Mask) -> None:
    """Write a mask as an 8-bit PNG, row 0 at the top: 255 where no particle can be, else 0."""
    with atomic_write(path) as aside:
        Image.fromarray(np.where(blocked, np.uint8(255), np.uint8(0))).save(aside, optimize=True)


def choose_labels(counts: Sequence[int], label_count: int, seed: int) -> list[tuple[int, int]]:
    """Choose particles as a person would who labels some on each of a few micrographs.

    The micrographs come in random order; 20 random particles of each are labeled before the
    next one, until there are enough labels. After the last micrograph the first one follows again.

    Parameters
    ----------
    counts
        Number of particles on each micrograph.
    label_count
        Number of labels; fewer are returned if there are fewer particles.
    seed
        Seed of the dataset.

    Returns
    -------
    list of tuple of int
        (micrograph index, particle index), in increasing order.
    """
    # The micrographs use the keys (0,), (1,), ...: a longer key differs from all of them.
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(0, 0, 1)))
    images = rng.permutation(len(counts)).tolist()
    orders = {image: rng.permutation(counts[image]).tolist() for image in images}
    chosen = [
        (image, row)
        for start in range(0, max(counts, default=0), LABELS_AT_ONCE)
        for image in images
        for row in orders[image][start : start + LABELS_AT_ONCE]
    ]
    return sorted(chosen[:label_count])


def _optics_columns(settings: SimulationSettings) -> Columns:
    return {
        "rlnOpticsGroupName": ["opticsGroup1"],
        "rlnOpticsGroup": [1],
        "rlnMicrographPixelSize": [settings.pixel_size_angstrom],
        "rlnVoltage": [settings.voltage_kv],
        "rlnSphericalAberration": [settings.spherical_aberration_mm],
        "rlnAmplitudeContrast": [settings.total_amplitude_contrast],
    }


def _defocus_columns(optics: Sequence[Optics]) -> dict[str, list[float]]:
    return {
        "rlnDefocusU": [one.defocus_u_angstrom for one in optics],
        "rlnDefocusV": [one.defocus_v_angstrom for one in optics],
        "rlnDefocusAngle": [one.defocus_angle_deg for one in optics],
    }


def _micrograph_columns(truths: Sequence[_MicrographTruth]) -> Columns:
    return {
        "rlnMicrographName": [one.name for one in truths],
        "rlnOpticsGroup": [1] * len(truths),
        **_defocus_columns([one.optics for one in truths]),
    }


def _particle_columns(
    truths: Sequence[_MicrographTruth], chosen: Sequence[tuple[int, int]]
) -> Columns:
    values = [(*truths[image].xy_px[row], *truths[image].angles_deg[row]) for image, row in chosen]
    table = np.array(values, dtype=np.float64).reshape(-1, 5).T.tolist()
    return {
        "rlnMicrographName": [truths[image].name for image, _ in chosen],
        "rlnCoordinateX": table[0],
        "rlnCoordinateY": table[1],
        "rlnAngleRot": table[2],
        "rlnAngleTilt": table[3],
        "rlnAnglePsi": table[4],
        **_defocus_columns([truths[image].optics for image, _ in chosen]),
        "rlnOpticsGroup": [1] * len(chosen),
    }


def _write_star(path: Path, optics: Columns, name: str, columns: Columns) -> None:
    write_blocks(path, {"optics": optics, name: columns})
