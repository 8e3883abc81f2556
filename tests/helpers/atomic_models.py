"""Atomic models and maps that tests make themselves: a lobed body, written by hand."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import mrcfile
import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]

#: (center, semi-axes) of the lobes, angstrom: no symmetry, 112 A from end to end.
LOBES = (
    ((0.0, 0.0, 0.0), (24.0, 18.0, 20.0)),
    ((34.0, 10.0, 4.0), (16.0, 14.0, 12.0)),
    ((-30.0, 14.0, -16.0), (14.0, 18.0, 12.0)),
    ((-6.0, -26.0, 18.0), (12.0, 12.0, 16.0)),
)
ELEMENTS = ("C", "C", "C", "N", "O")


def body(spacing: float = 2.6, seed: int = 1) -> tuple[Points, list[str]]:
    """Return atoms as densely as in protein, shaken from a lattice, and their elements."""
    rng = np.random.default_rng(seed)
    lattice = np.arange(-60.0, 60.0, spacing)
    points = np.stack(np.meshgrid(lattice, lattice, lattice, indexing="ij"), axis=-1)
    points = points.reshape(-1, 3) + rng.uniform(-0.4, 0.4, (len(lattice) ** 3, 3)) * spacing
    inside = np.zeros(len(points), np.bool_)
    for centre, semi in LOBES:
        inside |= (((points - centre) / semi) ** 2).sum(axis=1) <= 1.0
    points = np.round(points[inside], 3)
    return points, [ELEMENTS[i] for i in rng.integers(0, len(ELEMENTS), len(points))]


def write_pdb(
    path: Path,
    points: Points,
    elements: Sequence[str],
    chains: Sequence[str] | None = None,
    remarks: Sequence[str] = (),
    residue: str = "ALA",
) -> Path:
    """Write atoms in the columns of the PDB format."""
    lines = list(remarks)
    for index, ((x, y, z), element) in enumerate(zip(points, elements, strict=True)):
        chain = "A" if chains is None else chains[index]
        number, serial = index // 5 % 9999 + 1, index % 99999 + 1
        lines.append(
            f"ATOM  {serial:5d}  {element:<3s} {residue:>3s} {chain}{number:4d}    "
            f"{x:8.3f}{y:8.3f}{z:8.3f}  1.00 20.00          {element:>2s}"
        )
    path.write_text("\n".join([*lines, "END", ""]))
    return path


OPERATORS = (
    ((1.0, 0.0, 0.0, 0.0), (0.0, 1.0, 0.0, 0.0), (0.0, 0.0, 1.0, 0.0)),
    ((-1.0, 0.0, 0.0, 110.0), (0.0, -1.0, 0.0, 0.0), (0.0, 0.0, 1.0, 15.0)),
)
"""The identity, and half a turn about z with a shift."""


def write_mmcif(
    path: Path,
    points: Points,
    elements: Sequence[str],
    subchains: Sequence[str] | None = None,
    assemblies: Sequence[tuple[str, str, str]] = (),
    extra: Sequence[str] = (),
) -> Path:
    """Write atoms, and assemblies of (name, operators, subchains), as mmCIF."""
    lines = ["data_TEST"]
    if assemblies:
        columns = "id details method_details oligomeric_details oligomeric_count"
        lines += ["loop_", *(f"_pdbx_struct_assembly.{column}" for column in columns.split())]
        lines += [f"{name} author_defined_assembly ? ? ?" for name, _, _ in assemblies]
        lines += [
            "loop_",
            "_pdbx_struct_assembly_gen.assembly_id",
            "_pdbx_struct_assembly_gen.oper_expression",
            "_pdbx_struct_assembly_gen.asym_id_list",
        ]
        lines += [f"{name} {operators} {chains}" for name, operators, chains in assemblies]
        lines += ["loop_", "_pdbx_struct_oper_list.id", "_pdbx_struct_oper_list.type"]
        for i in (1, 2, 3):
            lines += [f"_pdbx_struct_oper_list.matrix[{i}][{j}]" for j in (1, 2, 3)]
            lines.append(f"_pdbx_struct_oper_list.vector[{i}]")
        for number, rows in enumerate(OPERATORS, 1):
            lines.append(
                " ".join([str(number), "?", *(f"{value:g}" for row in rows for value in row)])
            )
    columns = "group_PDB id type_symbol label_atom_id label_alt_id label_comp_id label_asym_id"
    columns += " label_entity_id label_seq_id Cartn_x Cartn_y Cartn_z occupancy B_iso_or_equiv"
    columns += " auth_seq_id auth_asym_id pdbx_PDB_model_num"
    lines += ["loop_", *(f"_atom_site.{column}" for column in columns.split())]
    for index, ((x, y, z), element) in enumerate(zip(points, elements, strict=True)):
        chain = "A" if subchains is None else subchains[index]
        number = index // 5 + 1
        lines.append(
            f"ATOM {index + 1} {element} {element} . ALA {chain} 1 {number}"
            f" {x:.3f} {y:.3f} {z:.3f} 1.00 20.00 {number} {chain} 1"
        )
    path.write_text("\n".join([*lines, *extra, ""]))
    return path


def density(
    points: Points,
    weights: Points,
    sigma: float,
    voxel: float,
    corner: Points,
    shape: Sequence[int],
) -> NDArray[np.float32]:
    """Return the sum of Gaussians on a grid, shape (x, y, z): exact sums, one atom at a time."""
    grid = np.zeros(shape)
    reach = int(np.ceil(5.0 * sigma / voxel))
    steps = np.arange(-reach, reach + 1)
    for point, weight in zip((points - corner) / voxel, weights, strict=True):
        nearest = np.round(point).astype(int)
        parts = [
            np.exp(-0.5 * ((nearest[axis] + steps - point[axis]) * voxel / sigma) ** 2)
            for axis in range(3)
        ]
        window = tuple(slice(place - reach, place + reach + 1) for place in nearest)
        grid[window] += weight * parts[0][:, None, None] * parts[1][:, None] * parts[2]
    return grid.astype(np.float32)


def write_map(
    path: Path, grid: NDArray[np.float32], voxel: float, order: Sequence[int] = (1, 2, 3)
) -> Path:
    """Write a density, shape (x, y, z), with columns, rows and sections along axes `order`."""
    along = grid.transpose([order[2] - 1, order[1] - 1, order[0] - 1])
    # mrcfile warns of values that are not numbers.
    with warnings.catch_warnings(action="ignore"), mrcfile.new(path, overwrite=True) as mrc:
        mrc.set_data(np.ascontiguousarray(along))
        mrc.header.mapc, mrc.header.mapr, mrc.header.maps = order
        mrc.header.mx, mrc.header.my, mrc.header.mz = grid.shape
        mrc.header.cella = tuple(np.float32(side * voxel) for side in grid.shape)
        mrc.set_volume()
    return path
