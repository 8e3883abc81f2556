"""What `judge` is given: picks with their thresholds, micrographs, and the picker, if known."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from heliodor.conventions import FloatArray
from heliodor.data.coordinates.formats import CANDIDATES, mask_selected, read_picks
from heliodor.data.coordinates.labels import mask_repeated
from heliodor.data.coordinates.picks import Picks
from heliodor.data.coordinates.refined_shifts import apply_shifts_on
from heliodor.data.micrographs.name_matching import match_names
from heliodor.data.micrographs.sources import MicrographInputs, Source, find_sources
from heliodor.data.micrographs.working_images import Failure
from heliodor.errors import BadInput
from heliodor.models.model_file import Model
from heliodor.models.pretrained import load_model_for_picking
from heliodor.picking.micrograph_quality import NAME as TABLE
from heliodor.picking.micrograph_quality import read_levels
from heliodor.picking.recalibration import needs_decoys
from heliodor.picking.settings import PickSettings
from heliodor.reconstruction.micrograph_table import (
    JudgedMicrograph,
    MicrographTable,
    check_one_pixel_size,
    open_micrograph,
)
from heliodor.utils.console import count_of
from heliodor.utils.json_schema import model_of_dataclass, validate
from heliodor.workflows.adapt import NAME as ADAPTED
from heliodor.workflows.judge_settings import JudgeSettings

log = logging.getLogger(__name__)

#: Sets of picks with scores where no thresholds are known.
_SETS = 6
#: Fewer picks say nothing.
FEWEST_PICKS = 100


@dataclass(frozen=True)
class Picker:
    """What made the picks, so that it can look for false ones."""

    model: Model
    settings: PickSettings
    #: What it added to the log-odds on some micrographs, by their resolved paths.
    levels: Mapping[Path, float] = field(default_factory=dict)

    def levels_of(self, sources: Sequence[Source]) -> dict[str, float]:
        """Return what it added to the log-odds on micrographs, by their names."""
        return {s.name: self.levels.get(s.path.resolve(), 0.0) for s in sources}


@dataclass(frozen=True)
class JudgedPicks:
    """The picks to judge.

    Attributes
    ----------
    table
        Their micrographs; only those with picks.
    picks
        On these, under their names, those of the lowest threshold.
    thresholds
        At which sets begin, log-odds, falling; a single nan for picks without scores.
    picker
        None if it is not known.
    failures
        Micrographs that cannot be used.
    """

    table: MicrographTable
    picks: Picks
    thresholds: tuple[float, ...]
    picker: Picker | None
    failures: list[Failure]

    @property
    def pixel_size_angstrom(self) -> float:
        """Of the micrographs."""
        return self.table.micrographs[0].pixel_size_angstrom

    @property
    def sources(self) -> list[Source]:
        """The micrographs with picks."""
        return [micrograph.source for micrograph in self.table.micrographs]

    def indexed(self, picks: Picks) -> Picks:
        """Return picks with the indices of the table's micrographs."""
        return picks_on(picks, self.sources)


def read_judged_picks(
    where: str,
    micrographs: MicrographInputs,
    settings: JudgeSettings,
    pixel_size_angstrom: float | None,
    for_relion: bool = True,
) -> JudgedPicks:
    """Read picks and the micrographs that they are on.

    Parameters
    ----------
    where
        A folder of `heliodor pick`, or coordinates in any format.
    for_relion
        Whether RELION is to read the micrographs.

    Raises
    ------
    BadInput
        If a file cannot be used, none of the picks is on the micrographs, or there are too few.
    """
    sources = find_sources(micrographs)
    candidates = match_picks(read_picks(where, candidates=True), sources, where,
                             pixel_size_angstrom)  # fmt: skip
    thresholds = settings.thresholds or _read_series(Path(where))
    unscored = int(np.count_nonzero(np.isnan(candidates.score)))
    if 0 < unscored < len(candidates):
        raise BadInput(
            f"{where} has {unscored} of {len(candidates)} picks without a score; give all of them"
            " a score, or none"
        )
    if unscored:
        if settings.thresholds:
            raise BadInput(
                f"{where} has picks without scores; omit --thresholds", parameter="thresholds"
            )
        picks, thresholds = candidates, (np.nan,)
    else:
        thresholds = thresholds or _choose_thresholds(_selected_scores(candidates))
        picks = candidates.select(candidates.score >= thresholds[-1])
    check_number(len(picks), where)
    repeated = sum(int(mask_repeated(picks.xy_px[rows]).sum()) for _, rows in picks.rows())
    if repeated:
        log.warning(
            f"{repeated} of {len(picks)} picks in {where} repeat others, in the same pixel; they"
            " are judged as particles of their own"
        )
    usable, failures = _open_all(picks, sources, pixel_size_angstrom, for_relion)
    if not usable:
        reason = f": {failures[0].reason}" if failures else ""
        raise BadInput(f"none of the micrographs with picks can be used{reason}")
    check_one_pixel_size(usable)
    inputs = [micrographs] if isinstance(micrographs, str | Path) else micrographs
    stars = [Path(one) for one in inputs if str(one).lower().endswith(".star")]
    table = MicrographTable(usable, stars)
    picks = picks_on(picks, [micrograph.source for micrograph in usable])
    check_number(len(picks), where)
    return JudgedPicks(table, picks, thresholds, find_picker(Path(where)), failures)


def check_number(picks: int, where: str) -> None:
    """Refuse too few picks.

    Raises
    ------
    BadInput
        If there are fewer than `FEWEST_PICKS`.
    """
    if picks < FEWEST_PICKS:
        raise BadInput(
            f"{where} has {picks} picks at or above the lowest threshold on these micrographs; at"
            f" least {FEWEST_PICKS} are needed to judge them"
        )


def match_picks(
    picks: Picks, sources: Sequence[Source], where: str, pixel_size_angstrom: float | None
) -> Picks:
    """Return the picks on some micrographs, under the names of these.

    Raises
    ------
    BadInput
        If there are none.
    """
    matches = match_names(picks.micrographs, sources, picks.file_stems)
    picks, notes = apply_shifts_on(picks, matches, pixel_size_angstrom)
    for note in notes:
        log.warning(note)
    tables = [
        table.rename_micrographs([matches[name].name])
        for name, table in picks.split_by_micrograph()
        if name in matches
    ]
    missing = [
        (name, len(table))
        for name, table in picks.split_by_micrograph()
        if name not in matches and len(table)
    ]
    if missing and any(map(len, tables)):
        log.warning(
            f"{sum(count for _, count in missing)} of {len(picks)} picks in {where} are on"
            f" {count_of(len(missing), 'micrograph')} not given (such as {missing[0][0]}), and are"
            " not judged"
        )
    if not any(map(len, tables)):
        raise BadInput(
            f"{where} has no picks on the micrographs given: it has micrographs like"
            f" {next(iter(picks.micrographs), 'none')}, they are like {sources[0].name}"
        )
    return Picks.concatenate(tables)


def picks_on(picks: Picks, sources: Sequence[Source]) -> Picks:
    """Return the picks on some micrographs, in the order of these."""
    place = {source.name: index for index, source in enumerate(sources)}
    known = np.array([place.get(name, -1) for name in picks.micrographs], dtype=np.intp)
    index = known[picks.micrograph_index]
    rows = np.flatnonzero(index >= 0)
    rows = rows[np.argsort(index[rows], kind="stable")]
    return Picks(tuple(place), index[rows], picks.xy_px[rows], picks.score[rows])


def _open_all(
    picks: Picks,
    sources: Sequence[Source],
    pixel_size_angstrom: float | None,
    for_relion: bool,
) -> tuple[list[JudgedMicrograph], list[Failure]]:
    """Open the micrographs that have picks."""
    counts = dict(zip(picks.micrographs, picks.counts(), strict=True))
    opened, failures = list[JudgedMicrograph](), list[Failure]()
    for source in sources:
        if not counts.get(source.name):
            continue
        try:
            opened.append(open_micrograph(source, pixel_size_angstrom, for_relion))
        except BadInput as error:
            failures.append(Failure(source.name, str(error)))
    return opened, failures


def _selected_scores(candidates: Picks) -> FloatArray:
    """Return the scores of the picks among candidates."""
    return candidates.score[mask_selected(candidates)]


def _choose_thresholds(scores: FloatArray) -> tuple[float, ...]:
    """Return thresholds between which there are equal numbers of picks, falling."""
    falling = np.sort(scores)[::-1]
    places = np.ceil(len(falling) * np.arange(1, _SETS + 1) / _SETS).astype(int) - 1
    return tuple(dict.fromkeys(float(falling[place]) for place in places))


def _read_series(folder: Path) -> tuple[float, ...]:
    """Return the thresholds of a series of `heliodor pick`; none if there is no series."""
    path = folder / "series.tsv" if folder.is_dir() else folder.parent / "series.tsv"
    if not path.is_file() or not (folder.is_dir() or folder.name == CANDIDATES):
        return ()
    try:
        rows = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()]
        column = rows[0].index("threshold")
        values = [float(row[column]) for row in rows[1:]]
        if not np.isfinite(values).all():
            raise ValueError("a threshold is not finite")
    except (OSError, ValueError, IndexError) as error:
        raise BadInput(f"{path} is not a series of heliodor pick; give --thresholds") from error
    return tuple(sorted({*values}, reverse=True))


def find_picker(where: Path) -> Picker | None:
    """Return what picked the particles in a folder of heliodor, if its record and model exist."""
    folder = where if where.is_dir() else where.parent
    if not where.is_dir() and where.name != CANDIDATES:
        return None
    try:
        record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        command, arguments = record["command"], record["arguments"]
        base = Path(record["directory"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    if command not in ("pick", "run") or not isinstance(arguments, dict):
        return None
    try:
        model = _load_model(folder, base, command, arguments)
        names = {each.name for each in fields(PickSettings)} - {"mask"}
        given = {key: value for key, value in arguments.items() if key in names}
        validate(model_of_dataclass(PickSettings), given, "its record")
        mask = arguments.get("mask")
        masks = [str(base / one) for one in ([mask] if isinstance(mask, str) else mask or [])]
        levels = dict[Path, float]()
        if needs_decoys(model) and (folder / TABLE).exists():
            found = read_levels(folder / TABLE)
            levels = {(base / name).resolve(): level for name, level in found.items()}
        return Picker(model, PickSettings(**given, mask=masks or None), levels)
    except (BadInput, OSError, ValueError, TypeError) as error:
        log.warning(
            f"candidates with reversed contrast are not looked for, as the model of {folder}"
            f" cannot be used ({error})"
        )
        return None


def _load_model(folder: Path, base: Path, command: str, arguments: dict[str, Any]) -> Model:
    diameter = arguments.get("diameter_angstrom")
    if command == "run":
        return load_model_for_picking(folder / "model.safetensors", None)
    if arguments.get("adapt"):
        return load_model_for_picking(folder / ADAPTED, None)
    name = arguments.get("model")
    if name is None:
        return load_model_for_picking(None, diameter)
    path = base / name
    return load_model_for_picking(path if path.exists() else name, diameter)
