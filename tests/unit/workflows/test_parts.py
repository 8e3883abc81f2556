"""Several processes that pick into one folder leave what one process leaves."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from contextlib import chdir, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heliodor.data.micrographs.sources import Source, find_sources
from heliodor.errors import BadInput
from heliodor.models.model_file import ADAPTED_KEY as KEY
from heliodor.models.model_file import Model, save_model
from heliodor.models.pretrained import load_model_for_picking
from heliodor.picking import claims, joined_journals
from heliodor.picking.claims import Member, Presence
from heliodor.picking.decoy_sample import choose_decoy_micrographs
from heliodor.picking.journal import Journal
from heliodor.picking.settings import PickSettings
from heliodor.utils.hashing import digest
from heliodor.workflows import adapt, parts
from heliodor.workflows.parts import Part, merge, pick_part
from heliodor.workflows.pick import pick
from heliodor.workflows.picking_job import PickingJob
from heliodor.workflows.picking_setup import PickRequest
from heliodor.workflows.picking_status import read_status, render_status
from helpers.cli import call, done
from helpers.full_disk import full_disk
from helpers.networks import discs, model, noise, scattered, write_mrc

SHAPE = (72, 64)
NAMES = [f"m{number}" for number in range(9)]
PICK = ("pick", "--model", "m.safetensors", "mics", "--threads", 1, "-o")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Change to a folder with a model and nine micrographs, one of which is damaged."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(parts, "POLL_SECONDS", 0.01)
    save_model(tmp_path / "m.safetensors", model(normalization={"mode": "standard"}))
    for seed, name in enumerate(NAMES):
        xy = scattered(SHAPE, 6, 12, seed)
        write_mrc(tmp_path / f"mics/{name}.mrc", discs(SHAPE, xy, seed=seed))
    Path("mics/m4.mrc").write_bytes(b"damaged")
    return tmp_path


def results(folder: str | Path) -> dict[str, str]:
    """Return digests of the results, without what differs between any two runs."""
    where = Path(folder)
    found = {
        path.relative_to(where).as_posix(): path.read_bytes()
        for path in where.rglob("*")
        if path.is_file() and not path.relative_to(where).as_posix().startswith(".")
    }
    record = json.loads(found["run.json"])
    for key in ("seconds", "started", "command_line", "parts"):
        record.pop(key, None)
    del record["versions"]["executable"]
    found["run.json"] = json.dumps(record).encode()
    here = f"{folder}/".encode()
    return {name: digest([text.replace(here, b"OUT/")]) for name, text in found.items()}


def one_process(*options: object, code: int = 3) -> dict[str, str]:
    """Return what one process leaves."""
    assert call(*PICK, "one", *options).code == code
    return results("one")


def request(**changes: Any) -> PickRequest:
    values: dict[str, Any] = {
        "model": "m.safetensors",
        "micrographs": ["mics"],
        "settings": PickSettings(),
    }
    return PickRequest(**(values | changes))


def leave_as_killed(out: str, micrographs: int, holder: Member | None = None) -> None:
    """Leave what a process leaves that is killed after so many micrographs of claimed ones."""

    class Killed(BaseException):
        pass

    add, count = joined_journals.JoinedJournals.add, 0

    def dying(self: Any, *arguments: Any) -> None:
        nonlocal count
        if count == micrographs:
            raise Killed
        count += 1
        add(self, *arguments)

    def stays(self: Presence) -> Any:
        self.path.write_text(json.dumps(vars(self.member)))
        yield self

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(joined_journals.JoinedJournals, "add", dying)
        patch.setattr(Presence, "kept", claims.contextmanager(stays))
        if holder is not None:
            patch.setattr(Member, "this_process", classmethod(lambda cls, task: holder))
        with pytest.raises(Killed):
            call(*PICK, out, "--part", "claim")


OTHER_HOST = Member("elsewhere-7-abc", "elsewhere", 7, "another machine", "claim")


@pytest.mark.parametrize("order", [(1,), (2, 3, 1), (8, 1, 5, 3, 7, 2, 6, 4)])
def test_parts_in_any_order_leave_what_one_process_leaves(
    project: Path, order: tuple[int, ...]
) -> None:
    alone = one_process("--threshold-series", 2)
    assert "m4.mrc" in Path("one/failed.tsv").read_text()
    for number in order:
        part = f"{number}/{len(order)}"
        ended = call(*PICK, "out", "--threshold-series", 2, "--part", part)
        has_failed = number == order[-1] or (4 - (number - 1)) % len(order) == 0
        assert ended.code == (3 if has_failed else 0), ended.err
        assert Path("out/run.json").exists() == (number == order[-1])
    assert results("out") == alone
    picked = json.loads(Path("out/run.json").read_text())["parts"]
    assert sorted(own["part"] for own in picked) == sorted(f"{n}/{len(order)}" for n in order)
    assert sum(own["micrographs"] for own in picked) == len(NAMES) - 1
    assert not [path for path in Path("out/.picking").iterdir() if path.is_dir()]
    # A late one finds nothing to do, and changes nothing.
    before = Path("out/run.json").read_text()
    assert "are done and merged" in done(*PICK, "out", "--threshold-series", 2, "--part", part).err
    assert Path("out/run.json").read_text() == before


def test_processes_that_claim_leave_what_one_process_leaves(project: Path) -> None:
    alone = one_process()
    assert call(*PICK, "out", "--part", "claim").code == 3
    assert results("out") == alone


def test_parts_and_claims_and_one_process_share_what_they_find(project: Path) -> None:
    alone = one_process()
    call(*PICK, "out", "--part", "2/3")
    call(*PICK, "out", "--part", "1/5")
    said = call(*PICK, "out").err
    assert "already picked: 4 of 9" in said
    assert results("out") == alone
    # More micrographs later: those that were found are kept, also by parts.
    write_mrc(project / "mics/n.mrc", discs(SHAPE, scattered(SHAPE, 6, 12, 99), seed=99))
    more = one_process()
    assert "9 of 10 done before" in call(*PICK, "out", "--part", "1/1").err
    assert results("out") == more


def test_what_a_killed_process_has_done_is_kept_and_the_rest_is_done_by_another(
    project: Path,
) -> None:
    alone = one_process()
    leave_as_killed("out", 3)
    journal = next(Path("out/.picking").glob("*.jsonl"))
    assert journal.read_bytes().count(b'\n{"micrograph"') == 3
    with journal.open("ab") as stream:
        stream.write(b'{"micrograph": "mics/m8.mrc", "of": [')
    # Its number belongs to no process, as is known on the same machine.
    (presence,) = Path("out/.picking").glob("*-*.json")
    member = json.loads(presence.read_text())
    presence.write_text(json.dumps({**member, "process": 2**22 + 1}))
    assert read_status("out").processes[0].state == "silent"
    ended = call(*PICK, "out", "--part", "claim")
    assert re.search("[34] of 9 done before", ended.err)  # with the damaged one, or without
    assert results("out") == alone
    assert journal.read_bytes().endswith(b'"of": [')


def test_claims_of_a_dead_host_expire(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = one_process()
    leave_as_killed("out", 2, OTHER_HOST)
    presence = Path("out/.picking/elsewhere-7-abc.json")
    assert read_status("out").processes[0].state == "running"
    monkeypatch.setattr(claims, "EXPIRY_SECONDS", 0.5)
    started = time.monotonic()
    os.utime(presence)
    assert call(*PICK, "out", "--part", "claim").code == 3
    assert time.monotonic() - started > 0.4
    assert results("out") == alone


def test_the_same_part_is_not_picked_twice_at_a_time(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = one_process()
    again = (*PICK, "out", "--part", "1/2")
    score = parts.PartWork._score

    def meanwhile(self: Any, *arguments: Any) -> None:
        monkeypatch.setattr(parts.PartWork, "_score", score)
        refused = call(*again)
        assert refused.code == 2
        assert "part 1/2 is already being picked in out (process" in refused.sentence
        refused = call(*PICK, "out")
        assert refused.code == 2
        assert "parts are being picked in out (process" in refused.sentence
        assert call(*PICK, "out", "--part", "2/2").code == 0
        score(self, *arguments)

    monkeypatch.setattr(parts.PartWork, "_score", meanwhile)
    assert call(*again).code == 3
    assert results("out") == alone
    assert call(*again).code == 0


def test_a_part_whose_process_is_elsewhere_is_refused_once_that_shows_a_sign(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = one_process()
    leave_as_killed("out", 2, OTHER_HOST)
    (folder,) = Path("out/.picking").glob("claims-*")
    presence = Path("out/.picking/elsewhere-7-abc.json")
    os.link(presence, folder / "part-1-of-1.0")
    with monkeypatch.context() as patch:
        later = iter(range(100))
        patch.setattr(Presence, "read_renewal", lambda self, member: time.time() + next(later))
        refused = call(*PICK, "out", "--part", "1/1")
        assert "already being picked in out (process 7 on elsewhere)" in refused.sentence
    os.utime(presence, (1, 1))
    assert call(*PICK, "out", "--part", "1/1").code == 3
    assert results("out") == alone


def test_merging_refuses_parts_that_are_not_done_and_names_them(project: Path) -> None:
    alone = one_process()
    call(*PICK, "out", "--part", "2/3")
    refused = call("merge", "out")
    assert refused.code == 2
    assert refused.sentence == (
        "6 of 9 micrographs in out are not done (part 1/3 lacks 3 micrographs, part 3/3 lacks 3"
        " micrographs); run `heliodor pick --model m.safetensors mics --threads 1 -o out --part"
        " 1/3` and so on"
    )
    assert not Path("out/run.json").exists()
    call(*PICK, "out", "--part", "3/3")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts, "_merge_once", lambda *_: None)
        call(*PICK, "out", "--part", "1/3")
    assert read_status("out").state == "unmerged"
    assert "run `heliodor merge out`" in render_status(read_status("out"))
    assert not Path("out/run.json").exists()
    assert call("merge", "out", "--threads", 1).code == 3
    assert results("out") == alone
    # From another folder too, and again.
    Path("out/picks.tsv").unlink()
    with chdir("mics"):
        assert call("merge", "../out", "--threads", 1).code == 3
    assert results("out") == alone
    assert "there are no unmerged parts in one" in call("merge", "one").sentence


def test_a_micrograph_that_changed_since_is_picked_again(project: Path) -> None:
    call(*PICK, "out", "--part", "1/1")
    shutil.copy("mics/m1.mrc", "mics/m2.mrc")
    shutil.copy("mics/m0.mrc", "mics/m4.mrc")
    alone = one_process(code=0)
    assert "2 of 9 micrographs in out are not done" in call("merge", "out").sentence
    assert call(*PICK, "out", "--part", "1/1").code == 0
    assert results("out") == alone


@pytest.mark.parametrize(
    ("options", "what"),
    [
        (("--threshold", 1), "threshold 1.0 instead of None"),
        (("--pixel-size", 4), "pixel size 4.0 instead of None"),
        (("--report",), "report True instead of False"),
        (("--mask", "masks"), "another content of the masks"),
    ],
)
def test_parts_with_other_settings_are_refused(
    project: Path, options: tuple[object, ...], what: str
) -> None:
    write_mrc(project / "masks/m1.mrc", (noise(SHAPE) > 3).astype(np.int8))
    call(*PICK, "out", *options, "--part", "1/2")
    refused = call(*PICK, "out", "--part", "2/2")
    assert refused.code == 2
    assert f"other parts in out were started with {what}" in refused.sentence


def test_parts_of_other_micrographs_or_with_another_model_are_refused(project: Path) -> None:
    call(*PICK, "out", "--part", "1/2")
    shutil.copy("mics/m1.mrc", "mics/x.mrc")
    refused = call(*PICK, "out", "--part", "2/2").sentence
    assert "another list of micrographs, without mics/x.mrc" in refused
    Path("mics/x.mrc").unlink()
    order = [f"mics/{name}.mrc" for name in reversed(NAMES)]
    other = ("pick", "--model", "m.safetensors", *order, "--threads", 1, "-o", "out")
    assert "the micrographs in another order" in call(*other, "--part", "2/2").sentence
    save_model(project / "m.safetensors", model(class_prior=0.5))
    assert "another content of the model" in call(*PICK, "out", "--part", "2/2").sentence


def test_a_job_that_began_with_a_mistake_and_found_nothing_is_replaced(project: Path) -> None:
    alone = one_process()
    wrong = call(*PICK, "out", "--bad-area-masks", "--part", "1/1")
    assert "which this model does not detect" in wrong.sentence
    assert call(*PICK, "out", "--part", "1/1").code == 3
    assert results("out") == alone
    # One that found something is not.
    call(*PICK, "other", "--threshold", 1, "--part", "1/2")
    assert "remove other/.picking/job.json" in call(*PICK, "other", "--part", "1/2").sentence
    Path("other/.picking/job.json").unlink()
    assert "(5 of 9 done before)" in call(*PICK, "other", "--part", "1/1").err
    assert results("other") == alone


def test_a_job_that_was_replaced_meanwhile_is_not_merged(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remaining = parts.PartWork.list_remaining

    def replaced(self: Any) -> list[Source]:
        shutil.copy("other/.picking/job.json", "out/.picking/job.json")
        return remaining(self)

    call(*PICK, "other", "--threshold", 1, "--part", "1/2")
    monkeypatch.setattr(parts.PartWork, "list_remaining", replaced)
    refused = call(*PICK, "out", "--part", "1/1")
    assert "another job has begun there" in refused.sentence
    assert not Path("out/run.json").exists()


def test_what_cannot_be_shared_is_refused(project: Path) -> None:
    for text in ("0/3", "4/3", "1", "a/b", "1/2/3", "-1/2", "all"):
        with pytest.raises(BadInput, match="the part must be I/N"):
            Part.parse(text)
    assert "the part must be I/N" in call(*PICK, "out", "--part", "4/3").sentence
    assert (
        "keep what has been found"
        in call(*PICK, "out", "--part", "1/2", "--resume", "never").sentence
    )
    with pytest.raises(BadInput, match="need the model as a file"):
        pick_part(Part(1, 2), request(model=model()), "out")
    assert not Path("out/.picking").exists()
    outside = project / "outside"
    outside.mkdir()
    Path("out").mkdir(exist_ok=True)
    Path("out/.picking").symlink_to(outside)
    for words in ((*PICK, "out"), (*PICK, "out", "--part", "1/2"), ("merge", "out")):
        assert call(*words).code == 2
    assert not [*outside.iterdir()]


def test_starting_over_discards_what_parts_found(project: Path) -> None:
    call(*PICK, "out", "--part", "1/2")
    assert "already picked" not in call(*PICK, "out", "--resume", "never").err
    assert not Path("out/.picking").exists()
    # And so do other settings, as for one process.
    call(*PICK, "out", "--part", "1/2", "--scores", "dense")
    assert "already picked: 8 of 9" in call(*PICK, "out").err
    assert not Path("out/.picking").exists()


def test_a_report_is_written_when_the_parts_are_merged(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = []
    monkeypatch.setattr(
        "heliodor.report.report.write_report", lambda path, content: written.append(path)
    )
    call(*PICK, "out", "--report", "--part", "1/2")
    assert written == []
    call(*PICK, "out", "--report", "--part", "2/2")
    assert [path.name for path in written] == ["report.html"]


def test_a_damaged_line_costs_its_micrograph_only(project: Path) -> None:
    alone = one_process()
    call(*PICK, "out", "--part", "1/2")
    (journal,) = Path("out/.picking").glob("*.jsonl")
    lines = journal.read_bytes().splitlines(keepends=True)
    entries = [n for n, line in enumerate(lines) if line.startswith(b'{"micrograph"')]
    lines[entries[0]] = b"\0" * (len(lines[entries[0]]) - 1) + b"\n"
    journal.write_bytes(b"".join(lines)[:-20])
    done(*PICK, "out", "--part", "2/2")
    count = 1 + (lines[-1].startswith(b'{"micrograph"'))
    assert f"{count} of 9" in call("merge", "out").sentence
    assert call(*PICK, "out", "--part", "1/2").code == 3
    assert results("out") == alone


def test_a_full_disk_is_one_error_and_picking_continues_with_room(project: Path) -> None:
    alone = one_process()
    with full_disk(4000):
        ended = call(*PICK, "out", "--part", "1/1")
    assert ended.code == 2
    assert "cannot be written (File too large)" in ended.sentence
    assert call(*PICK, "out", "--part", "1/1").code == 3
    assert results("out") == alone


def test_the_status_of_parts_and_of_one_process(project: Path) -> None:
    assert "nothing has been picked into out" in call("status", "out").sentence
    call(*PICK, "out", "--part", "2/3")
    before = {p: p.stat().st_mtime_ns for p in Path("out").rglob("*")}
    found = json.loads(done("status", "out", "--json").out)
    assert (found["state"], found["micrographs"], found["done"]) == ("interrupted", 9, 2)
    assert (found["failed"], found["remaining"]) == (1, 6)
    assert "mics/m4.mrc" in found["failures"]
    (own,) = found["processes"]
    assert (own["part"], own["state"], own["done"], own["failed"]) == ("2/3", "ended", 2, 1)
    assert {p: p.stat().st_mtime_ns for p in Path("out").rglob("*")} == before
    call(*PICK, "out", "--part", "1/3")
    call(*PICK, "out", "--part", "3/3")
    found = read_status("out")
    assert (found.state, found.done, found.failed, found.remaining) == ("finished", 8, 1, 0)
    assert len(found.processes) == 3
    one_process()
    found = read_status("one")
    assert (found.state, found.done, found.failed, found.remaining) == ("finished", 8, 1, 0)
    text = done("status", "one").out
    assert text.startswith("one: finished\n8 of 9 micrographs done, 1 failed, 0 in progress")
    # One that was interrupted.
    shutil.rmtree("one")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("heliodor.picking.journal.Journal.add_failure", stop)
        with pytest.raises(KeyboardInterrupt):
            pick("m.safetensors", "mics", "one")
    found = read_status("one")
    assert (found.state, found.done, found.remaining) == ("interrupted", 4, 5)


def stop(*_: Any) -> None:
    raise KeyboardInterrupt


def test_the_status_of_one_process_that_continues_what_parts_began(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call(*PICK, "out", "--part", "1/2")
    seen = []
    failing = Journal.add_failure

    def looking(self: Any, *arguments: Any) -> None:
        seen.append(read_status("out"))
        failing(self, *arguments)

    monkeypatch.setattr(Journal, "add_failure", looking)
    call(*PICK, "out")
    (found,) = seen
    assert (found.state, found.micrographs, found.done, found.failed) == ("running", 9, 6, 0)
    assert [own.part for own in found.processes] == [""]
    assert found.micrographs_per_hour is not None
    assert "micrographs per hour" in render_status(found)


def test_the_status_of_processes_at_work(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    settle = parts.PartWork._is_settled

    def looking(self: Any, source: Source) -> bool:
        if len(self._settled) == 3:
            seen.append(read_status("out"))
        return settle(self, source)

    call(*PICK, "out", "--part", "1/9")
    monkeypatch.setattr(parts.PartWork, "_is_settled", looking)
    call(*PICK, "out", "--part", "claim")
    at_work = seen[-1]
    assert (at_work.state, at_work.micrographs) == ("running", 9)
    assert at_work.done + at_work.failed + at_work.remaining == 9
    assert {own.part: own.state for own in at_work.processes} == {
        "1/9": "ended",
        "claim": "running",
    }
    assert "claim" in render_status(at_work)


def test_a_damaged_job_is_one_error(project: Path) -> None:
    call(*PICK, "out", "--part", "1/2")
    path = Path("out/.picking/job.json")
    whole = json.loads(path.read_text())
    for text in ("{", "[]", json.dumps({**whole, "sources": [["a"]]}), json.dumps({"form": 1})):
        path.write_text(text)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("heliodor.workflows.picking_job._PAUSE", 0)
            for words in (("merge", "out"), ("status", "out"), (*PICK, "out", "--part", "2/2")):
                assert "out/.picking/job.json" in call(*words).sentence
    path.write_text(json.dumps({**whole, "arguments": {**whole["arguments"], "adapt": 3}}))
    assert "out/.picking/job.json has an invalid value of adapt" in call("merge", "out").sentence
    without = {k: v for k, v in whole["arguments"].items() if k != "threshold_offsets"}
    path.write_text(json.dumps({**whole, "arguments": without}))
    assert "job.json is damaged: it has no threshold_offsets" in call("merge", "out").sentence
    path.write_text(json.dumps(whole))
    job = PickingJob.read(Path("out"))
    assert job is not None
    assert job.list_sources()[0].name == "mics/m0.mrc"
    with pytest.raises(BadInput, match="4 of 9 micrographs in out are not done"):
        merge("out")


# ---- the general model ----

GENERAL = ("pick", "--diameter", 120, "general", "--threads", 1, "-o")


@pytest.fixture
def general(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Change to a folder with micrographs for the general model, one of which is damaged."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(parts, "POLL_SECONDS", 0.01)
    # Decoys are looked for on the damaged one, and on another in its place.
    monkeypatch.setattr("heliodor.picking.decoy_sample.DECOY_MICROGRAPHS", 2)
    for seed in range(5):
        image = noise((160, 160), seed)
        write_mrc(tmp_path / f"general/g{seed}.mrc", image, 4.0)
    names = [source.name for source in find_sources("general")]
    damaged = min(choose_decoy_micrographs(names))
    Path(damaged).write_bytes(b"damaged")
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("names", [("1/1",), ("2/2", "1/2"), ("claim",)])
def test_decoys_are_looked_for_on_others_in_place_of_those_that_fail(
    general: Path, names: tuple[str, ...]
) -> None:
    assert call(*GENERAL, "one").code == 3
    for name in names:
        ended = call(*GENERAL, "out", "--part", name)
    assert ended.code == 3, ended.err
    assert results("out") == results("one")
    assert Path("out/.picking.jsonl").read_bytes().count(b'\n{"micrograph"') == 1


def test_one_part_adapts_the_model_and_the_others_use_it(
    general: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learned = []

    def learning(model: Model, *arguments: Any) -> Model:
        # While it learns, the others wait.
        learned.append([Member.read(p) for p in Path("out").rglob("adapt.0")])
        how = {"request": arguments[-1]}
        return Model(model.network, replace(model.card, extra={**model.card.extra, KEY: how}))

    monkeypatch.setattr(adapt, "_learn", learning)
    assert call(*GENERAL, "one", "--adapt").code == 3
    assert len(learned) == 1
    for name in ("2/2", "1/2"):
        ended = call(*GENERAL, "out", "--adapt", "--part", name)
    assert ended.code == 3, ended.err
    assert [len(holders) for holders in learned] == [0, 1]
    assert results("out") == results("one")
    # Merged on a computer with another kind of device, it is still the same model.
    base, sources = load_model_for_picking(None, 120), find_sources("general")
    for turn, count in ((nullcontext, 2), (None, 3)):
        keep = Path("out", adapt.NAME)
        found = adapt.adapt_model(base, sources, device="meta", keep=keep, turn=turn)
        assert KEY in found.card.extra
        assert len(learned) == count


# ---- real processes ----

#: Starts so many processes that claim micrographs, with a scorer that finds nothing.
MANY = """
import os, sys
from heliodor.cli.main import main
from heliodor.conventions import FloatArray
from heliodor.data.coordinates.picks import Picks
from heliodor.picking import resuming
from heliodor.picking.journal import MicrographResult
from heliodor.picking.micrograph_quality import MicrographMeasurements
from heliodor.utils.hashing import read_unchanged
from heliodor.workflows import parts
import numpy as np

def score(model, sources, images, settings, device, store, search, settle, **more):
    for count, source in enumerate(sources, 1):
        _, version = read_unchanged(source.path, lambda: None)
        empty = Picks.on(source.name, np.zeros((0, 2)), np.zeros(0))
        found = MicrographResult(empty, 4.0, None, 1.0, MicrographMeasurements(None, None))
        store.mark_started(source.name, False)
        store.add(source, found, version)
        settle(count, source, None)

resuming.score_micrographs = score
parts.POLL_SECONDS = 0.1
for _ in range(int(sys.argv.pop(1))):
    if not os.fork():
        main()
        os._exit(0)
codes = []
while True:
    try:
        codes.append(os.wait()[1])
    except ChildProcessError:
        break
sys.exit(max(codes))
"""


@pytest.mark.slow
def test_twenty_processes_pick_each_of_two_thousand_micrographs_once(project: Path) -> None:
    Path("many").mkdir()
    for number in range(2000):
        Path(f"many/{number:04d}.mrc").write_bytes(b"%d" % number)
    words = ["pick", "--model", "m.safetensors", "many", "-o", "out", "--part", "claim"]
    ended = subprocess.run(
        [sys.executable, "-c", MANY, "20", *words], capture_output=True, text=True, timeout=500
    )
    assert ended.returncode == 0, ended.stderr
    journals = [*Path("out/.picking").glob("*.jsonl")]
    lines = [line for path in journals for line in path.read_bytes().splitlines()]
    picked = Counter(json.loads(line)["micrograph"] for line in lines if b'{"micro' in line[:8])
    assert picked == Counter({f"many/{number:04d}.mrc": 1 for number in range(2000)})
    assert len(journals) == 20
    assert len(Path("out/micrographs.tsv").read_text().splitlines()) == 2001
    assert ended.stderr.count("picks on 2000 micrographs") == 1  # merged once
    assert not [*Path("out/.picking").glob("claims-*"), *Path("out/.picking").glob("*-*.json")]


#: The program, which takes its time for each micrograph.
SLOWLY = """
import time
from heliodor.picking.journal import Journal
add = Journal.add
Journal.add = lambda *arguments: (time.sleep(0.1), add(*arguments))[1]
from heliodor.cli.main import main
main()
"""


@pytest.mark.slow
@pytest.mark.parametrize("part", ["claim", "1/1"])
def test_parts_that_are_killed_again_and_again_leave_what_one_process_leaves(
    project: Path, part: str
) -> None:
    alone = one_process()
    chance = random.Random(1)
    command = [sys.executable, "-c", SLOWLY, *map(str, PICK), "out", "--part", part]

    def count() -> int:
        journals = Path("out/.picking").glob("*.jsonl")
        return sum(path.read_bytes().count(b'\n{"micrograph"') for path in journals)

    for _ in range(4):
        before, limit = count(), time.monotonic() + 60
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        while count() == before:
            assert time.monotonic() < limit
            time.sleep(0.01)
        time.sleep(chance.uniform(0, 0.2))
        process.kill()
        process.wait()
    assert not Path("out/run.json").exists()
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 3, ended.stderr
    assert results("out") == alone


@pytest.mark.slow
def test_a_crash_costs_a_retry_and_the_micrograph_that_caused_it(project: Path) -> None:
    crash = (
        "import os, signal\nfrom heliodor.data.micrographs.working_images import WorkingImages\n"
    )
    crash += "get = WorkingImages.get\n"
    crash += "WorkingImages.get = lambda self, source: (\n"
    crash += (
        "    os.kill(os.getpid(), signal.SIGKILL) if 'm6' in source.name else get(self, source)\n"
    )
    crash += ")\nfrom heliodor.cli.main import main\nmain()\n"
    guard = "import sys\nfrom heliodor.utils.crash_recovery import run_supervised\n"
    guard += "sys.exit(run_supervised([sys.executable, '-c', sys.argv[1], *sys.argv[2:]]))"
    words = [sys.executable, "-c", guard, crash, *map(str, PICK), "out", "--part"]
    for part in ("1/2", "claim"):
        ended = subprocess.run([*words, part], capture_output=True, text=True, timeout=300)
        assert ended.returncode == 3, ended.stderr
    failed = Path("out/failed.tsv").read_text()
    assert "the program crashed on mics/m6.mrc" in failed
    assert "m4.mrc" in failed
    Path("mics/m6.mrc").write_bytes(b"damaged")
    alone = one_process()
    found = results("out")
    del alone["run.json"], found["run.json"], alone["failed.tsv"], found["failed.tsv"]
    assert found == alone


def write_corrections(folder: Path) -> tuple[object, ...]:
    """Write corrections of the micrographs in the current folder; return their options."""
    folder.mkdir()
    (folder / "labels.csv").write_text("micrograph,x,y\nm0,31.5,20.25\nm1,40,41\nm8,9,9\n")
    (folder / "negatives.csv").write_text("micrograph,x,y\nm2,30,30\nm3,20,50\n")
    (folder / "excluded.txt").write_text("mics/m5.mrc\n")
    return (
        *("--labels", folder / "labels.csv", "--negatives", folder / "negatives.csv"),
        *("--exclude", folder / "excluded.txt", "--relion-project", ".."),
    )


def test_parts_are_corrected_as_one_process_corrects(project: Path) -> None:
    plain = one_process()
    options = write_corrections(Path("own"))
    # An earlier run has left picks of the micrograph that is excluded now.
    assert call(*PICK, "parts", "--part", "1/1").code == 3
    alone = one_process(*options)
    assert alone != plain
    assert "m5_autopick.star" not in "".join(alone)
    for number in (2, 1, 3):
        assert call(*PICK, "parts", *options, "--part", f"{number}/3").code in (0, 3)
        assert call(*PICK, "new", *options, "--part", f"{number}/3").code in (0, 3)
    assert results("parts") == results("new") == alone


def test_corrections_are_those_of_the_first_part(project: Path) -> None:
    options = write_corrections(Path("own"))
    alone = one_process(*options)
    call(*PICK, "parts", *options, "--part", "1/2")
    Path("own/labels.csv").write_text("micrograph,x,y\nm3,10,60\n")
    said = call(*PICK, "parts", *options, "--part", "2/2").err
    assert "labels or negatives have changed since the first part" in said
    assert results("parts") == alone
    # A job that is done is not continued.
    said = call(*PICK, "parts", *options, "--part", "1/1").err
    assert "have changed" not in said
    assert results("parts") == one_process(*options)


def test_other_corrections_are_refused_and_damaged_ones_too(project: Path) -> None:
    options = write_corrections(Path("own"))
    call(*PICK, "out", *options, "--part", "1/2")
    refused = call(*PICK, "out", "--exclude", "own/excluded.txt", "--part", "2/2")
    assert "other parts in out were started with" in refused.sentence
    path = Path("out/.picking/job.json")
    job = json.loads(path.read_text())
    for damage in ({"particles": {"m0": [["a", 1]]}, "negatives": {}}, {"particles": {}}):
        path.write_text(json.dumps({**job, "corrections": damage}))
        stored = PickingJob.read(Path("out"))
        assert stored is not None
        with pytest.raises(BadInput, match="is damaged; remove it and run a part again"):
            stored.read_corrections(Path("out"))
