"""Read the biological assemblies of an atomic model: which chains are copied, and how."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from heliodor.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Sequence

    import gemmi

    from heliodor.conventions import FloatArray

#: Maximum number of copies of a chain.
MOST_COPIES = 100_000


@dataclass(frozen=True)
class ChainCopies:
    """Some chains of an assembly and the operators that copy them."""

    chains: tuple[str, ...]
    """Names of the chains: label_asym_id in mmCIF, the chain's letter in PDB."""
    operators: tuple[FloatArray, ...]
    """One operator per copy, shape (3, 4) each: rotation and shift in angstrom."""


def read_mmcif_assemblies(block: gemmi.cif.Block) -> dict[str, list[ChainCopies]]:
    """Return the assemblies of an mmCIF file by name, in the file's order.

    Only the required columns are read; gemmi's own reader skips files that lack descriptive ones.

    Raises
    ------
    BadInput
        If an operator is missing or not a matrix, or there are too many copies. The message does
        not name the file.
    """
    items = "_pdbx_struct_assembly_gen.", ["assembly_id", "oper_expression", "asym_id_list"]
    assemblies: dict[str, list[ChainCopies]] = {}
    operators = _read_mmcif_operators(block)
    for row in block.find(*items):
        name, expression, chains = (row.str(column) for column in range(3))
        try:
            placed = _expand_operators(expression, operators)
        except KeyError as error:
            raise BadInput(f"assembly {name} needs operator {error}, which is missing") from error
        copies = ChainCopies(tuple(chains.replace(" ", "").split(",")), placed)
        assemblies.setdefault(name, []).append(copies)
    return assemblies


def read_pdb_assemblies(structure: gemmi.Structure) -> dict[str, list[ChainCopies]]:
    """Return the assemblies of a PDB file (REMARK 350) by name, in the file's order."""
    return {
        assembly.name: [
            ChainCopies(
                tuple(part.chains),
                tuple(_operator_matrix(operator.transform) for operator in part.operators),
            )
            for part in assembly.generators
        ]
        for assembly in structure.assemblies
    }


def _operator_matrix(transform: gemmi.Transform) -> FloatArray:
    return np.column_stack([transform.mat.tolist(), transform.vec.tolist()])


def _read_mmcif_operators(block: gemmi.cif.Block) -> dict[str, FloatArray]:
    columns = ["id"]
    for row in (1, 2, 3):
        columns += [f"matrix[{row}][{column}]" for column in (1, 2, 3)] + [f"vector[{row}]"]
    operators = {}
    for line in block.find("_pdbx_struct_oper_list.", columns):
        try:
            values = [float(line.str(place)) for place in range(1, 13)]
        except ValueError as error:
            raise BadInput(f"operator {line.str(0)} of its assemblies is not a matrix") from error
        operators[line.str(0)] = np.array(values).reshape(3, 4)
    return operators


def _expand_operators(expression: str, operators: dict[str, FloatArray]) -> tuple[FloatArray, ...]:
    """Return the operators of an expression such as ``1,2``, ``(1-60)`` or ``(X0)(1-5,11-15)``.

    For two groups, each operator of the first is applied after each operator of the second.
    """
    groups = re.findall(r"\(([^()]*)\)", expression) or [expression]
    ranges = [[_expand_range(part) for part in group.split(",")] for group in groups]
    counts = [sum(len(part) for part in group) for group in ranges]
    if math.prod(counts) > MOST_COPIES:
        raise BadInput(f"an assembly has more than {MOST_COPIES:,} copies of a chain")
    steps = [[operators[name] for part in group for name in part] for group in ranges]
    composed = steps[0]
    for more in steps[1:]:
        composed = _compose_operators(composed, more)
    return tuple(composed)


def _expand_range(part: str) -> Sequence[str]:
    first, dash, last = (piece.strip() for piece in part.partition("-"))
    if dash and first.isdecimal() and last.isdecimal():
        numbers = range(int(first), int(last) + 1)
        if len(numbers) > MOST_COPIES:
            raise BadInput(f"an assembly has more than {MOST_COPIES:,} copies of a chain")
        return [str(number) for number in numbers]
    return [part.strip()]


def _compose_operators(first: list[FloatArray], second: list[FloatArray]) -> list[FloatArray]:
    return [
        np.column_stack([a[:, :3] @ b[:, :3], a[:, :3] @ b[:, 3] + a[:, 3]])
        for a in first
        for b in second
    ]
