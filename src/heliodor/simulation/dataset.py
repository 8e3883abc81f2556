"""A set of simulated micrographs on disk, with its truth."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from heliodor.data.micrographs.micrograph import write_mrc
from heliodor.data.star import write_blocks
from heliodor.errors import BadInput
from heliodor.simulation.detector import to_eight_bit
from heliodor.simulation.micrograph import simulate_micrograph
from heliodor.utils.files import atomic_write, create_output_folder

if TYPE_CHECKING:
    from pathlib import Path

    from heliodor.conventions import FloatArray
    from heliodor.simulation.optics import Optics
    from heliodor.simulation.scene import Mask
    from heliodor.simulation.settings import SimulationSettings

#: Labels made on a micrograph before the next one is opened.
LABELS_AT_ONCE = 20

Columns = Mapping[str, Sequence[str | float | int]]


@dataclass(frozen=True)
class SimulatedSet:
    """The files of a simulated set."""

    folder: Path
    """Where it is."""
    micrographs_star: Path
    """The micrographs with their optics and defocus."""
    truth_star: Path
    """Every particle."""
    labels_star: Path | None
    """A subset of them, if it was asked for."""
    micrograph_count: int
    """Number of micrographs."""
    particle_count: int
    """Number of particles in the truth."""
    label_count: int
    """Number of labels."""


@dataclass(frozen=True)
class _MicrographTruth:
    """What is kept of a micrograph once its image is written."""

    name: str
    xy_px: FloatArray
    angles_deg: FloatArray
    optics: Optics


def simulate(
    out: Path,
    settings: SimulationSettings,
    progress: Callable[[int, int], None] | None = None,
) -> SimulatedSet:
    """Simulate a set of micrographs and write it.

    Parameters
    ----------
    out
        Folder to make: ``micrographs/*.mrc``, ``micrographs.star``, ``truth.star`` and, where
        asked for, ``labels.star`` and ``masks/*.png``. The STAR files are as RELION 3.1 and later
        write them, name the micrographs relative to themselves, and count coordinates from 0 in
        pixels.
    settings
        What to simulate.
    progress
        Called with (number done, number in all) after each micrograph.

    Returns
    -------
    SimulatedSet
        Where everything is.

    Raises
    ------
    BadInput
        If `out` already holds a set or cannot be written.
    """
    stars = [out / name for name in ("labels.star", "truth.star", "micrographs.star")]
    for star in stars:
        if star.exists():
            raise BadInput(f"{star} already exists: choose another folder, or remove that set.")
    folder = create_output_folder(out / "micrographs")
    if settings.masks:
        create_output_folder(out / "masks")
    known = []
    for index in range(settings.count):
        micrograph = simulate_micrograph(settings, index)
        path = folder / f"{settings.resolved_particle.name}_{index + 1:04d}.mrc"
        image = to_eight_bit(micrograph.image) if settings.eight_bit else micrograph.image
        write_mrc(path, image, settings.pixel_size_angstrom)
        if settings.masks:
            write_mask(out / "masks" / f"{path.stem}.png", micrograph.blocked)
        name = f"{folder.name}/{path.name}"
        known.append(
            _MicrographTruth(name, micrograph.xy_px, micrograph.angles_deg, micrograph.optics)
        )
        if progress is not None:
            progress(index + 1, settings.count)

    optics = _optics_columns(settings)
    everything = [(image, row) for image, one in enumerate(known) for row in range(len(one.xy_px))]
    labelled = choose_labels([len(one.xy_px) for one in known], settings.labels, settings.seed)
    if settings.labels:
        columns = _particle_columns(known, labelled)
        shown = ("rlnMicrographName", "rlnCoordinateX", "rlnCoordinateY", "rlnOpticsGroup")
        _write_star(stars[0], optics, "particles", {name: columns[name] for name in shown})
    _write_star(stars[1], optics, "particles", _particle_columns(known, everything))
    _write_star(stars[2], optics, "micrographs", _micrograph_columns(known))
    return SimulatedSet(
        folder=out,
        micrographs_star=stars[2],
        truth_star=stars[1],
        labels_star=stars[0] if settings.labels else None,
        micrograph_count=len(known),
        particle_count=len(everything),
        label_count=len(labelled),
    )


def write_mask(path: Path, blocked: Mask) -> None:
    """Write a mask as a PNG of 8 bits, row 0 on top: 255 where no particle can be, 0 elsewhere."""
    with atomic_write(path) as aside:
        Image.fromarray(np.where(blocked, np.uint8(255), np.uint8(0))).save(aside, optimize=True)


def choose_labels(counts: Sequence[int], wanted: int, seed: int) -> list[tuple[int, int]]:
    """Choose particles as someone would who labels some on each of a few micrographs.

    The micrographs come in random order; 20 random particles of each are labelled before the
    next one is opened, until there are enough. If every micrograph has been seen, they are
    gone through again.

    Parameters
    ----------
    counts
        Number of particles on each micrograph.
    wanted
        Number of labels; fewer if there are not as many particles.
    seed
        The set's seed.

    Returns
    -------
    list of tuple of int
        (micrograph, particle), both from 0, in increasing order.
    """
    # The micrographs use the keys (0,), (1,), ...: a longer key meets none of them.
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(0, 0, 1)))
    images = rng.permutation(len(counts)).tolist()
    orders = {image: rng.permutation(counts[image]).tolist() for image in images}
    chosen = [
        (image, row)
        for start in range(0, max(counts, default=0), LABELS_AT_ONCE)
        for image in images
        for row in orders[image][start : start + LABELS_AT_ONCE]
    ]
    return sorted(chosen[:wanted])


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


def _micrograph_columns(known: Sequence[_MicrographTruth]) -> Columns:
    return {
        "rlnMicrographName": [one.name for one in known],
        "rlnOpticsGroup": [1] * len(known),
        **_defocus_columns([one.optics for one in known]),
    }


def _particle_columns(
    known: Sequence[_MicrographTruth], chosen: Sequence[tuple[int, int]]
) -> Columns:
    values = [(*known[image].xy_px[row], *known[image].angles_deg[row]) for image, row in chosen]
    table = np.array(values, dtype=np.float64).reshape(-1, 5).T.tolist()
    return {
        "rlnMicrographName": [known[image].name for image, _ in chosen],
        "rlnCoordinateX": table[0],
        "rlnCoordinateY": table[1],
        "rlnAngleRot": table[2],
        "rlnAngleTilt": table[3],
        "rlnAnglePsi": table[4],
        **_defocus_columns([known[image].optics for image, _ in chosen]),
        "rlnOpticsGroup": [1] * len(chosen),
    }


def _write_star(path: Path, optics: Columns, name: str, columns: Columns) -> None:
    write_blocks(path, {"optics": optics, name: columns})
