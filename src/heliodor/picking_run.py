"""The command `pick`: a model and micrographs in, ranked picks out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from heliodor import __version__, console, quality
from heliodor.calibrating import calibrated, decoy_sample, with_probability
from heliodor.calibration import FEWEST_MICROGRAPHS, MicrographScores
from heliodor.compute import Compute
from heliodor.conventions import Image
from heliodor.files import output_folder
from heliodor.formats import relion
from heliodor.formats.text import write_picks
from heliodor.header import TIFF_NOTE, is_tiff
from heliodor.journal import Finished, Journal, digest, forget
from heliodor.model_file import Model, load_model
from heliodor.picking import PickSettings, images_for
from heliodor.picking_bulk import DecoySearch, Picked, pick_all
from heliodor.picks import Picks
from heliodor.preparation import WorkingImage, WorkingImages
from heliodor.record import Record, flat
from heliodor.series import write_series
from heliodor.sources import Inputs, Source, find_sources
from heliodor.threshold import sentences

if TYPE_CHECKING:
    from heliodor.evaluation import RegionJudge


def pick(
    model: str | Path,
    micrographs: Inputs,
    out: str | Path,
    settings: PickSettings = PickSettings(),
    pixel_size_angstrom: float | None = None,
    compute: Compute = Compute(),
    command_line: str = "",
    resume: bool = False,
) -> Picked:
    """Pick with a trained model and write the picks and ``run.json``.

    Writes a ``*_autopick.star`` a micrograph as soon as it is done, then ``autopick.star``
    and ``picks.tsv``, all in the pixels of the original files, and ``micrographs.tsv``.

    Parameters
    ----------
    resume
        Leave micrographs as they are that an earlier such run into the same folder has picked
        on with the same model and settings, and keep a journal for the next one.
    """
    arguments = {"model": model, "micrographs": micrographs, **flat(settings, compute)}
    arguments["pixel_size_angstrom"] = pixel_size_angstrom
    record = Record("pick", arguments, command_line)
    loaded = load_model(model)
    folder = output_folder(out)
    sources = find_sources(micrographs)
    images = images_for(loaded, pixel_size_angstrom)
    journal = None
    if resume:
        made_with: dict[str, Any] = {"heliodor": __version__}
        made_with["model"] = digest([Path(model).read_bytes()])
        made_with |= {**asdict(settings), "pixel_size_angstrom": pixel_size_angstrom}
        journal = Journal(folder, made_with)
    picked, _sizes = pick_step(
        loaded, sources, images, settings, folder, compute.start(), record, journal=journal
    )
    record.write(folder)
    return picked


def pick_step(
    model: Model,
    sources: Sequence[Source],
    images: WorkingImages,
    settings: PickSettings,
    folder: Path,
    device: torch.device,
    record: Record,
    judge: RegionJudge | None = None,
    journal: Journal | None = None,
) -> tuple[Picked, dict[str, float]]:
    """Pick as one stage of a longer run, which keeps the record; see `pick`.

    What a journal knows is left as it is; without one, an older one is out of date from here on.

    Returns
    -------
    Picked, dict
        The candidates, and the pixel size of each micrograph in angstrom.
    """
    threshold = settings.threshold_for(model)
    known = model.calibration
    record.used("picking", sources)
    chosen = settings.threshold is None and known is not None
    console.say(
        f"picking on {len(sources)} micrographs, particles of {model.card.diameter_angstrom:g} A,"
        + (" at a threshold of their own" if chosen else f" log-odds from {threshold:.2f}")
    )
    model.network.to(device)
    sizes: dict[str, float] = {}
    measured: dict[str, quality.Measured] = {}
    # Lists of an earlier run must not lie beside picks of this one, should it be interrupted.
    for name in ("autopick.star", "picks.tsv", quality.NAME, "run.json", "report.html"):
        (folder / name).unlink(missing_ok=True)

    search = None
    if known is not None and len(sources) >= FEWEST_MICROGRAPHS:
        search = DecoySearch(decoy_sample(s.name for s in sources), known.clear_above)
    finished = {}
    if journal is None:
        forget(folder)
    else:
        finished = _finished(journal, sources, folder, search)
        sizes |= {name: own.pixel_size_angstrom for name, own in finished.items()}
        measured |= {name: own.measured for name, own in finished.items()}
    if finished:
        console.say(f"{len(finished)} of them are done already and left as they are")
    files = {source.name: folder / _autopick(source) for source in sources}

    def done(
        image: WorkingImage,
        score: Image,
        own: Picks,
        scores: MicrographScores,
        found: quality.Measured,
    ) -> None:
        sizes[image.source.name] = image.pixel_size_angstrom
        measured[image.source.name] = found
        _write_one(files[image.source.name], with_probability(own, known), threshold)
        if judge is not None:
            judge.add(image, score)
        if journal is not None:
            journal.add(image.source, own, image.pixel_size_angstrom, scores, found)

    with record.stage("picking"), console.progress("picking") as progress:
        picked = pick_all(
            model, sources, images, settings, device, done, progress, finished, search
        )
    with record.stage("calibrating"):
        picked = calibrated(model, picked, settings)
    for failure in picked.failures:
        files[failure.name].unlink(missing_ok=True)
        console.warn(f"{failure.name} was left out: {failure.reason}")
    head = (
        []
        if picked.expected is None
        else sentences(picked.expected, settings.threshold, settings.max_fdr)
    )
    if known is not None:
        # Written before the threshold was chosen; a streaming reader has had a first version.
        for name, own in picked.candidates.by_micrograph():
            _write_one(files[name], own, picked.threshold, head)
    relion.write_autopick_list(folder, picked.picks, files, head)
    write_picks(folder / "picks.tsv", picked.candidates, picked.threshold, sizes)
    write_series(folder, picked, settings, files)
    record.failures += [f for f in picked.failures if f not in record.failures]
    counts = picked.picks.counts()
    record.results |= {
        "threshold": picked.threshold,
        "expected": None if picked.expected is None else picked.expected.as_dict(),
        "picks": int(counts.sum()),
        "picks_per_micrograph": dict(zip(picked.picks.micrographs, counts.tolist(), strict=True)),
    }
    found = sorted({f"{size:.4g}" for size in sizes.values()}, key=float)
    console.say(
        f"{counts.sum()} picks on {len(counts)} micrographs of {', '.join(found)} A a pixel, in"
        f" {folder}/autopick.star"
    )
    for sentence in head:
        console.say(sentence)
    picked = _looked_at(picked, measured, folder, record)
    if any(is_tiff(source.path.name) for source in sources):
        console.warn(TIFF_NOTE)
    return picked, sizes


def _looked_at(
    picked: Picked, measured: Mapping[str, quality.Measured], folder: Path, record: Record
) -> Picked:
    """Compare the micrographs with each other, write their table and say which stand out."""
    rows = quality.rows_of(picked.candidates, picked.threshold, measured)
    quality.write_micrographs(folder / quality.NAME, rows)
    record.results["outliers"] = [
        {"micrograph": row.name, "flags": list(row.flags)} for row in quality.outliers(rows)
    ]
    if (warning := quality.warning(rows)) is not None:
        record.notes.append(warning)
        console.warn(warning)
    if (sentence := quality.sentence(rows)) is not None:
        console.say(sentence)
    return replace(picked, quality=rows)


def _write_one(
    path: Path, candidates: Picks, threshold: float, comments: Sequence[str] = ()
) -> None:
    """Write the picks of one micrograph, as exact as picks.tsv."""
    chosen = candidates.select(candidates.score >= threshold)
    relion.write_one_autopick(path, chosen.rounded(), comments)


def _finished(
    journal: Journal, sources: Sequence[Source], folder: Path, search: DecoySearch | None
) -> dict[str, Finished]:
    """Return what a journal knows of micrographs whose picks still lie in the folder."""
    there = ((s.name, journal.get(s)) for s in sources if (folder / _autopick(s)).is_file())
    known = {name: own for name, own in there if own is not None}
    on: frozenset[str] = frozenset() if search is None else search.on
    # In another set of micrographs this one may not have been searched for decoys.
    return {n: own for n, own in known.items() if n not in on or own.scores.decoys is not None}


def _autopick(source: Source) -> str:
    return f"{source.output_stem}_autopick.star"
