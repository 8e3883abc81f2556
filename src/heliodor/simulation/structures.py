"""A particle from a file: an atomic model or a density map."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from heliodor.data.micrographs.names import find_name_fault
from heliodor.errors import BadInput
from heliodor.simulation.atomic_models import (
    MMCIF_SUFFIXES,
    PDB_SUFFIXES,
    read_atoms,
)
from heliodor.simulation.builtin_particles import GaussianBlobs, Particle
from heliodor.simulation.contrast import signal_deviation
from heliodor.simulation.density_maps import (
    MAP_SUFFIXES,
    RESOLUTION_ANGSTROM,
    SIGMA_OF_RESOLUTION,
    read_density_map,
)
from heliodor.simulation.optics import Optics
from heliodor.simulation.point_clouds import (
    bin_points,
    estimate_preferred_views,
    longest_extent,
)

if TYPE_CHECKING:
    from collections.abc import Callable

#: A longest dimension that can be told or measured.
LEAST_DIAMETER_ANGSTROM, MOST_DIAMETER_ANGSTROM = 10.0, 5000.0

#: An atom's radius beyond its centre, where a measured diameter ends.
ATOM_RADIUS_ANGSTROM = 1.7

#: The phase of a 300 kV electron in a potential, radian per volt and angstrom, and twice that: the
#: relative intensity per volt and angstrom where the contrast transfer is 1.
PHASE_PER_VOLT_ANGSTROM = 6.53e-4
INTENSITY_PER_VOLT_ANGSTROM = 2.0 * PHASE_PER_VOLT_ANGSTROM

#: Volt cubic angstrom of an atom for each angstrom of its scattering factor: h^2 / (2 pi m e).
VOLT_PER_SCATTERING = 47.878
#: Mean inner potential of protein (1.35 g/cm3) and of vitreous ice: 8.0 and 4.5 V. What shows is
#: the difference.
PROTEIN_OVER_ICE_VOLT = 3.5
SHOWN_SHARE = 3.5 / 8.0

#: What is left of that in an image. The contrast of the particles that this program invents is 0.3
#: to 0.65 of this theory; what scatters inelastically and what moves does not add to it.
LEFT_OF_CONTRAST = 0.5

#: The microscope at which a particle's contrast is told: the middle of what is usual.
USUAL = Optics(300.0, 2.7, 0.1, 16000.0, 16000.0, 0.0, 150.0)


def read_structure(
    path: str | Path,
    *,
    assembly: str | None = None,
    contour: float | None = None,
    diameter_angstrom: float | None = None,
) -> Particle:
    """Make a particle of an atomic model or of a density map.

    Parameters
    ----------
    path
        .cif, .pdb or .ent; .mrc, .map or .ccp4; plain or packed (.gz).
    assembly
        Of an atomic model: the biological assembly, or ``none`` for the atoms as they are in the
        file. None: the first one that the file defines.
    contour
        Of a map: the least density that is the particle's. None: found in the map.
    diameter_angstrom
        The longest dimension. None: measured.

    Returns
    -------
    Particle
        Its name is the file's; its description tells what was read. Orientations are relative
        to the axes of the file, with the centre of mass as the origin. Its preferred views lie
        on the faces along its principal axes.

    Raises
    ------
    BadInput
        If the file cannot be used, or an option is not for this kind of file.

    Notes
    -----
    Atoms become blobs of 6 A resolution or, of large particles, coarser; a map is smoothed to 6 A
    to find the particle in it. The contrast follows from the potential: that of the atoms, or of
    protein in the map's volume, above that of the ice it displaces.
    """
    path = Path(path)
    kind = _detect_kind(path)
    if kind == "map" and assembly is not None:
        raise BadInput(f"--assembly is for atomic models, and {path} is a map; leave it out")
    if kind == "model" and contour is not None:
        raise BadInput(f"--contour is for density maps, and {path} is a model; leave it out")
    if diameter_angstrom is not None and not (
        LEAST_DIAMETER_ANGSTROM <= diameter_angstrom <= MOST_DIAMETER_ANGSTROM
    ):
        raise BadInput(
            f"The diameter in angstrom must be within {LEAST_DIAMETER_ANGSTROM:g} and"
            f" {MOST_DIAMETER_ANGSTROM:g}, not {diameter_angstrom!r}."
        )
    blobs, extent, what = (
        _blobs_of_model(path, assembly) if kind == "model" else _blobs_of_map(path, contour)
    )
    if diameter_angstrom is None and not (
        LEAST_DIAMETER_ANGSTROM <= extent <= MOST_DIAMETER_ANGSTROM
    ):
        raise BadInput(
            f"{path} is {extent:.0f} A long: particles of {LEAST_DIAMETER_ANGSTROM:g} to"
            f" {MOST_DIAMETER_ANGSTROM:g} A can be simulated"
        )
    length = f"{extent:.0f} A long"
    if diameter_angstrom is not None:
        length += f", its diameter told as {diameter_angstrom:g} A"
    particle = Particle(
        name=_particle_name(path),
        description=f"{what} in {len(blobs)} blobs, {length}",
        diameter_angstrom=diameter_angstrom or round(extent, 1),
        contrast=0.0,
        views=estimate_preferred_views(blobs),
        build=_return_blobs(blobs),
    )
    shown = signal_deviation(particle, False, USUAL)
    return replace(particle, contrast=LEFT_OF_CONTRAST * shown)


def _detect_kind(path: Path) -> str:
    if not path.exists():
        raise BadInput(f"{path} does not exist; check the name and the folder it is relative to")
    if path.is_dir():
        raise BadInput(f"{path} is a folder; give an atomic model or a density map")
    name = path.name.lower().removesuffix(".gz")
    if name.endswith(MMCIF_SUFFIXES + PDB_SUFFIXES):
        return "model"
    if name.endswith(MAP_SUFFIXES):
        return "map"
    raise BadInput(
        f"{path} is neither an atomic model (.cif, .pdb, .ent) nor a density map (.mrc, .map,"
        " .ccp4); give one of these"
    )


def _blobs_of_model(path: Path, assembly: str | None) -> tuple[GaussianBlobs, float, str]:
    atoms = read_atoms(path, assembly)
    volt = atoms.scattering * (VOLT_PER_SCATTERING * SHOWN_SHARE)
    sigma = SIGMA_OF_RESOLUTION * RESOLUTION_ANGSTROM
    blobs = bin_points(atoms.points, volt * INTENSITY_PER_VOLT_ANGSTROM, sigma)
    extent = longest_extent(atoms.points) + 2.0 * ATOM_RADIUS_ANGSTROM
    what = "no assembly" if atoms.assembly is None else f"assembly {atoms.assembly}"
    return blobs, extent, f"{len(atoms.points)} atoms of {path.name} ({what})"


def _blobs_of_map(path: Path, contour: float | None) -> tuple[GaussianBlobs, float, str]:
    volume = read_density_map(path, contour)
    voxel = float(np.prod(volume.voxel_angstrom))
    # The map's units are its own: its volume tells how much protein it is.
    total = PROTEIN_OVER_ICE_VOLT * voxel * len(volume.points) * INTENSITY_PER_VOLT_ANGSTROM
    weights = volume.weights * (total / volume.weights.sum())
    side = float(np.mean(volume.voxel_angstrom))
    blobs = bin_points(volume.points, weights, side / math.sqrt(12.0))
    what = f"the density of {path.name} above {volume.contour:.4g}"
    return blobs, longest_extent(volume.points) + side, what


def _return_blobs(blobs: GaussianBlobs) -> Callable[[], GaussianBlobs]:
    def build() -> GaussianBlobs:
        return blobs

    return build


def _particle_name(path: Path) -> str:
    """Return the file's name without its suffixes: micrographs are called after it."""
    name = path.name.lower().removesuffix(".gz")
    name = path.name[: name.rindex(".")]
    if find_name_fault(f"{name}_0001.mrc") is not None:
        raise BadInput(f"{path} has a name that no micrograph can have; rename it")
    return name
