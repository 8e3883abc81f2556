"""Read the atoms of an mmCIF or PDB file, with the copies of a biological assembly."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from heliodor.data.micrographs.compression import decompress
from heliodor.errors import BadInput
from heliodor.simulation.assemblies import (
    ChainCopies,
    read_mmcif_assemblies,
    read_pdb_assemblies,
)

if TYPE_CHECKING:
    from pathlib import Path

    import gemmi

    from heliodor.conventions import FloatArray

MMCIF_SUFFIXES, PDB_SUFFIXES = (".cif", ".mmcif"), (".pdb", ".ent")

#: Limits: bytes of the decompressed file, atoms in it, and atoms with all copies.
MOST_BYTES = 2**29
MOST_ATOMS = 3_000_000
MOST_WITH_COPIES = 5_000_000

#: Maximum extent of a particle along an axis.
MOST_ANGSTROM = 10_000.0

#: A model with a smaller fraction of hydrogens than this has none modeled.
_FEW_HYDROGENS = 0.1

#: Factor by which hydrogens increase the scattering of protein at zero angle (its atoms are 49% H,
#: 32% C, 8.5% N, 10% O and 0.3% S).
HYDROGENS_ADD = 1.22


@dataclass(frozen=True)
class Atoms:
    """The atoms of a particle."""

    points: FloatArray
    """(x, y, z) in angstrom, shape (n, 3)."""
    scattering: FloatArray
    """Electron scattering factor at zero angle in angstrom, times the occupancy; hydrogens that
    are not modeled are included in the other atoms. Shape (n,), positive."""
    assembly: str | None
    """Name of the assembly; None for the atoms as they are in the file."""


def read_atoms(path: Path, assembly: str | None = None) -> Atoms:
    """Read the first model of a file, without water, and build an assembly of it.

    Parameters
    ----------
    path
        .cif, .pdb or .ent, plain or compressed (.gz).
    assembly
        Name of a biological assembly, or ``none`` for the atoms as they are. None: the first
        assembly that the file defines, if it defines any.

    Raises
    ------
    BadInput
        If gemmi is not installed; if the file cannot be read, has no atoms, too many atoms or
        invalid coordinates; if it does not define the assembly.

    Notes
    -----
    The scattering factors are those of the International Tables for Crystallography C, table
    4.3.2.2, as gemmi (Wojdyr 2022, J. Open Source Softw. 7, 4200) has them.
    """
    sites, assemblies = _parse_file(path, assembly)
    factors = {element: _scattering_factor(element) for element in set(sites.elements)}
    scattering = np.array([factors[element] for element in sites.elements]) * sites.occupancies
    light = np.isin(sites.elements, ("H", "D"))
    if len(light) and light.mean() < _FEW_HYDROGENS:
        scattering *= HYDROGENS_ADD
    # Skip water and unoccupied sites.
    water = {name: _is_water(name) for name in set(sites.residues)}
    kept = np.array([not water[name] for name in sites.residues], np.bool_) & (scattering > 0.0)
    if not kept.any():
        raise BadInput(f"{path} has no atoms except water; give an atomic model")
    points, scattering = sites.points[kept], scattering[kept]
    chains = np.array(sites.chains)[kept]
    if not np.isfinite(points).all():
        raise BadInput(f"{path} has atoms whose coordinates are not numbers; fix or remove them")
    name = _choose_assembly(path, assemblies, assembly)
    if name is not None:
        parts = [(np.isin(chains, part.chains), part.operators) for part in assemblies[name]]
        number = sum(int(np.count_nonzero(mask)) * len(operators) for mask, operators in parts)
        if not 0 < number <= MOST_WITH_COPIES:
            what = f"more than {MOST_WITH_COPIES:,}" if number else "no"
            raise BadInput(f"{path} has {what} atoms in assembly {name}; choose another assembly")
        copies = [(mask, operator) for mask, operators in parts for operator in operators]
        points, scattering = (
            np.concatenate([points[mask] @ one[:, :3].T + one[:, 3] for mask, one in copies]),
            np.concatenate([scattering[mask] for mask, _ in copies]),
        )
    if not np.isfinite(points).all() or np.ptp(points, axis=0).max() > MOST_ANGSTROM:
        raise BadInput(
            f"{path} has atoms more than {MOST_ANGSTROM:g} Å apart; fix its coordinates or choose"
            " another assembly"
        )
    return Atoms(points, scattering, name)


@dataclass(frozen=True)
class _AtomTable:
    """The atoms of the first model of a file, one entry per atom in each column."""

    points: FloatArray
    occupancies: FloatArray
    elements: list[str]
    residues: list[str]
    chains: list[str]


def _parse_file(
    path: Path, assembly: str | None
) -> tuple[_AtomTable, dict[str, list[ChainCopies]]]:
    """Return the atoms of a file, and its assemblies by name."""
    try:
        import gemmi
    except ImportError as error:
        raise BadInput(
            f"reading {path} needs gemmi: pip install 'heliodor[structures]', or give a density"
            " map instead"
        ) from error
    try:
        content = decompress(path, 0, MOST_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise BadInput(f"{path} cannot be read ({error}); copy it again") from error
    if len(content) > MOST_BYTES:
        raise BadInput(
            f"{path} is larger than {MOST_BYTES >> 20} MiB, too large for an atomic model; give a"
            " density map instead"
        )
    text = bytes(content)
    if text.count(b"\nATOM") + text.count(b"\nHETATM") > MOST_ATOMS:
        raise BadInput(
            f"{path} has more than {MOST_ATOMS:,} atoms; give part of it, or a density map"
        )
    name = path.name.lower().removesuffix(".gz")
    try:
        if name.endswith(MMCIF_SUFFIXES):
            block = _find_block_with_atoms(gemmi.cif.read_string(text))
            assemblies = {} if assembly == "none" else read_mmcif_assemblies(block)
            return _read_mmcif_atoms(block), assemblies
        structure = gemmi.read_structure_string(text, format=gemmi.CoorFormat.Pdb)
        return _read_pdb_atoms(structure), read_pdb_assemblies(structure)
    except BadInput as error:
        raise BadInput(f"{path}: {error}; choose assembly none, or another file") from error
    except Exception as error:  # gemmi raises many types of errors
        raise BadInput(f"{path} is not an atomic model ({error}); download it again") from error


def _find_block_with_atoms(document: gemmi.cif.Document) -> gemmi.cif.Block:
    """Return the first block with atoms, or the first block if none has any."""
    blocks = [block for block in document if block.find_values("_atom_site.id")]
    return (blocks or [document[0]])[0]


def _read_mmcif_atoms(block: gemmi.cif.Block) -> _AtomTable:
    """Read the columns directly: gemmi searches the whole chain for each new residue (slow)."""
    from gemmi import cif

    def column(name: str) -> list[str]:
        return [cif.as_string(value) for value in block.find_values(f"_atom_site.{name}")]

    elements = column("type_symbol")
    count = len(elements)
    axes = [column(f"Cartn_{axis}") for axis in "xyz"]
    chains = column("label_asym_id") or column("auth_asym_id") or [""] * count
    residues = column("label_comp_id") or column("auth_comp_id") or [""] * count
    models = column("pdbx_PDB_model_num") or ["1"] * count
    occupancies = column("occupancy") or ["1"] * count
    if {len(one) for one in (*axes, chains, residues, models, occupancies)} != {count}:
        raise ValueError("its table of atoms lacks columns")
    first = [place for place in range(count) if models[place] == models[0]]
    numbers = [[cif.as_number(values[place]) for place in first] for values in axes]
    return _AtomTable(
        np.array(numbers, dtype=np.float64).T.reshape(-1, 3),
        np.array([cif.as_number(occupancies[place], 1.0) for place in first], dtype=np.float64),
        [elements[place].upper() for place in first],
        [residues[place] for place in first],
        [chains[place] for place in first],
    )


def _read_pdb_atoms(structure: gemmi.Structure) -> _AtomTable:
    points, occupancies, elements, residues, chains = [], [], [], [], []
    for model in list(structure)[:1]:
        for chain in model:
            for residue in chain:
                for atom in residue:
                    points.append(atom.pos.tolist())
                    occupancies.append(atom.occ)
                    elements.append(atom.element.name.upper())
                    residues.append(residue.name)
                    chains.append(chain.name)
    places = np.array(points, dtype=np.float64).reshape(-1, 3)
    return _AtomTable(places, np.array(occupancies, np.float64), elements, residues, chains)


def _is_water(residue: str) -> bool:
    import gemmi

    return gemmi.find_tabulated_residue(residue).is_water()


def _scattering_factor(element: str) -> float:
    """Return an element's scattering factor at zero angle; unknown elements count as carbon."""
    import gemmi

    table = gemmi.Element(element).c4322 or gemmi.Element("C").c4322
    assert table is not None
    return float(table.calculate_sf(0.0))


def _choose_assembly(
    path: Path, assemblies: dict[str, list[ChainCopies]], wanted: str | None
) -> str | None:
    """Return the name of the assembly to build, or None for the atoms as they are."""
    if wanted == "none" or (wanted is None and not assemblies):
        return None
    name = next(iter(assemblies)) if wanted is None else wanted
    if name not in assemblies:
        known = f"its assemblies are {', '.join(assemblies)}" if assemblies else "it defines none"
        raise BadInput(f"{path} has no assembly {name!r}: {known}; or choose assembly none")
    return name
