"""What lists of micrographs say of each: its CTF fit, its motion, and other numbers."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from heliodor.data.cryosparc_table import (
    decode_texts,
    load_table,
    read_header,
    strip_export_mark,
)
from heliodor.data.micrographs import cs_list
from heliodor.data.micrographs.ctf import CtfParameters
from heliodor.data.micrographs.star_list import BLOCKS, NAME, OpticsGroups
from heliodor.data.star import find_tables, read_blocks
from heliodor.errors import BadInput
from heliodor.utils.parsing import parse_number, refuse_damaged

if TYPE_CHECKING:
    from heliodor.conventions import FloatArray

#: Columns of RELION and fields of cryoSPARC that have a name of their own: key, title and unit.
_KNOWN = {
    "rlnCtfMaxResolution": ("ctf_resolution", "CTF resolution", "Å"),
    "ctf_stats/ctf_fit_to_A": ("ctf_resolution", "CTF resolution", "Å"),
    "rlnCtfFigureOfMerit": ("ctf_fit", "CTF fit", ""),
    "ctf_stats/cross_corr": ("ctf_fit", "CTF fit", ""),
    "ctf_stats/ice_thickness_rel": ("ice", "Ice thickness", ""),
    "rlnMicrographIceThickness": ("ice", "Ice thickness", ""),
    "rlnAccumMotionTotal": ("motion", "Motion", "Å"),
    "rlnAccumMotionEarly": ("early_motion", "Early motion", "Å"),
    "rlnAccumMotionLate": ("late_motion", "Late motion", "Å"),
}
#: What the defocus, the CTF and the rest of the table of the app are made from, and what says
#: nothing of a micrograph to a person.
_HIDDEN = re.compile(
    r"rlnDefocus(U|V|Angle)|rlnCtfAstigmatism|rlnMicrograph(Original)?PixelSize"
    r"|uid|ctf/df1_A|ctf/df2_A|ctf/df_angle_rad|(.*/)?(idx|psize_A|.*_id|is_.*)"
    r"|(micrograph|movie|background|mscope|gain|rigid|spline)\w*/.*"
)
_RELION_CTF = (
    "rlnDefocusU", "rlnDefocusV", "rlnDefocusAngle", "rlnVoltage", "rlnSphericalAberration",
    "rlnAmplitudeContrast", "rlnPhaseShift",
)  # fmt: skip
_CRYOSPARC_CTF = (
    "ctf/df1_A", "ctf/df2_A", "ctf/df_angle_rad", "ctf/accel_kv", "ctf/cs_mm",
    "ctf/amp_contrast", "ctf/phase_shift_rad",
)  # fmt: skip
_MAX_COLUMNS = 30


@dataclass(frozen=True)
class AcquisitionColumn:
    """One number of each micrograph; micrographs may lack it."""

    key: str
    title: str
    #: Empty where it has none.
    unit: str
    #: By the micrograph's name in the list.
    values: Mapping[str, float]


@dataclass(frozen=True)
class Acquisition:
    """The numbers of all micrographs, and the CTF of those that have one."""

    columns: tuple[AcquisitionColumn, ...] = ()
    ctf: Mapping[str, CtfParameters] | None = None


def find_lists(inputs: Sequence[str]) -> list[Path]:
    """Return the STAR and .cs files among the micrographs that a user names.

    Parameters
    ----------
    inputs
        As of `find_sources`; text files of names (``@list.txt``) are followed.
    """
    lists, seen, waiting = list[Path](), set[str](), [*inputs]
    while waiting:
        text = waiting.pop(0)
        if text in seen:
            continue
        seen.add(text)
        if text.startswith("@"):
            try:
                lines = Path(text[1:]).read_text(encoding="utf-8-sig").splitlines()
            except (OSError, UnicodeDecodeError):
                continue  # `find_sources` reports it
            waiting += [line.strip() for line in lines if line.strip()[:1] not in ("", "#")]
        elif Path(text).suffix.lower() in (".star", ".cs"):
            lists.append(Path(text))
    return lists


def read_acquisition(lists: Sequence[Path]) -> Acquisition:
    """Read the numbers that lists of micrographs give.

    Parameters
    ----------
    lists
        STAR files of RELION and .cs files of cryoSPARC. Tables of particles, which name a
        micrograph more than once, say nothing of micrographs and are left out.

    Raises
    ------
    BadInput
        If a file cannot be read.
    """
    columns: dict[str, AcquisitionColumn] = {}
    ctf: dict[str, CtfParameters] = {}
    for path in lists:
        read = _read_star if path.suffix.lower() == ".star" else _read_cryosparc
        found = read(path)
        ctf |= found.ctf or {}
        for column in found.columns:
            before = columns.get(column.key)
            values = {**(before.values if before is not None else {}), **column.values}
            columns[column.key] = AcquisitionColumn(column.key, column.title, column.unit, values)
    shown = [column for column in columns.values() if _differs(column)]
    return Acquisition(tuple(shown[:_MAX_COLUMNS]), ctf)


def _differs(column: AcquisitionColumn) -> bool:
    """Return whether a column is of use: what the user looks for, or different values."""
    return bool(column.values) and (
        column.key in ("defocus", "ctf_resolution") or len({*column.values.values()}) > 1
    )


@refuse_damaged
def _read_star(path: str | Path) -> Acquisition:
    blocks = read_blocks(path)
    table, _ = find_tables(blocks, (NAME,), BLOCKS)
    if table is None:
        raise BadInput(f"{path} has no column _{NAME}: it does not list micrographs")
    names = [str(name) for name in table[NAME]]
    if len({*names}) < len(names):
        return Acquisition()
    groups = OpticsGroups.find(table, blocks.get("optics"), path)

    def of_group(label: str) -> FloatArray:
        own = groups.values(table, label)
        return np.array([math.nan if value is None else value for value in own])

    numbers = {
        label: np.array([parse_number(value) for value in table[label]])
        for label in table.columns
        if label != NAME
    }
    ctf = [numbers[own] if own in numbers else of_group(own) for own in _RELION_CTF]
    return _collect(names, numbers, ctf)


@refuse_damaged
def _read_cryosparc(path: str | Path) -> Acquisition:
    path = Path(path)
    fields = read_header(path).fields
    if cs_list.NAME not in fields:
        return Acquisition()
    table = load_table(path)
    names = [strip_export_mark(str(one)) for one in decode_texts(table[cs_list.NAME], path)]
    if len({*names}) < len(names):
        return Acquisition()
    numbers = {
        field: np.asarray(column, dtype=np.float64)
        for field, column in table.items()
        if column.ndim == 1 and column.dtype.kind in "iuf"
    }
    unknown = np.full(len(names), math.nan)
    ctf = [numbers.get(field, unknown) for field in _CRYOSPARC_CTF]
    for place in (2, 6):
        ctf[place] = np.degrees(ctf[place])
    return _collect(names, numbers, ctf)


def _collect(
    names: Sequence[str], numbers: Mapping[str, FloatArray], ctf: Sequence[FloatArray]
) -> Acquisition:
    """Return the columns of one table, the defocus first."""
    u, v = ctf[0], ctf[1]
    made = [
        ("defocus", "Defocus", "µm", 1e-4 * 0.5 * (u + v)),
        ("astigmatism", "Astigmatism", "Å", np.abs(u - v)),
    ]
    for label, values in numbers.items():
        if not _HIDDEN.fullmatch(label):
            key, title, unit = _KNOWN.get(label, (label, _spell_title(label), ""))
            made.append((key, title, unit, values))
    known = dict.fromkeys(key for key, _, _ in _KNOWN.values())
    order = {key: place for place, key in enumerate(known)}
    made[2:] = sorted(made[2:], key=lambda own: order.get(own[0], len(order)))
    columns = [
        AcquisitionColumn(
            key, title, unit,
            {n: float(x) for n, x in zip(names, values, strict=True) if math.isfinite(x)},
        )
        for key, title, unit, values in made
    ]  # fmt: skip
    return Acquisition(tuple(columns), _build_ctf(names, ctf))


def _build_ctf(names: Sequence[str], ctf: Sequence[FloatArray]) -> dict[str, CtfParameters]:
    found = {}
    for name, *values in zip(names, *ctf, strict=True):
        u, v, angle, voltage, aberration, amplitude, phase = map(float, values)
        known = all(map(math.isfinite, (u, v, voltage, aberration, amplitude)))
        # A wrong fit must not be drawn: rings of an overfocus would be at other places.
        if known and u > 0 and v > 0 and voltage > 0 and aberration >= 0 and 0 <= amplitude <= 1:
            angle, phase = (x if math.isfinite(x) else 0.0 for x in (angle, phase))
            found[name] = CtfParameters(u, v, angle, voltage, aberration, amplitude, phase)
    return found


def _spell_title(label: str) -> str:
    """Return a title for a column: rlnBeamTiltX -> Beam tilt X, ctf_stats/my_value -> My value."""
    if label.startswith("rln"):
        words = re.findall(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|\d+", label[3:])
    else:
        words = label.rpartition("/")[2].split("_")
    rest = [word if word.isupper() else word.lower() for word in words[1:]]
    first = words[0] if words and words[0].isupper() else "".join(words[:1]).capitalize()
    return " ".join([first, *rest]) or label
