"""Make a particle from an atomic model or a density map."""

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

#: The range of particle diameters.
LEAST_DIAMETER_ANGSTROM, MOST_DIAMETER_ANGSTROM = 10.0, 5000.0

#: Radius of an atom, by which a measured diameter extends beyond its center.
ATOM_RADIUS_ANGSTROM = 1.7

#: Phase shift of a 300 kV electron in a potential, radians per volt and angstrom, and twice that:
#: the relative change of intensity per volt and angstrom where the contrast transfer is 1.
PHASE_PER_VOLT_ANGSTROM = 6.53e-4
INTENSITY_PER_VOLT_ANGSTROM = 2.0 * PHASE_PER_VOLT_ANGSTROM

#: Integrated potential of an atom (V A^3) per angstrom of its scattering factor: h^2 / (2 pi m e).
VOLT_PER_SCATTERING = 47.878
#: The mean inner potentials of protein (1.35 g/cm3) and of vitreous ice are 8.0 and 4.5 V; their
#: difference gives the contrast.
PROTEIN_OVER_ICE_VOLT = 3.5
POTENTIAL_FRACTION_OVER_ICE = 3.5 / 8.0

#: Fraction of the theoretical contrast that images have: inelastic scattering and motion reduce
#: it. The contrast of the built-in particles is 0.3 to 0.65 of the theory.
CONTRAST_FRACTION = 0.5

#: The typical microscope for which a particle's contrast is defined.
TYPICAL_OPTICS = Optics(300.0, 2.7, 0.1, 16000.0, 16000.0, 0.0, 150.0)


def read_structure(
    path: str | Path,
    *,
    assembly: str | None = None,
    contour: float | None = None,
    diameter_angstrom: float | None = None,
) -> Particle:
    """Make a particle from an atomic model or a density map.

    Parameters
    ----------
    path
        .cif, .pdb or .ent; .mrc, .map or .ccp4; plain or compressed (.gz).
    assembly
        For an atomic model: name of the biological assembly, or ``none`` for the atoms as they
        are in the file. None: the first assembly that the file defines.
    contour
        For a map: the lowest density of the particle. None: found automatically.
    diameter_angstrom
        The longest dimension. None: measured.

    Returns
    -------
    Particle
        Named after the file. Orientations are relative to the axes of the file, with the center
        of mass as the origin. The preferred views are along the principal axes.

    Raises
    ------
    BadInput
        If the file cannot be used, or a parameter does not apply to this kind of file.

    Notes
    -----
    Atoms become blobs of 6 A resolution (coarser for large particles); a map is smoothed to 6 A
    to find the particle in it. The contrast follows from the potential of the atoms, or of protein
    that fills the volume of the map, above that of the ice it displaces.
    """
    path = Path(path)
    kind = _detect_kind(path)
    _check_parameters(path, kind, assembly, contour, diameter_angstrom)
    blobs, extent, what = (
        _blobs_of_model(path, assembly) if kind == "model" else _blobs_of_map(path, contour)
    )
    if diameter_angstrom is None and not _is_diameter(extent):
        raise BadInput(
            f"{path} is {extent:.0f} Å long; it must be {LEAST_DIAMETER_ANGSTROM:g} to"
            f" {MOST_DIAMETER_ANGSTROM:g} Å"
        )
    length = f"{extent:.0f} Å long"
    if diameter_angstrom is not None:
        length += f", diameter set to {diameter_angstrom:g} Å"
    particle = Particle(
        name=_particle_name(path),
        description=f"{what} in {len(blobs)} blobs, {length}",
        diameter_angstrom=diameter_angstrom or round(extent, 1),
        contrast=0.0,
        views=estimate_preferred_views(blobs),
        build=_return_blobs(blobs),
    )
    full_contrast = signal_deviation(particle, False, TYPICAL_OPTICS)
    return replace(particle, contrast=CONTRAST_FRACTION * full_contrast)


def _check_parameters(
    path: Path,
    kind: str,
    assembly: str | None,
    contour: float | None,
    diameter_angstrom: float | None,
) -> None:
    if kind == "map" and assembly is not None:
        raise BadInput(f"assembly applies to atomic models, but {path} is a map; leave it out")
    if kind == "model" and contour is not None:
        raise BadInput(
            f"contour applies to density maps, but {path} is an atomic model; leave it out"
        )
    if diameter_angstrom is not None and not _is_diameter(diameter_angstrom):
        raise BadInput(
            f"the diameter in Å must be between {LEAST_DIAMETER_ANGSTROM:g} and"
            f" {MOST_DIAMETER_ANGSTROM:g}, not {diameter_angstrom!r}"
        )


def _is_diameter(length_angstrom: float) -> bool:
    return LEAST_DIAMETER_ANGSTROM <= length_angstrom <= MOST_DIAMETER_ANGSTROM


def _detect_kind(path: Path) -> str:
    if not path.exists():
        raise BadInput(f"{path} does not exist; check the name and the current folder")
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
    volt = atoms.scattering * (VOLT_PER_SCATTERING * POTENTIAL_FRACTION_OVER_ICE)
    sigma = SIGMA_OF_RESOLUTION * RESOLUTION_ANGSTROM
    blobs = bin_points(atoms.points, volt * INTENSITY_PER_VOLT_ANGSTROM, sigma)
    extent = longest_extent(atoms.points) + 2.0 * ATOM_RADIUS_ANGSTROM
    what = "no assembly" if atoms.assembly is None else f"assembly {atoms.assembly}"
    return blobs, extent, f"{len(atoms.points)} atoms of {path.name} ({what})"


def _blobs_of_map(path: Path, contour: float | None) -> tuple[GaussianBlobs, float, str]:
    volume = read_density_map(path, contour)
    voxel = float(np.prod(volume.voxel_angstrom))
    # The units of a map are arbitrary, so its volume gives the amount of protein.
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
    """Return the file's name without its suffixes; micrographs are named after it."""
    name = path.name.lower().removesuffix(".gz")
    name = path.name[: name.rindex(".")]
    if find_name_fault(f"{name}_0001.mrc") is not None:
        raise BadInput(f"{path} has a name that cannot be used for micrographs; rename the file")
    return name
