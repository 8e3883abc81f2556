"""Filaments as RELION's template-based autopicking finds them, a reference program.

Debian has RELION 3.1.3 (`apt-get install relion`). RELION is given what nobody has at the start:
references that are noise-free projections of the very filament on the micrographs, scaled to its
contrast in units of their noise, as RELION expects of class averages, with the true defocus.

RELION leaves out half of a reference's side at the edges of micrographs, and segments where
filaments cross. Segments of one tube are joined here, also across others.
"""

from __future__ import annotations

import math
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import mrcfile
import numpy as np

from heliodor.conventions import Image
from heliodor.data.filaments.filament import Filament, Filaments
from heliodor.data.star import read_blocks
from heliodor.simulation.contrast import signal_deviation
from heliodor.simulation.optics import Optics
from heliodor.simulation.projection import add_projection
from heliodor.simulation.settings import SimulationSettings

PROGRAM = "relion_autopick"
#: Projections of a filament at evenly spaced rotations about its axis.
VIEWS = 4
#: The side of a reference beyond the mask, in angstrom.
BEYOND_ANGSTROM = 24.0
#: Segments are as many widths apart, and the shortest filament is as many widths long.
STEP_WIDTHS, LEAST_WIDTHS = 0.25, 3.0


@dataclass(frozen=True)
class AutopickSettings:
    """What `relion_autopick --helix` is told."""

    #: Diameter of the circular mask, in widths of the filament.
    mask_widths: float = 2.0
    #: Whether the algorithm for amyloids is used.
    amyloid: bool = False
    threshold: float = 0.2
    #: The largest curvature, relative to that of a circle of the mask's size.
    kappa_max: float = 0.1
    angle_deg: float = 5.0
    lowpass_angstrom: float = 20.0


def is_installed() -> bool:
    """Return whether RELION is there."""
    return shutil.which(PROGRAM) is not None


def draw_references(
    simulation: SimulationSettings, settings: AutopickSettings, noise: float
) -> Image:
    """Return projections of a straight filament along x, protein white, shape (n, side, side).

    Parameters
    ----------
    simulation
        Of the micrographs.
    settings
        The mask.
    noise
        Standard deviation of a pixel of the micrographs, in fractions of the mean intensity.
    """
    kind, pixel = simulation.resolved_filament, simulation.pixel_size_angstrom
    mask = settings.mask_widths * kind.width_angstrom
    side = 2 * math.ceil(0.5 * (mask + BEYOND_ANGSTROM) / pixel)
    # As in `heliodor.simulation.micrograph`: the contrast at the middle of the defocus range.
    middle = 5000.0 * sum(simulation.defocus_um)
    optics = Optics(
        voltage_kv=simulation.voltage_kv,
        spherical_aberration_mm=simulation.spherical_aberration_mm,
        amplitude_contrast=simulation.total_amplitude_contrast,
        defocus_u_angstrom=middle,
        defocus_v_angstrom=middle,
        defocus_angle_deg=0.0,
        b_factor=simulation.total_b_factor,
    )
    scale = simulation.contrast / signal_deviation(simulation.resolved_particle, True, optics)
    stretch = kind.build_stretch(2.0 * side * pixel)
    views = np.zeros((VIEWS, side, side), np.float32)
    center = np.array([0.5 * side, 0.5 * side])
    for number, view in enumerate(views):
        angles = np.array([360.0 * number / VIEWS, 90.0, 180.0])
        add_projection(view, stretch, angles, center, pixel, scale / noise)
    return views


def measure_noise(paths: Sequence[Path]) -> float:
    """Return the usual standard deviation of a pixel, in fractions of the mean intensity."""
    values = []
    for path in paths:
        image = mrcfile.read(path)
        middle = float(np.median(image))
        values.append(1.4826 * float(np.median(np.abs(image - middle))) / middle)
    return float(np.median(values))


def autopick(
    project: Path,
    micrographs: Sequence[str],
    simulation: SimulationSettings,
    settings: AutopickSettings,
) -> tuple[Filaments, float]:
    """Run RELION on the micrographs of `heliodor simulate`.

    The maps of the figure of merit are kept in the project, so that another threshold or curvature
    with the same references takes little time.

    Parameters
    ----------
    project
        Folder with `micrographs.star`.
    micrographs
        Their names there.

    Returns
    -------
    Filaments, float
        The axes, and seconds of CPU time, of which the maps take most; 0 for the maps where they
        are kept from before.
    """
    kind, pixel = simulation.resolved_filament, simulation.pixel_size_angstrom
    width = kind.width_angstrom
    kept = (settings.mask_widths, settings.angle_deg, settings.lowpass_angstrom)
    name = "_".join(["AutoPick", *(f"{value:g}" for value in kept), str(settings.amyloid)])
    references = project / f"{name}.mrcs"
    is_new = not references.exists()
    if is_new:
        noise = measure_noise([project / one for one in micrographs])
        with mrcfile.new(references) as mrc:
            mrc.set_data(draw_references(simulation, settings, noise))
            mrc.set_image_stack()
            mrc.voxel_size = pixel
    command = [
        PROGRAM, "--i", "micrographs.star", "--odir", f"{name}/", "--pickname", "autopick",
        "--ref", references.name, "--angpix_ref", f"{pixel:g}", "--invert", "--ctf",
        "--ang", f"{settings.angle_deg:g}", "--lowpass", f"{settings.lowpass_angstrom:g}",
        "--particle_diameter", f"{settings.mask_widths * width:g}", "--helix",
        "--helical_tube_outer_diameter", f"{width:g}",
        "--helical_tube_length_min", f"{LEAST_WIDTHS * width:g}",
        "--helical_tube_kappa_max", f"{settings.kappa_max:g}",
        "--min_distance", f"{STEP_WIDTHS * width:g}", "--threshold", f"{settings.threshold:g}",
        "--write_fom_maps" if is_new else "--read_fom_maps", "--no_fom_limit",
        *(["--amyloid"] if settings.amyloid else []),
    ]  # fmt: skip
    files = [_coordinates_of(project / name / one) for one in micrographs]
    for file in files:
        file.unlink(missing_ok=True)
    before = os.times()
    run = subprocess.run(
        command, cwd=project, capture_output=True, text=True, errors="replace", check=False
    )
    after = os.times()
    seconds = after.children_user + after.children_system
    seconds -= before.children_user + before.children_system
    # Where there is not one particle, RELION writes all coordinates and ends on a signal when it
    # draws their histogram.
    if not all(file.exists() for file in files):
        references.unlink(missing_ok=True)
        raise RuntimeError(f"{PROGRAM} failed:\n{run.stdout}\n{run.stderr}")
    found = []
    for micrograph, file in zip(micrographs, files, strict=True):
        found += read_tubes(file, micrograph, width)
    return Filaments(tuple(micrographs), tuple(found), dict.fromkeys(micrographs, pixel)), seconds


def _coordinates_of(micrograph: Path) -> Path:
    return micrograph.with_name(f"{micrograph.stem}_autopick.star")


def read_tubes(path: Path, micrograph: str, width_angstrom: float) -> list[Filament]:
    """Return the axes through the segments of each tube; a tube with one segment has none."""
    if path.stat().st_size == 0:
        # RELION writes nothing at all where it finds nothing.
        return []
    (table,) = read_blocks(path).values()
    columns = ("rlnCoordinateX", "rlnCoordinateY", "rlnHelicalTubeID")
    x, y, tube = (np.asarray(table[name], dtype=np.float64) for name in columns)
    axes = []
    for number in np.unique(tube):
        axis = np.column_stack([x[tube == number], y[tube == number]])
        distinct = np.r_[True, np.any(np.diff(axis, axis=0) != 0.0, axis=1)]
        if np.count_nonzero(distinct) > 1:
            axes.append(Filament(micrograph, axis[distinct], int(number), width_angstrom))
    return axes
