"""The atoms of a model in an mmCIF or PDB file, with the copies of its assembly."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from heliodor.compressed import unpacked
from heliodor.errors import BadInput
from heliodor.simulate.assemblies import Copies, assemblies_of_mmcif, assemblies_of_pdb

if TYPE_CHECKING:
    from pathlib import Path

    import gemmi
    from numpy.typing import NDArray

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
    structure, assemblies = _parsed(path, assembly)
    if len(structure) == 0:
        raise BadInput(f"{path} has no atoms; give an atomic model")
    structure.setup_entities()  # says what is water
    structure.remove_waters()
    points, scattering, chains = _table(structure[0], path)
    if not len(points):
        raise BadInput(f"{path} has no atoms that count; give an atomic model, not water alone")
    if not np.isfinite(points).all():
        raise BadInput(f"{path} has atoms whose coordinates are not numbers; mend or remove them")
    name = _name(path, assemblies, assembly)
    if name is not None:
        parts = [(np.isin(chains, part.chains), part.operators) for part in assemblies[name]]
        number = sum(int(np.count_nonzero(mask)) * len(operators) for mask, operators in parts)
        if not 0 < number <= MOST_WITH_COPIES:
            what = f"more than {MOST_WITH_COPIES:,}" if number else "no"
            raise BadInput(
                f"{path} has {what} atoms in assembly {name}; choose another with --assembly"
            )
        copies = [(mask, operator) for mask, operators in parts for operator in operators]
        points, scattering = (
            np.concatenate([points[mask] @ one[:, :3].T + one[:, 3] for mask, one in copies]),
            np.concatenate([scattering[mask] for mask, _ in copies]),
        )
    if not np.isfinite(points).all() or np.ptp(points, axis=0).max() > MOST_ANGSTROM:
        raise BadInput(
            f"{path} has atoms more than {MOST_ANGSTROM:g} A apart: that is no particle; mend its"
            " coordinates, or choose another assembly with --assembly"
        )
    return Atoms(points, scattering, name)


def _parsed(path: Path, assembly: str | None) -> tuple[gemmi.Structure, dict[str, list[Copies]]]:
    """Return what a file holds, and its assemblies by name."""
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
    try:
        if name.endswith(MMCIF_SUFFIXES):
            block = _block_with_atoms(gemmi.cif.read_string(text))
            assemblies = {} if assembly == "none" else assemblies_of_mmcif(block)
            # gemmi would make every operator of an expression, be it (1-1000000000).
            block.find_mmcif_category("_pdbx_struct_assembly_gen.").erase()
            return gemmi.make_structure_from_block(block), assemblies
        structure = gemmi.read_structure_string(text, format=gemmi.CoorFormat.Pdb)
        return structure, assemblies_of_pdb(structure)
    except BadInput as error:
        raise BadInput(f"{path}: {error}; give --assembly none, or another file") from error
    except Exception as error:  # gemmi raises many kinds, all meaning this
        raise BadInput(f"{path} is not an atomic model ({error}); download it again") from error


def _block_with_atoms(document: gemmi.cif.Document) -> gemmi.cif.Block:
    """Return a file's first block with atoms, else its first."""
    blocks = [block for block in document if block.find_values("_atom_site.id")]
    return (blocks or [document[0]])[0]


def _table(model: gemmi.Model, path: Path) -> tuple[FloatArray, FloatArray, NDArray[np.str_]]:
    """Return each atom's place, scattering, and chain as assemblies name it."""
    by_label = path.name.lower().removesuffix(".gz").endswith(MMCIF_SUFFIXES)
    import gemmi

    factors: dict[str, float] = {}
    points, scattering, hydrogen, chains = [], [], [], []
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
                chains.append(residue.subchain if by_label else chain.name)
    strengths = np.array(scattering, dtype=np.float64)
    if hydrogen and np.mean(hydrogen) < _FEW_HYDROGENS:
        strengths *= HYDROGENS_ADD
    places = np.array(points, dtype=np.float64).reshape(-1, 3)
    return places, strengths, np.array(chains)


def _scattering(element: gemmi.Element) -> float:
    """Return an element's scattering at zero angle; carbon's where the element is not known."""
    import gemmi

    table = element.c4322 or gemmi.Element("C").c4322
    assert table is not None
    return float(table.calculate_sf(0.0))


def _name(path: Path, assemblies: dict[str, list[Copies]], wanted: str | None) -> str | None:
    """Return the name of the assembly to make, or None for none."""
    if wanted == "none" or (wanted is None and not assemblies):
        return None
    name = next(iter(assemblies)) if wanted is None else wanted
    if name not in assemblies:
        known = f"its assemblies are {', '.join(assemblies)}" if assemblies else "it defines none"
        raise BadInput(f"{path} has no assembly {name!r}: {known}; or give --assembly none")
    return name
