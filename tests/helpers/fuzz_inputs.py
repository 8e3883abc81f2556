"""More kinds of wrong files: of filaments, settings, masks, corrections, notes and projects.

`KINDS` has these and all of `fuzz`.
"""

from __future__ import annotations

import functools
import io
import json
from dataclasses import asdict, replace
from pathlib import Path
from random import Random
from typing import Any
from unittest import mock

import numpy as np
from PIL import Image, PngImagePlugin

from heliodor.app.candidates import (
    Candidates,
    PickingRecord,
    read_candidates,
    write_candidates,
)
from heliodor.app.micrograph_list import NAME as LIST
from heliodor.app.micrograph_list import read_list, write_list
from heliodor.app.server.annotations import ID_COLUMN, Annotations
from heliodor.app.server.authorship import NAME as AUTHORS
from heliodor.app.server.authorship import Authorship
from heliodor.app.server.filament_labels import FILES, FilamentLabels
from heliodor.app.server.project import ProjectSettings, read_settings
from heliodor.data.coordinates import formats, writers
from heliodor.data.coordinates.writers import WriteContext
from heliodor.data.filaments.filament import Filament, Filaments, to_points
from heliodor.data.filaments.readers import describe_filament_formats, read_filaments
from heliodor.data.filaments.segments import cut_segments
from heliodor.data.filaments.writers import FORMATS as FILAMENT_FORMATS
from heliodor.data.filaments.writers import write_filaments
from heliodor.data.micrographs.acquisition import find_lists, read_acquisition
from heliodor.data.micrographs.sources import Source, read_names
from heliodor.errors import BadInput
from heliodor.integrations import project_check
from heliodor.models.filament_model_file import (
    FilamentModel,
    load_filament_model,
    save_filament_model,
)
from heliodor.picking.claims import Member
from heliodor.picking.contamination import PIXEL_SIZE_TEXT
from heliodor.picking.corrections import Corrections
from heliodor.picking.filaments.batch import TracedMicrograph
from heliodor.picking.filaments.codec import FILAMENTS
from heliodor.picking.filaments.refinement import ScoredAxis
from heliodor.picking.filaments.settings import FilamentSettings
from heliodor.picking.filaments.width import profile_positions
from heliodor.picking.joined_journals import FOLDER, JOB
from heliodor.picking.journal import NAME as JOURNAL
from heliodor.picking.journal import Journal
from heliodor.picking.micrograph_quality import MicrographMeasurements
from heliodor.picking.settings import PickSettings
from heliodor.picking.user_masks import UserMasks, read_mask
from heliodor.workflows import picking_job
from heliodor.workflows.convert import convert
from heliodor.workflows.evaluate_filaments import evaluate_filament_files
from heliodor.workflows.judge_inputs import find_picker, read_judged_picks
from heliodor.workflows.judge_settings import JudgeSettings
from heliodor.workflows.models import describe_model, render_table
from heliodor.workflows.picking_job import PickingJob
from heliodor.workflows.picking_setup import PickRequest
from heliodor.workflows.picking_status import read_status, render_status
from heliodor.workflows.settings import CheckSettings, ConversionSettings
from heliodor.workflows.site_settings import SettingsFile
from heliodor.workflows.submissions import SUBMITTED, Step, Submission
from heliodor.workflows.tracing_setup import FilamentRequest
from helpers import corpus, fuzz
from helpers.filaments import random_filament_model
from helpers.file_bytes import written

#: The pixel size and the width of what is written here, in angstrom.
_PIXEL, _WIDTH = 1.5, 12.0
#: Sides (height, width) of the micrographs.
_SHAPE = (40, 48)
_NAMES = ("good.mrc", "other.mrc")


def _sources() -> list[Source]:
    return [Source(name, Path(name), Path(name).stem) for name in _NAMES]


# -------------------------------------------------------------------------- filaments


def filaments(names: tuple[str, ...] = _NAMES) -> Filaments:
    """Return two filaments on each micrograph."""
    first = np.array([[4.0, 6.0], [15.5, 8.25], [30.0, 14.0], [44.0, 15.0]])
    found = [
        Filament(name, axis, tube, _WIDTH, np.linspace(2.0, 0.5, len(axis)))
        for name in names
        for tube, axis in enumerate((first, first[:2] + 12.5), 1)
    ]
    sizes = dict.fromkeys(names, _PIXEL)
    return Filaments(names, tuple(found), sizes, dict.fromkeys(names, _SHAPE))


def _written_as(form: str, table: Filaments) -> bytes:
    """Return filaments in a format."""
    wanted = FILAMENT_FORMATS[form]
    context = WriteContext(
        box_px=8 if form in ("box", "helix", "cbox") else None,
        shapes=dict(table.shapes),
        pixel_sizes=dict(table.pixel_sizes),
    )
    return written(
        f"all{wanted.suffix}", lambda path: wanted.write(path, to_points(table), context)
    )


@functools.cache
def _filament_files() -> dict[str, bytes]:
    """Return filaments in each format that can be read."""
    one = filaments(("good.mrc",))
    segments = cut_segments(filaments(), 6.0)
    return {
        "filaments.star": _written_as("filaments", filaments()),
        "good_manualpick.star": _written_as("start-end", one),
        "segments.star": written(
            "segments.star",
            lambda path: writers.write_picks(path, segments, writers.FORMATS["star"]),
        ),
        "good.box": _written_as("box", one),
        "good_helix_ptcl_coords.txt": _written_as("helix", one),
        "good.cbox": _written_as("cbox", one),
        "filaments.cs": _written_as("cs", filaments()),
    }


def _pair_files() -> dict[str, bytes]:
    """Return files whose rows are pairs of ends, which look like those of particles."""
    head = b"data_\nloop_\n_rlnCoordinateX #1\n_rlnCoordinateY #2\n"
    return {
        "good_manualpick.star": head + b"4 6\n30 14\n30 14\n44 15\n8 20\n20 25\n",
        "good.txt": b"4 6\n30 14\n8 20\n20 25\n",
    }


def _filaments_changed(raw: bytes, random: Random) -> bytes:
    """Change a file of filaments as one of its format, or the numbers that join its rows."""
    if random.random() < 0.25 and not raw.startswith(b"\x93"):
        number = random.choice(fuzz.NUMBERS).encode("utf-8", "surrogatepass")
        rows = raw.split(b"\n")
        place = random.randrange(len(rows))
        parts = rows[place].split()
        if len(parts) > 1:
            parts[-1 if random.random() < 0.5 else random.randrange(len(parts))] = number
            rows[place] = b" ".join(parts)
        return b"\n".join(rows)
    return fuzz.any_changed(raw, random)


def _as_filaments(path: Path, start_end: bool = False) -> Any:
    """Read filaments, and write in turn each format of what was read."""
    table = read_filaments(path, start_end)
    describe_filament_formats([path], start_end)
    assert all(np.isfinite(one.axis_px).all() for one in table)
    assert len({(one.micrograph, one.tube_id) for one in table}) == len(table)
    for name in table.micrographs:
        name.encode()
        assert name.strip()
        assert not any(ord(c) < 32 for c in name), f"a name {name!r}"
    points = sum(len(one.axis_px) for one in table)
    if points > 2000 or sum(one.length_px for one in table) > 1e6:
        return table
    out = path.parent / "out"
    wanted = list(FILAMENT_FORMATS.values())[path.stat().st_size % len(FILAMENT_FORMATS)]
    place = out / wanted.name if wanted.file_of else out / f"all{wanted.suffix}"
    sizes = dict.fromkeys(table.micrographs, _PIXEL) | dict(table.pixel_sizes)
    shapes = dict.fromkeys(table.micrographs, _SHAPE) | dict(table.shapes)
    try:
        context = WriteContext(box_px=8, shapes=shapes, pixel_sizes=sizes)
        write_filaments(place, to_points(table), wanted, context)
    finally:
        fuzz.empty(out)
    return table


def _as_pairs(path: Path) -> Any:
    return _as_filaments(path, start_end=True)


def _as_particles(path: Path) -> Any:
    """Read a file where particles are expected."""
    return formats.read_picks(path)


def _as_converted(path: Path) -> Any:
    """Convert a file of filaments with the command's options, in turn."""
    size, out = path.stat().st_size, Path.cwd() / "out"
    to = ("filaments", "start-end", "box", "helix", "cbox", "cs", "star", "csv")[size % 8]
    settings = ConversionSettings(
        box_px=8 if to in ("box", "helix", "cbox") else None,
        segments_angstrom=6.0 if to in ("star", "csv") or size // 8 % 2 else None,
        shape=_SHAPE,
        pixel_size_angstrom=_PIXEL,
    )
    place = out / to if to in ("start-end", "box", "helix", "cbox") else out / f"all.{to[-4:]}"
    micrographs = [*_NAMES] if size // 16 % 2 else None
    try:
        with fuzz.writing_only(out):
            convert([path], place, to, settings, micrographs)
    finally:
        fuzz.empty(out)


def _as_checked(path: Path) -> Any:
    for micrographs in (None, [*_NAMES]):
        found = project_check.check([path], micrographs, CheckSettings(headers_only=True))
        assert all(one.sentence and one.where for one in found)


def _as_evaluated(path: Path) -> Any:
    """Compare a file of filaments with true ones, in both orders."""
    truth = path.parent / "true.star"
    truth.write_bytes(_filament_files()["filaments.star"])
    for found, true in ((path, truth), (truth, path)):
        score = evaluate_filament_files(found, true, 5.0, pixel_size_angstrom=_PIXEL)
        json.dumps(score.as_dict(), allow_nan=False)


def _as_labels_of_app(path: Path) -> Any:
    """Open a project of filaments whose labels are a file."""
    folder = path.parent / "app"
    folder.mkdir(exist_ok=True)
    (folder / FILES["label"]).write_bytes(path.read_bytes())
    try:
        FilamentLabels(folder, _WIDTH).micrographs("label")
    finally:
        fuzz.empty(folder)


# -------------------------------------------------------------------------- models and journals


@functools.cache
def _filament_models() -> dict[str, bytes]:
    def write(model: FilamentModel) -> bytes:
        return written("m.safetensors", lambda path: save_filament_model(path, model))

    model = random_filament_model()
    card = replace(
        model.card,
        width_angstrom=60.0,
        training_micrographs=[*_NAMES],
        labelled_filaments=4,
        labelled_length_angstrom=900.0,
        extra={"epochs": [1.0, 0.5]},
    )
    return {
        "any_width.safetensors": write(model),
        "trained.safetensors": write(FilamentModel(model.network, card)),
    }


def _as_shown(path: Path) -> Any:
    return render_table(describe_model(path)).encode()


_MADE_WITH = {"heliodor": "0.1", "model": "ab", "filaments": True}


def _traced(name: str) -> TracedMicrograph:
    axes = tuple(ScoredAxis(one.axis_px, one.scores) for one in filaments((name,)))
    profile = np.linspace(0.0, 1.0, len(profile_positions()))
    profile[3] = np.nan
    return TracedMicrograph(name, _PIXEL, _SHAPE, axes, profile, 60.0)


@functools.cache
def _filament_journals() -> dict[str, bytes]:
    return {JOURNAL: fuzz.journal_of(_MADE_WITH, FILAMENTS, _traced)}


def _as_resumed(path: Path) -> Any:
    """Go on with a journal of tracing: what it says is of use, and it keeps what is added."""
    folder = path.parent
    journal = Journal(folder, _MADE_WITH, FILAMENTS)
    for source in _sources():
        if journal.has(source):
            found = journal.get(source.name)
            assert np.isfinite(found.lengths_angstrom()).all()
            assert np.isfinite(found.scores()).all()
            assert found.name == source.name
    for source in _sources():
        journal.mark_started(source.name, False)
        journal.add(source, _traced(source.name), fuzz.version_of(source.path))
    again = Journal(folder, _MADE_WITH, FILAMENTS)
    assert all(again.has(source) for source in _sources())
    return again


# ---------------------------------------------------------------------- settings, corrections


def _site_files() -> dict[str, bytes]:
    return {
        "heliodor.toml": b'# site\n[cluster]\npartition = "gpu"\ngpus = 1\ntime = 240\n'
        b'memory = 16.5\nsetup = ["module load cuda", "ulimit -n 4096"]\n'
    }


def _as_site_settings(path: Path) -> Any:
    values = SettingsFile("site", path).read()
    json.dumps(values, allow_nan=False)
    return values


def _offset_files() -> dict[str, bytes]:
    return {
        "offsets.txt": b"0.5\tgood.mrc\n-1.25\tother.mrc\n",
        "o.txt": b"2 good.mrc\n",
    }


def _as_offsets(path: Path) -> Any:
    found = Corrections.read(None, None, _sources(), path)
    assert found.offsets.keys() <= {*_NAMES}
    again = Corrections.from_lists(json.loads(json.dumps(found.as_lists(), allow_nan=False)))
    assert dict(again.offsets) == dict(found.offsets)
    return found


def _as_excluded(path: Path) -> Any:
    return read_names(path)


def _positions() -> dict[str, bytes]:
    """Return coordinates whose names belong to one micrograph each."""
    return {k: v for k, v in fuzz._coordinates().items() if k != "good_autopick.star"}


def _as_corrections(path: Path) -> Any:
    """Read coordinates as particles, and as negatives, that picking is to take over."""
    for labels, negatives in ((path, None), (None, path)):
        found = Corrections.read(labels, negatives, _sources())
        for xy in (*found.particles.values(), *found.negatives.values()):
            assert np.isfinite(xy).all()
        found.without_cut_boxes(_sources(), 8)


def _micrograph_lists() -> dict[str, bytes]:
    return {k: v for k, v in fuzz._star_lists().items() if k != "autopick.star"}


def _as_acquisition(path: Path) -> Any:
    return read_acquisition(find_lists([str(path), "@list.txt"]))


@functools.cache
def _masks() -> dict[str, bytes]:
    mask = np.zeros(_SHAPE, np.uint8)
    mask[10:20, 8:30] = 255
    sized = PngImagePlugin.PngInfo()
    sized.add_text(PIXEL_SIZE_TEXT, "3.0")

    def png(image: Image.Image, info: Any = None) -> bytes:
        out = io.BytesIO()
        image.save(out, "PNG", pnginfo=info)
        return out.getvalue()

    return {
        "good.png": png(Image.fromarray(mask)),
        "other.png": png(Image.fromarray(mask[::2, ::2]), sized),
        "M/other.png": png(Image.fromarray(mask).convert("P")),
    }


def _mask_maps() -> dict[str, bytes]:
    mask = (np.arange(_SHAPE[0] * _SHAPE[1]).reshape(_SHAPE) % 7 == 0).astype(np.int8)
    return {"good.mrc": corpus.mrc(mask)}


def _as_mask(path: Path) -> Any:
    """Find masks in a folder, as `--mask` does, and read them."""
    folder = path.parent / "masks"
    folder.mkdir(exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    own = folder / path.name
    own.write_bytes(path.read_bytes())
    named = path.parent / "good.mrc"
    if path == named:  # the micrograph itself is as it was
        named.write_bytes(fuzz._mrc())
    masks = UserMasks.find(str(folder), _sources())
    masks.fingerprints()
    for file in masks.files.values():
        mask, size = read_mask(file)
        assert mask.ndim == 2
        assert size is None or 0 < size < float("inf")
    return masks


# -------------------------------------------------------------------------- what is judged


def _series() -> dict[str, bytes]:
    head = b"folder\tthreshold\tpicks\tpicks_per_micrograph\n"
    return {"judged/series.tsv": head + b"1\t2.0\t3\t1.5\n2\t0.5\t5\t2.5\n3\t-1.0\t6\t3.0\n"}


def _picked_records() -> dict[str, bytes]:
    records = fuzz.records()
    return {f"judged/{name}": records[name] for name in ("pick.json", "run.json")}


def _as_judged(path: Path) -> Any:
    """Read picks to judge from a folder with the file, which has this name there."""
    folder = path.parent
    if path.suffix == ".json":
        path = path.replace(folder / "run.json")
    fuzz.put(folder / "picks.tsv", _many_picks())
    if path.suffix == ".json":
        return find_picker(folder)
    return read_judged_picks(str(folder), [*_NAMES], JudgeSettings(24.0, quick=True), None, False)


@functools.cache
def _many_picks() -> bytes:
    """Return enough picks to be judged."""
    random = np.random.default_rng(2)
    rows = [
        f"{name}\t{x:.2f}\t{y:.2f}\t{score:.3f}\t1"
        for name in _NAMES
        for x, y, score in random.uniform((8, 8, -1), (40, 32, 3), (400, 3))
    ]
    head = "micrograph\tx_px\ty_px\tscore\tselected"
    return "\n".join([head, *rows, ""]).encode()


# -------------------------------------------------------------------------- parts of a job


def _jobs() -> dict[str, bytes]:
    """Return the notes of processes that pick together."""
    particles = PickRequest("m.safetensors", [*_NAMES], PickSettings())
    traced = FilamentRequest(
        None, [*_NAMES], FilamentSettings(filaments=True, width_angstrom=60.0)
    )
    out = {}
    for place, request in {"P1": particles, "P2": traced}.items():
        job = PickingJob.create(request, "ab", _sources(), "out", "heliodor pick")
        value = {name: getattr(job, name) for name in job.__dataclass_fields__}
        value["directory"] = "."
        out[f"{place}/{FOLDER}/{JOB}"] = json.dumps(value).encode()
    return out


def _as_job(path: Path) -> Any:
    """Read what processes pick together, as `merge`, `status` and another part do."""
    folder = path.parent.parent
    with mock.patch.object(picking_job, "_PAUSE", 0.0):  # nobody is writing it
        render_status(read_status(folder))
        job = PickingJob.read(folder)
    assert job is not None
    job.list_sources()
    job.read_corrections(folder)
    return job.read_filament_request(folder) if job.is_of_filaments else job.read_request(folder)


def _submissions() -> dict[str, bytes]:
    steps = (Step("picking", ("41_1", "41_2")), Step("merging", ("42",)))

    noted = asdict(Submission("slurm", "pick", steps, 2, 1.0))
    return {f"S/{FOLDER}/{SUBMITTED}": json.dumps(noted).encode()}


def _as_submission(path: Path) -> Any:
    return Submission.read(path.parent.parent)


def _members() -> dict[str, bytes]:
    value = {"name": "host-12-ab", "host": "host", "process": 12, "machine": "x", "task": "1"}
    return {"member.json": json.dumps(value).encode()}


def _as_member(path: Path) -> Any:
    found = Member.read(path)
    if found is None:
        raise BadInput("no member")
    found.is_known_to_have_ended()
    return str(found)


# -------------------------------------------------------------------------- projects of the app


def _app_settings() -> dict[str, bytes]:
    full = ProjectSettings(
        inputs=("good.mrc", "other.mrc"),
        diameter_angstrom=24.0,
        threshold=0.5,
        threshold_offsets={"good.mrc": 1.0},
        done=frozenset(["good.mrc"]),
        notes={"other.mrc": "ice"},
        directory=".",
    )
    return {"project.json": json.dumps(full.as_dict()).encode()}


def _app_lists() -> dict[str, bytes]:
    return {LIST: written(LIST, lambda path: write_list(path.parent, _sources()))}


def _as_app_settings(path: Path) -> Any:
    return json.dumps(read_settings(path).as_dict(), allow_nan=False)


def _as_app_list(path: Path) -> Any:
    return read_list(path.parent)


def _annotations() -> dict[str, bytes]:
    rows = "10.0\t20.0\tgood.mrc\tq1\n30.5\t12.0\tother.mrc\tq2\n"
    labels = [f"_rln{name} #{n}\n" for n, name in enumerate(("CoordinateX", "CoordinateY"), 1)]
    head = "data_particles\n\nloop_\n" + "".join(labels) + "_rlnMicrographName #3\n"
    return {"labels.star": f"{head}_{ID_COLUMN} #4\n{rows}".encode()}


def _as_annotations(path: Path) -> Any:
    found = Annotations(path.parent)
    try:
        return [found.of_micrograph(name) for name in found.names()]
    finally:
        found.close()


def _authors() -> dict[str, bytes]:
    lines = [
        {"by": "Ada", "at": 5.0, "micrograph": "good.mrc", "add": {"q": "particle"}, "remove": []},
        {"by": "", "at": 9.5, "micrograph": "other.mrc", "add": {}, "remove": ["q"]},
    ]
    return {AUTHORS: "".join(json.dumps(one) + "\n" for one in lines).encode()}


def _as_authors(path: Path) -> Any:
    found = Authorship(path.parent)
    return json.dumps(found.list_entries())


@functools.cache
def _candidate_files() -> dict[str, bytes]:
    record = PickingRecord(
        "ab", "cd", _PIXEL, 4e6, MicrographMeasurements(0.01, None), -1.0, None, np.ones(2)
    )
    own = Candidates(
        0,
        np.arange(12.0).reshape(6, 2),
        np.linspace(2.5, -1, 6),
        np.zeros(6, np.bool_),
        np.zeros((6, 3), np.float16),
        {"mean": 1.5},
        "12 34",
        None,
        None,
        record,
    )
    return {"0.npz": written("0.npz", lambda path: write_candidates(path, own))}


def _as_candidates(path: Path) -> Any:
    found = read_candidates(path)
    assert np.isfinite(found.score).all()
    found.as_result("good.mrc")
    return found


#: Rows, and objects of JSON.
_table, _json = fuzz.table_changed, fuzz.json_changed

KINDS = fuzz.KINDS | {
    kind.name: kind
    for kind in (
        fuzz.Kind(
            "filaments",
            _filament_files,
            _filaments_changed,
            (_as_filaments, _as_evaluated, _as_labels_of_app),
        ),
        fuzz.Kind("pairs", _pair_files, _filaments_changed, (_as_pairs, _as_particles)),
        fuzz.Kind(
            "convert filaments", _filament_files, _filaments_changed, (_as_converted,), True
        ),
        fuzz.Kind("check filaments", _filament_files, _filaments_changed, (_as_checked,), True),
        fuzz.Kind(
            "filament model",
            _filament_models,
            fuzz.model_changed,
            (load_filament_model, _as_shown),
        ),
        fuzz.Kind(
            "filament journal", _filament_journals, fuzz.journal_changed, (_as_resumed,), True
        ),
        fuzz.Kind("heliodor.toml", _site_files, _table, (_as_site_settings,)),
        fuzz.Kind("offsets", _offset_files, _table, (_as_offsets, _as_excluded)),
        fuzz.Kind("corrections", _positions, fuzz.any_changed, (_as_corrections,), True),
        fuzz.Kind("acquisition", _micrograph_lists, fuzz.star_changed, (_as_acquisition,), True),
        fuzz.Kind("mask png", _masks, fuzz.damaged, (_as_mask,), True),
        fuzz.Kind("mask mrc", _mask_maps, fuzz.mrc_changed, (_as_mask,), True),
        fuzz.Kind("judged series", _series, _table, (_as_judged,), True),
        fuzz.Kind("judged record", _picked_records, _json, (_as_judged,), True),
        fuzz.Kind("job", _jobs, _json, (_as_job,)),
        fuzz.Kind("submission", _submissions, _json, (_as_submission,)),
        fuzz.Kind("member", _members, _json, (_as_member,)),
        fuzz.Kind("app project", _app_settings, _json, (_as_app_settings,)),
        fuzz.Kind("app list", _app_lists, _json, (_as_app_list,)),
        fuzz.Kind("app labels", _annotations, fuzz.star_changed, (_as_annotations,)),
        fuzz.Kind("app authors", _authors, fuzz.journal_changed, (_as_authors,)),
        fuzz.Kind("app scores", _candidate_files, fuzz.damaged, (_as_candidates,)),
    )
}
