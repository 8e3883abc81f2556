"""The command `check`: find problems in micrographs, coordinates and models."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from scipy.spatial import cKDTree

from heliodor.data import star as blocks
from heliodor.data.coordinates.formats import (
    describe_formats,
    eman2,
    find_files,
    read_picks,
    relion_star,
)
from heliodor.data.coordinates.formats.filament_columns import HoldsFilaments
from heliodor.data.coordinates.frame_detection import judge_frame
from heliodor.data.coordinates.label_assignment import (
    LabeledSource,
    assign_labels,
    find_namesake,
    read_views_with_most_picks,
)
from heliodor.data.coordinates.labels import mask_outside
from heliodor.data.coordinates.picks import PIXEL_SIZE, Picks
from heliodor.data.coordinates.refined_shifts import apply_shifts_on
from heliodor.data.cryosparc_table import read_header as read_cs_header
from heliodor.data.filaments.filament import to_points
from heliodor.data.filaments.readers import describe_filament_formats, read_filaments
from heliodor.data.micrographs import cs_list, star_list
from heliodor.data.micrographs.headers import MicrographHeader, read_header
from heliodor.data.micrographs.micrograph import read_micrograph
from heliodor.data.micrographs.name_matching import match_names
from heliodor.data.micrographs.names import describe_other_image, is_micrograph_name
from heliodor.data.micrographs.sources import Source, find_sources, resolve_path
from heliodor.data.micrographs.working_images import (
    is_plausible_pixel_size,
    same_binning,
    same_pixel_size,
)
from heliodor.errors import BadInput
from heliodor.models.model_file import load_model
from heliodor.utils.files import find_referenced_file
from heliodor.workflows.settings import CheckSettings

Severity = Literal["error", "note", "good"]
#: Two picks closer than this are one particle picked twice.
DUPLICATE_PX = 2.0
#: Number of examples that are named for each problem.
EXAMPLES = 3


@dataclass(frozen=True)
class Diagnostic:
    """A problem, or a good property, of one of the files."""

    level: Severity
    #: The file, or the input as typed.
    where: str
    sentence: str


def check(
    inputs: Sequence[str | Path],
    micrographs: Sequence[str | Path] | None = None,
    settings: CheckSettings = CheckSettings(),
    progress: Callable[[int, int], None] | None = None,
) -> list[Diagnostic]:
    """Check files of any kind.

    Parameters
    ----------
    inputs
        Micrographs, STAR files of micrographs, coordinates, models; files, folders, patterns.
    micrographs
        The micrographs of the coordinates; by default those named in the coordinate files.

    Raises
    ------
    BadInput
        If an input matches no file.
    """
    findings: list[Diagnostic] = []
    given = None if micrographs is None else find_sources(list(micrographs))
    checked = _Checked()
    if given is not None:
        try:
            findings += _check_micrographs(given, checked, settings, progress)
        except BadInput as error:
            findings.append(Diagnostic("error", f"{len(given)} micrographs", str(error)))
    for one in inputs:
        findings += _check_input(str(one), given, checked, settings, progress)
    return findings


class _Checked:
    """The micrographs checked so far, which may be given more than once."""

    def __init__(self) -> None:
        self._keys: set[tuple[Path, float | None]] = set()
        self._headers: dict[Path, MicrographHeader | BadInput] = {}

    def add(self, sources: Sequence[Source]) -> list[Source]:
        """Return those that were not added before with the pixel size of the same list."""
        keys = {(resolve_path(s.path), s.pixel_size_angstrom): s for s in sources}
        new = [source for key, source in keys.items() if key not in self._keys]
        self._keys |= keys.keys()
        return new

    def read(self, source: Source, header_only: bool) -> MicrographHeader:
        """Read a micrograph, once.

        Raises
        ------
        BadInput
            If it cannot be used.
        """
        path = resolve_path(source.path)
        if path not in self._headers:
            try:
                self._headers[path] = _read(source, header_only)
            except BadInput as error:
                self._headers[path] = error
        found = self._headers[path]
        if isinstance(found, BadInput):
            raise found
        return found


def _read(source: Source, header_only: bool) -> MicrographHeader:
    if header_only:
        return read_header(source.path)
    micrograph = read_micrograph(source.path)
    height, width = micrograph.image.shape
    return MicrographHeader((height, width), micrograph.header_pixel_size_angstrom)


def _check_input(
    text: str,
    given: Sequence[Source] | None,
    checked: _Checked,
    settings: CheckSettings,
    progress: Callable[[int, int], None] | None,
) -> Iterator[Diagnostic]:
    path = Path(text)
    try:
        if path.suffix == ".safetensors":
            yield from _check_model(path)
        elif _lists_micrographs(text):
            if path.suffix.lower() == ".star":
                yield from _check_list(path)
            yield from _check_micrographs(find_sources(text), checked, settings, progress)
            yield from _note_unchecked(path)
        else:
            yield from _check_picks(text, given, settings)
    except BadInput as error:
        yield Diagnostic("error", text, str(error))


def _lists_micrographs(text: str) -> bool:
    """Return whether an input is of micrographs: by its name, or the columns of a STAR file."""
    path = Path(text)
    if text.startswith("@") or is_micrograph_name(text) or describe_other_image(text) is not None:
        return True
    if path.is_dir():
        return any(is_micrograph_name(p.name) for p in path.iterdir())
    if path.suffix.lower() == ".cs" and path.is_file():
        return cs_list.lists_micrographs(read_cs_header(path))
    if path.suffix.lower() != ".star" or not path.is_file():
        return False
    columns = {c for table in blocks.read_blocks(path).values() for c in table.columns}
    return star_list.NAME in columns and not {relion_star.X, relion_star.COORDINATE_FILE} & columns


def _note_unchecked(path: Path) -> Iterator[Diagnostic]:
    """Note coordinate files in a folder of micrographs, which are not checked."""
    names = [p.name for p in path.iterdir()] if path.is_dir() else []
    for suffix in (".box", ".cbox", eman2.SUFFIX, ".cs"):
        number = sum(name.endswith(suffix) for name in names)
        if number:
            yield Diagnostic(
                "note",
                str(path),
                f"{number} {suffix} files were not checked: give '{path}/*{suffix}' too",
            )


def _check_model(path: Path) -> Iterator[Diagnostic]:
    card = load_model(path).card
    yield Diagnostic(
        "good",
        str(path),
        f"{card.network}, width {card.width}, for particles of {card.diameter_angstrom:g} Å at"
        f" {card.working_pixel_size_angstrom:.3g} Å/pixel",
    )


def _check_list(path: Path) -> Iterator[Diagnostic]:
    """Check a list of micrographs for repeated rows."""
    tables = blocks.read_blocks(path)
    table, _ = blocks.find_tables(tables, (star_list.NAME,), star_list.BLOCKS)
    counts = Counter(map(str, () if table is None else table[star_list.NAME]))
    twice = [name for name, count in counts.items() for _ in range(count - 1)]
    if twice:
        yield Diagnostic(
            "error", str(path), f"{len(twice)} rows repeat a micrograph{_some(twice)}"
        )


def _check_micrographs(
    sources: Sequence[Source],
    checked: _Checked,
    settings: CheckSettings,
    progress: Callable[[int, int], None] | None,
) -> Iterator[Diagnostic]:
    """Read every micrograph, and compare pixel sizes in headers, STAR file and settings.

    Those that were checked before, with the same pixel size in their list, are left out.
    """
    sources = checked.add(sources)
    if not sources:
        return
    sizes: list[float] = []
    without_size, differing = [], []
    unreadable = 0
    for count, source in enumerate(sources, 1):
        try:
            header = checked.read(source, settings.headers_only)
        except BadInput as error:
            unreadable += 1
            yield Diagnostic("error", source.name, str(error))
        else:
            in_header = header.pixel_size_angstrom
            expected = settings.pixel_size_angstrom or source.pixel_size_angstrom
            if expected and in_header and not same_pixel_size(expected, in_header):
                differing.append(
                    f"{source.name}: {in_header:.4g} in the header, {expected:.4g} expected"
                )
            size = expected or in_header
            if size is None:
                without_size.append(source.name)
                continue
            sizes.append(size)
            if not is_plausible_pixel_size(size):
                yield Diagnostic(
                    "error", source.name, f"a pixel size of {size:g} Å is not plausible"
                )
        finally:
            if progress is not None:
                progress(count, len(sources))
    where = f"{len(sources)} micrographs"
    if without_size:
        yield Diagnostic(
            "note",
            where,
            f"{len(without_size)} have no pixel size{_some(without_size)}: give --pixel-size",
        )
    if differing:
        yield Diagnostic(
            "note",
            where,
            f"{len(differing)} have contradictory pixel sizes in Å{_some(differing)}",
        )
    if sizes and not same_pixel_size(min(sizes), max(sizes)):
        yield Diagnostic(
            "note", where, f"pixel sizes differ, from {min(sizes):.4g} to {max(sizes):.4g} Å"
        )
    yield Diagnostic("good", where, f"{len(sources) - unreadable} can be read")
    if settings.diameter_angstrom is not None and unreadable < len(sources):
        yield from _check_particles(where, sources, settings)


def _check_particles(
    where: str, sources: Sequence[Source], settings: CheckSettings
) -> Iterator[Diagnostic]:
    """Check whether the general model finds particles as large and as dark as they should be."""
    from heliodor.workflows.particle_check import find_particle_doubts  # imports torch

    assert settings.diameter_angstrom is not None
    doubts = find_particle_doubts(
        sources, settings.diameter_angstrom, settings.pixel_size_angstrom
    )
    for doubt in doubts:
        yield Diagnostic("error", where, doubt)
    if not doubts:
        yield Diagnostic(
            "good",
            where,
            f"nothing speaks against dark particles of {settings.diameter_angstrom:g} Å",
        )


def _check_picks(
    text: str, given: Sequence[Source] | None, settings: CheckSettings
) -> Iterator[Diagnostic]:
    files = find_files(text)
    try:
        picks = read_picks(files)
    except HoldsFilaments:
        yield from _check_filaments(text, files, given, settings)
        return
    yield Diagnostic(
        "good" if len(picks) else "note",
        text,
        f"{len(picks)} picks on {len(picks.micrographs)} micrographs ({describe_formats(files)})",
    )
    sources, matches = yield from _match_micrographs(text, picks, files[0], given)
    picks, notes = apply_shifts_on(picks, matches, settings.pixel_size_angstrom)
    namesake = find_namesake(picks.micrographs, sources, text)
    for note in notes if namesake is None else [*notes, namesake]:
        yield Diagnostic("note", text, note)
    headers = yield from _read_headers(matches)
    yield from _check_positions(text, picks, headers, settings)
    labelled = assign_labels(picks, sources)[0] if headers and len(picks) else []
    yield from _check_pixel_sizes(text, picks, matches, headers)
    if not settings.headers_only:
        yield from _check_frame(text, labelled)
    if settings.diameter_angstrom is not None and labelled:
        from heliodor.workflows.particle_check import find_label_doubts  # imports torch

        for doubt in find_label_doubts(
            labelled, settings.diameter_angstrom, settings.pixel_size_angstrom
        ):
            yield Diagnostic("error", text, doubt)


def _check_filaments(
    text: str, files: Sequence[Path], given: Sequence[Source] | None, settings: CheckSettings
) -> Iterator[Diagnostic]:
    """Describe filaments, and find those outside of their micrographs and wrong pixel sizes."""
    if settings.distance_angstrom is not None or settings.diameter_angstrom is not None:
        raise BadInput(
            "the input holds filaments; --distance and --diameter are for particles: leave them"
            " out"
        )
    table = read_filaments(files)
    points = to_points(table)
    lengths = [one.length_px for one in table]
    middle = f", half of them longer than {np.median(lengths):.0f} pixels" if lengths else ""
    yield Diagnostic(
        "good" if len(table) else "note",
        text,
        f"{len(table)} filaments on {len(table.micrographs)} micrographs{middle}"
        f" ({describe_filament_formats(files)}); train and pick them with --filaments",
    )
    _, matches = yield from _match_micrographs(text, points, files[0], given)
    headers = yield from _read_headers(matches)
    outside = [
        f"{count} on {name}"
        for name, own in table.split_by_micrograph()
        if name in headers
        if (count := sum(mask_outside(one.axis_px, headers[name].shape).any() for one in own))
    ]
    if outside:
        yield Diagnostic("error", text, f"filaments lie outside their micrographs{_some(outside)}")
    yield from _check_pixel_sizes(text, points, matches, headers)


def _match_micrographs(
    text: str, picks: Picks, file: Path, given: Sequence[Source] | None
) -> Generator[Diagnostic, None, tuple[list[Source], dict[str, Source]]]:
    """Return the micrographs, and those of each name in the picks; find names without one."""
    sources = _find_named_micrographs(picks, file) if given is None else list(given)
    matches = match_names(picks.micrographs, sources, picks.file_stems) if sources else {}
    missing = [name for name in picks.micrographs if name not in matches]
    if missing:
        level: Severity = "note" if not matches and given is None else "error"
        yield Diagnostic(level, text, f"{len(missing)} micrographs were not found{_some(missing)}")
    return sources, matches


def _read_headers(
    matches: Mapping[str, Source],
) -> Generator[Diagnostic, None, dict[str, MicrographHeader]]:
    """Return the headers of micrographs, and find those that cannot be read."""
    headers: dict[str, MicrographHeader] = {}
    for name, source in matches.items():
        try:
            headers[name] = read_header(source.path)
        except BadInput as error:
            yield Diagnostic("error", source.name, str(error))
    return headers


def _find_named_micrographs(picks: Picks, file: Path) -> list[Source]:
    """Return the micrographs that are named in coordinate files and exist."""
    named = [name for name in picks.micrographs if is_micrograph_name(name)]
    paths = ((name, find_referenced_file(name, file)) for name in named)
    return [Source(name, path, name) for name, path in paths if path is not None]


def _check_positions(
    text: str, picks: Picks, headers: dict[str, MicrographHeader], settings: CheckSettings
) -> Iterator[Diagnostic]:
    """Find picks outside of their micrographs, and duplicates."""
    outside, duplicates = [], []
    in_picks = picks.first_positive_values(PIXEL_SIZE)
    for name, table in picks.split_by_micrograph():
        if name in headers:
            count = int(np.count_nonzero(mask_outside(table.xy_px, headers[name].shape)))
            outside += [f"{count} on {name}"] if count else []
        distance_px = DUPLICATE_PX
        if settings.distance_angstrom is not None:
            header = headers.get(name)
            size = settings.pixel_size_angstrom or in_picks.get(name)
            size = size or (header.pixel_size_angstrom if header else None)
            if not size:
                raise BadInput(
                    f"the pixel size of {name} is not known, so --distance cannot be checked; give"
                    " --pixel-size"
                )
            distance_px = settings.distance_angstrom / size
        tree = cKDTree(table.xy_px)
        pairs = (tree.count_neighbors(tree, distance_px) - len(table)) // 2 if len(table) else 0
        duplicates += [f"{pairs} on {name}"] if pairs else []
    if outside:
        yield Diagnostic("error", text, f"picks lie outside their micrographs{_some(outside)}")
    if duplicates:
        yield Diagnostic(
            "error", text, f"pairs of picks are duplicates, by distance{_some(duplicates)}"
        )


def _check_pixel_sizes(
    text: str, picks: Picks, matches: dict[str, Source], headers: dict[str, MicrographHeader]
) -> Iterator[Diagnostic]:
    in_picks = picks.first_positive_values(PIXEL_SIZE)
    differing: list[str] = []
    recalibrated: list[str] = []
    for name, header in headers.items():
        size = matches[name].pixel_size_angstrom or header.pixel_size_angstrom
        if size and name in in_picks and not same_pixel_size(size, in_picks[name]):
            which = recalibrated if same_binning(size, in_picks[name]) else differing
            which.append(f"{name}: picks {in_picks[name]:.4g}, micrograph {size:.4g}")
    if differing:
        yield Diagnostic(
            "error",
            text,
            f"picks and micrographs have different pixel sizes in Å{_some(differing)}",
        )
    if recalibrated:
        yield Diagnostic(
            "note",
            text,
            "picks and micrographs have pixel sizes in Å of different calibration, which does not"
            f" change coordinates{_some(recalibrated)}",
        )


def _check_frame(text: str, labelled: Sequence[LabeledSource]) -> Iterator[Diagnostic]:
    """Compare the picks with the images that have the most."""
    views = read_views_with_most_picks((item.source, item.xy_px) for item in labelled)
    if views:
        verdict = judge_frame(views)
        level: Severity = "error" if verdict.is_wrong else "good" if verdict.is_decided else "note"
        yield Diagnostic(level, text, str(verdict))


def _some(examples: Sequence[str]) -> str:
    """Return the first few examples, in parentheses."""
    more = ", ..." if len(examples) > EXAMPLES else ""
    return f" ({', '.join(examples[:EXAMPLES])}{more})"
