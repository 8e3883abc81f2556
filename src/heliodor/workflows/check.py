"""The command `check`: what is wrong with micrographs, coordinates and models, before use."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
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
from heliodor.data.coordinates.frame_detection import judge_frame
from heliodor.data.coordinates.label_assignment import LabeledSource, assign_labels
from heliodor.data.coordinates.labels import mask_outside
from heliodor.data.coordinates.picks import PIXEL_SIZE, Picks
from heliodor.data.micrographs import star_list
from heliodor.data.micrographs.headers import MicrographHeader, read_header
from heliodor.data.micrographs.micrograph import read_micrograph
from heliodor.data.micrographs.name_matching import match_names
from heliodor.data.micrographs.names import is_micrograph_name
from heliodor.data.micrographs.sources import Source, find_sources
from heliodor.data.micrographs.working_images import is_plausible_pixel_size, same_pixel_size
from heliodor.errors import BadInput
from heliodor.models.model_file import load_model
from heliodor.report.coordinate_preview import read_views_with_most_picks
from heliodor.utils.files import find_referenced_file

Severity = Literal["error", "note", "good"]
#: Picks nearer than this to each other are one particle picked twice.
DUPLICATE_PX = 2.0
#: No more examples than this are named of any one fault.
EXAMPLES = 3


@dataclass(frozen=True)
class Diagnostic:
    """One thing found out about one of the files."""

    level: Severity
    #: The file, or what was typed.
    where: str
    sentence: str


@dataclass(frozen=True)
class CheckSettings:
    """How to check."""

    #: Two picks on a micrograph nearer than this are duplicates; None takes 2 pixels.
    distance_angstrom: float | None = None
    pixel_size_angstrom: float | None = None
    #: Only the headers of micrographs are read, and no picture is looked at.
    headers_only: bool = False

    def __post_init__(self) -> None:
        for name in ("distance", "pixel_size"):
            value = getattr(self, f"{name}_angstrom")
            if value is not None and not 0 < value < 1e5:
                raise BadInput(f"a {name.replace('_', ' ')} of {value:g} A is not plausible")


def check(
    inputs: Sequence[str | Path],
    micrographs: Sequence[str | Path] | None = None,
    settings: CheckSettings = CheckSettings(),
    progress: Callable[[int, int], None] | None = None,
) -> list[Diagnostic]:
    """Check files of any kind; see `Diagnostic`.

    Parameters
    ----------
    inputs
        Micrographs, STAR files of micrographs, coordinates, models; files, folders, patterns.
    micrographs
        The micrographs that the coordinates are for; by default those they name, where found.

    Raises
    ------
    BadInput
        If an input means no file at all.
    """
    findings: list[Diagnostic] = []
    given = None if micrographs is None else find_sources(list(micrographs))
    if given is not None:
        findings += _of_micrographs(given, settings, progress)
    for one in inputs:
        findings += _of_input(str(one), given, settings, progress)
    return findings


def _of_input(
    text: str,
    given: Sequence[Source] | None,
    settings: CheckSettings,
    progress: Callable[[int, int], None] | None,
) -> Iterator[Diagnostic]:
    path = Path(text)
    try:
        if path.suffix == ".safetensors":
            yield from _of_model(path)
        elif _lists_micrographs(text):
            if path.suffix.lower() == ".star":
                yield from _of_list(path)
            yield from _of_micrographs(find_sources(text), settings, progress)
            yield from _passed_over(path)
        else:
            yield from _of_picks(text, given, settings)
    except BadInput as error:
        yield Diagnostic("error", text, str(error))


def _lists_micrographs(text: str) -> bool:
    """Tell whether an input means micrographs: by its name, or for a STAR file its columns."""
    path = Path(text)
    if text.startswith("@") or is_micrograph_name(text):
        return True
    if path.is_dir():
        return any(is_micrograph_name(p.name) for p in path.iterdir())
    if path.suffix.lower() != ".star" or not path.is_file():
        return False
    columns = {c for table in blocks.read_blocks(path).values() for c in table.columns}
    return star_list.NAME in columns and not {relion_star.X, relion_star.COORDINATE_FILE} & columns


def _passed_over(path: Path) -> Iterator[Diagnostic]:
    """Say which coordinates lie beside micrographs, as a folder's files are looked at as those."""
    names = [p.name for p in path.iterdir()] if path.is_dir() else []
    for suffix in (".box", ".cbox", eman2.SUFFIX, ".cs"):
        number = sum(name.endswith(suffix) for name in names)
        if number:
            yield Diagnostic(
                "note",
                str(path),
                f"{number} {suffix} files were not looked at: give '{path}/*{suffix}' too",
            )


def _of_model(path: Path) -> Iterator[Diagnostic]:
    card = load_model(path).card
    yield Diagnostic(
        "good",
        str(path),
        f"a {card.network} of width {card.width} for particles of {card.diameter_angstrom:g} A at"
        f" {card.working_pixel_size_angstrom:.3g} A a pixel",
    )


def _of_list(path: Path) -> Iterator[Diagnostic]:
    """Check what only the table knows: rows that are there twice, files that are not there."""
    table = next(b for b in blocks.read_blocks(path).values() if star_list.NAME in b)
    counts = Counter(map(str, table[star_list.NAME]))
    twice = [name for name, count in counts.items() for _ in range(count - 1)]
    if twice:
        yield Diagnostic(
            "error", str(path), f"{len(twice)} rows repeat a micrograph{_some(twice)}"
        )


def _of_micrographs(
    sources: Sequence[Source],
    settings: CheckSettings,
    progress: Callable[[int, int], None] | None,
) -> Iterator[Diagnostic]:
    """Read every micrograph, and compare what headers, STAR file and user say of pixel sizes."""
    sizes: list[float] = []
    nameless, differing = [], []
    bad = 0
    for number, source in enumerate(sources, 1):
        try:
            header = _read(source, settings.headers_only)
        except BadInput as error:
            bad += 1
            yield Diagnostic("error", source.name, str(error))
        else:
            own = header.pixel_size_angstrom
            said = settings.pixel_size_angstrom or source.pixel_size_angstrom
            if said and own and not same_pixel_size(said, own):
                differing.append(f"{source.name}: {own:.4g} in its header, {said:.4g} else")
            size = said or own
            if size is None:
                nameless.append(source.name)
                continue
            sizes.append(size)
            if not is_plausible_pixel_size(size):
                yield Diagnostic("error", source.name, f"{size:g} A a pixel is not plausible")
        finally:
            if progress is not None:
                progress(number, len(sources))
    where = f"{len(sources)} micrographs"
    if nameless:
        yield Diagnostic(
            "note",
            where,
            f"{len(nameless)} have no pixel size{_some(nameless)}: give --pixel-size",
        )
    if differing:
        yield Diagnostic(
            "note", where, f"{len(differing)} have two pixel sizes, in angstrom{_some(differing)}"
        )
    if sizes and not same_pixel_size(min(sizes), max(sizes)):
        yield Diagnostic(
            "note", where, f"pixel sizes differ, from {min(sizes):.4g} to {max(sizes):.4g} A"
        )
    yield Diagnostic("good", where, f"{len(sources) - bad} can be read")


def _read(source: Source, header_only: bool) -> MicrographHeader:
    if header_only:
        return read_header(source.path)
    micrograph = read_micrograph(source.path)
    height, width = micrograph.image.shape
    return MicrographHeader((height, width), micrograph.header_pixel_size_angstrom)


def _of_picks(
    text: str, given: Sequence[Source] | None, settings: CheckSettings
) -> Iterator[Diagnostic]:
    files = find_files(text)
    picks = read_picks(files)
    yield Diagnostic(
        "good",
        text,
        f"{len(picks)} picks on {len(picks.micrographs)} micrographs ({describe_formats(files)})",
    )
    sources = _existing(picks, files[0]) if given is None else list(given)
    found = match_names(picks.micrographs, sources) if sources else {}
    missing = [name for name in picks.micrographs if name not in found]
    if missing:
        level: Severity = "note" if not found and given is None else "error"
        yield Diagnostic(level, text, f"{len(missing)} micrographs are not there{_some(missing)}")
    headers: dict[str, MicrographHeader] = {}
    for name, source in found.items():
        try:
            headers[name] = read_header(source.path)
        except BadInput as error:
            yield Diagnostic("error", source.name, str(error))
    yield from _of_places(text, picks, headers, settings)
    labelled = assign_labels(picks, sources)[0] if headers and len(picks) else []
    yield from _of_sampling(text, picks, found, headers)
    if not settings.headers_only:
        yield from _of_frame(text, labelled)


def _existing(picks: Picks, file: Path) -> list[Source]:
    """Return the micrographs that picks name, where they are found as those of a STAR file."""
    named = [name for name in picks.micrographs if is_micrograph_name(name)]
    found = ((name, find_referenced_file(name, file)) for name in named)
    return [Source(name, path, name) for name, path in found if path is not None]


def _of_places(
    text: str, picks: Picks, headers: dict[str, MicrographHeader], settings: CheckSettings
) -> Iterator[Diagnostic]:
    """Look for picks outside of their micrographs, and for particles picked twice."""
    lost, twice = [], []
    said = picks.first_positive_values(PIXEL_SIZE)
    for name, own in picks.split_by_micrograph():
        if name in headers:
            number = int(np.count_nonzero(mask_outside(own.xy_px, headers[name].shape)))
            lost += [f"{number} on {name}"] if number else []
        reach = DUPLICATE_PX
        if settings.distance_angstrom is not None:
            header = headers.get(name)
            size = settings.pixel_size_angstrom or said.get(name)
            size = size or (header.pixel_size_angstrom if header else None)
            if not size:
                raise BadInput(
                    f"the pixel size of {name} is not known, so no --distance in angstrom can be"
                    " checked; give --pixel-size"
                )
            reach = settings.distance_angstrom / size
        tree = cKDTree(own.xy_px)
        pairs = (tree.count_neighbors(tree, reach) - len(own)) // 2 if len(own) else 0
        twice += [f"{pairs} on {name}"] if pairs else []
    if lost:
        yield Diagnostic("error", text, f"picks lie outside their micrographs{_some(lost)}")
    if twice:
        yield Diagnostic(
            "error", text, f"pairs of picks are one particle, by distance{_some(twice)}"
        )


def _of_sampling(
    text: str, picks: Picks, found: dict[str, Source], headers: dict[str, MicrographHeader]
) -> Iterator[Diagnostic]:
    said = picks.first_positive_values(PIXEL_SIZE)
    differing = []
    for name, header in headers.items():
        size = found[name].pixel_size_angstrom or header.pixel_size_angstrom
        if size and name in said and not same_pixel_size(size, said[name]):
            differing.append(f"{name}: picks {said[name]:.4g}, micrograph {size:.4g}")
    if differing:
        yield Diagnostic(
            "error",
            text,
            f"the picks are in pixels of another size, in angstrom{_some(differing)}",
        )


def _of_frame(text: str, labelled: Sequence[LabeledSource]) -> Iterator[Diagnostic]:
    """Look at the pictures with most picks."""
    views = read_views_with_most_picks((item.source, item.xy_px) for item in labelled)
    if views:
        verdict = judge_frame(views)
        level: Severity = "error" if verdict.is_wrong else "good" if verdict.is_decided else "note"
        yield Diagnostic(level, text, str(verdict))


def _some(examples: Sequence[str]) -> str:
    """Return the first few examples, in brackets."""
    more = ", ..." if len(examples) > EXAMPLES else ""
    return f" ({', '.join(examples[:EXAMPLES])}{more})"
