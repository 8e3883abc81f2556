"""The atoms of a model in an mmCIF or PDB file, with the copies of its assembly."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from heliodor.compressed import unpacked
from heliodor.errors import BadInput

if TYPE_CHECKING:
    from pathlib import Path

    import gemmi

    from heliodor.conventions import FloatArray

MMCIF_SUFFIXES, PDB_SUFFIXES = (".cif", ".mmcif"), (".pdb", ".ent")

#: The largest file, unpacked, the most atoms in it, and the most with all copies.
MOST_BYTES = 2**29
MOST_ATOMS = 3_000_000
MOST_WITH_COPIES = 5_000_000

#: The most that two atoms of a particle are apart along an axis.
MOST_ANGSTROM = 10_000.0

#: A model with fewer hydrogens than this share leaves them out.
_FEW_HYDROGENS = 0.1

#: What hydrogens add to the scattering of the other atoms of protein (C 32, H 49, N 8.5, O 10 and
#: S 0.3 % of its atoms) at zero angle.
HYDROGENS_ADD = 1.22


@dataclass(frozen=True)
class Atoms:
    """The atoms of a particle."""

    points: FloatArray
    """(x, y, z) in angstrom, shape (n, 3)."""
    scattering: FloatArray
    """Electron scattering factor at zero angle in angstrom, times the occupancy; hydrogens that
    the model leaves out are in those of the other atoms. Shape (n,), positive."""
    assembly: str | None
    """The name of the assembly; None for the atoms as they are in the file."""


def read_atoms(path: Path, assembly: str | None = None) -> Atoms:
    """Read the first model of a file, without water, and make the copies of an assembly.

    Parameters
    ----------
    path
        .cif, .pdb or .ent, plain or packed (.gz).
    assembly
        The name of a biological assembly, or ``none`` for the atoms as they are. None: the first
        assembly that the file defines, if it defines any.

    Raises
    ------
    BadInput
        If gemmi is not installed; if the file cannot be read, has no atoms or too many, or
        coordinates that are no numbers; if it has no such assembly.

    Notes
    -----
    The scattering factors are those of the International Tables for Crystallography C, table
    4.3.2.2, as gemmi (Wojdyr 2022, J. Open Source Softw. 7, 4200) has them.
    """
    structure = _parsed(path)
    if len(structure) == 0:
        raise BadInput(f"{path} has no atoms; give an atomic model")
    structure.setup_entities()  # says what is water
    structure.remove_waters()
    points, scattering, chains, subchains = _table(structure[0])
    if not len(points):
        raise BadInput(f"{path} has no atoms besides water; give an atomic model")
    if not np.isfinite(points).all():
        raise BadInput(f"{path} has atoms whose coordinates are not numbers; mend or remove them")
    copies, name = _copies(path, structure, chains, subchains, assembly)
    if sum(int(np.count_nonzero(mask)) for mask, _, _ in copies) > MOST_WITH_COPIES:
        raise BadInput(
            f"{path} has more than {MOST_WITH_COPIES:,} atoms in assembly {name}; choose another"
            " with --assembly, or give a density map instead"
        )
    points = np.concatenate([points[mask] @ turn.T + shift for mask, turn, shift in copies])
    scattering = np.concatenate([scattering[mask] for mask, _, _ in copies])
    if not len(points):
        raise BadInput(f"{path} has no atoms in assembly {name}; choose another with --assembly")
    if not np.isfinite(points).all() or np.ptp(points, axis=0).max() > MOST_ANGSTROM:
        raise BadInput(
            f"{path} has atoms more than {MOST_ANGSTROM:g} A apart: that is no particle; mend its"
            " coordinates, or choose another assembly with --assembly"
        )
    return Atoms(points, scattering, name)


def _parsed(path: Path) -> gemmi.Structure:
    try:
        import gemmi
    except ImportError as error:
        raise BadInput(
            f"reading {path} needs gemmi: pip install 'heliodor[structures]', or give a density"
            " map instead"
        ) from error
    try:
        content = unpacked(path, 0, MOST_BYTES + 1).getbuffer()
    except (OSError, EOFError, zlib.error) as error:
        raise BadInput(f"{path} cannot be read ({error}); copy it again") from error
    if len(content) > MOST_BYTES:
        raise BadInput(
            f"{path} is larger than {MOST_BYTES >> 20} MiB: no model that can be simulated; give a"
            " density map instead"
        )
    text = bytes(content)
    if text.count(b"\nATOM") + text.count(b"\nHETATM") > MOST_ATOMS:
        raise BadInput(
            f"{path} has more than {MOST_ATOMS:,} atoms; give a part of it, or a density map"
        )
    name = path.name.lower().removesuffix(".gz")
    kind = gemmi.CoorFormat.Mmcif if name.endswith(MMCIF_SUFFIXES) else gemmi.CoorFormat.Pdb
    try:
        return gemmi.read_structure_string(text, format=kind)
    except Exception as error:  # gemmi raises many kinds, all meaning this
        raise BadInput(f"{path} is not an atomic model ({error}); download it again") from error


def _table(model: gemmi.Model) -> tuple[FloatArray, FloatArray, Any, Any]:
    """Return each atom's place, scattering, chain and subchain."""
    import gemmi

    factors: dict[str, float] = {}
    points, scattering, hydrogen, chains, subchains = [], [], [], [], []
    for chain in model:
        for residue in chain:
            for atom in residue:
                element = atom.element.name
                if element not in factors:
                    factors[element] = _scattering(gemmi.Element(element))
                # Sites that are occupied by nobody are in no image.
                if not (strength := atom.occ * factors[element]) > 0.0:
                    continue
                points.append(atom.pos.tolist())
                scattering.append(strength)
                hydrogen.append(atom.element.is_hydrogen)
                chains.append(chain.name)
                subchains.append(residue.subchain)
    strengths = np.array(scattering, dtype=np.float64)
    if hydrogen and np.mean(hydrogen) < _FEW_HYDROGENS:
        strengths *= HYDROGENS_ADD
    places = np.array(points, dtype=np.float64).reshape(-1, 3)
    return places, strengths, np.array(chains), np.array(subchains)


def _scattering(element: gemmi.Element) -> float:
    """Return an element's scattering at zero angle; carbon's where the element is not known."""
    import gemmi

    table = element.c4322 or gemmi.Element("C").c4322
    assert table is not None
    return float(table.calculate_sf(0.0))


def _copies(
    path: Path, structure: gemmi.Structure, chains: Any, subchains: Any, wanted: str | None
) -> tuple[list[tuple[Any, FloatArray, FloatArray]], str | None]:
    """Return the atoms of each copy, its rotation and its shift; and the assembly's name."""
    there = {one.name: one for one in structure.assemblies}
    if wanted == "none" or (wanted is None and not there):
        return [(np.ones(len(chains), np.bool_), np.eye(3), np.zeros(3))], None
    name = next(iter(there)) if wanted is None else wanted
    if name not in there:
        known = f"its assemblies are {', '.join(there)}" if there else "it defines none"
        raise BadInput(f"{path} has no assembly {name!r}: {known}; or give --assembly none")
    copies = []
    for generator in there[name].generators:
        mask = np.isin(subchains, list(generator.subchains))
        if generator.chains:
            mask |= np.isin(chains, list(generator.chains))
        for operator in generator.operators:
            turn = np.array(operator.transform.mat.tolist())
            copies.append((mask, turn, np.array(operator.transform.vec.tolist())))
    return copies, name
