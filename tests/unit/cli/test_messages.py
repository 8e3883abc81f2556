"""Which messages commands show, and how."""

from __future__ import annotations

import json
import logging
import re

import numpy as np
import pytest

from heliodor.data.micrographs.micrograph import write_mrc
from heliodor.utils import console
from helpers.cli import call, done

TIME = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d ")


@pytest.fixture(autouse=True)
def usual_messages():
    yield
    for handler in [
        own for own in console.LOGGER.handlers if isinstance(own, logging.FileHandler)
    ]:
        console.LOGGER.removeHandler(handler)
        handler.close()
    console.show_messages()


@pytest.fixture
def labels(tmp_path):
    """Labels on two micrographs, one of which has a label outside."""
    rng = np.random.default_rng(0)
    (tmp_path / "m").mkdir()
    for name in "ab":
        write_mrc(
            tmp_path / "m" / f"{name}.mrc", rng.normal(size=(64, 64)).astype(np.float32), 2.0
        )
    rows = "a.mrc 10 10\na.mrc 30 30\nb.mrc 400 20\n"
    head = "data_\nloop_\n_rlnMicrographName\n_rlnCoordinateX\n_rlnCoordinateY\n"
    (tmp_path / "labels.star").write_text(head + rows)
    return tmp_path


def check(folder, *options):
    return call("check", folder / "labels.star", "--micrographs", folder / "m", *options)


def test_messages_begin_with_the_time_where_they_are_no_terminals(labels):
    lines = check(labels).err.splitlines()
    progress = [line for line in lines if "checking: " in line]
    assert progress
    assert all(TIME.match(line) for line in progress)


def test_progress_lines_can_be_left_out(labels):
    assert "checking: " not in check(labels, "--progress", "none").err
    assert "checking: 2 of 2" in check(labels, "--progress", "lines").err


def test_a_quiet_command_says_no_more_than_its_result(labels):
    usual, quiet = check(labels), check(labels, "--quiet")
    assert quiet.out == usual.out
    assert quiet.err == ""


def test_a_quiet_command_still_says_what_is_wrong(tmp_path):
    result = call("convert", tmp_path / "none.star", "-o", tmp_path / "a.star", "--quiet")
    assert result.code == 2
    assert "none.star" in result.sentence


def test_progress_and_messages_can_be_json(labels):
    (labels / "m" / "empty.mrc").touch()
    out = labels / "out"
    result = call("pick", labels / "m", "--diameter", 40, "-o", out, "--progress", "json")
    assert result.code == 3
    events = [json.loads(line) for line in result.err.splitlines()]
    assert all(TIME.match(own["time"].replace("T", " ") + " ") is None for own in events)
    steps = [own for own in events if own["event"] == "progress" and own["what"] == "picking"]
    assert [own["done"] for own in steps] == [1, 2, 3]
    assert {own["total"] for own in steps} == {3}
    assert steps[-1]["seconds_left"] == 0
    assert all(own["seconds"] >= 0 for own in steps)
    texts = [own["text"] for own in events if own["event"] == "message"]
    assert any("1 micrograph failed" in text for text in texts)


def test_a_log_file_has_all_messages_of_several_commands(labels):
    log = labels / "heliodor.log"
    for _ in range(2):
        check(labels, "--quiet", "--log-file", log)
    lines = log.read_text().splitlines()
    assert sum("checking: 2 of 2" in line for line in lines) == 2
    assert all(TIME.match(line) for line in lines)
    assert {line.split()[2] for line in lines} <= {"debug", "info", "warning", "error"}


@pytest.mark.parametrize("content", [b"MRC\0", b"data_\n", b"mine\n"])
def test_nothing_is_appended_to_a_file_that_is_no_log(labels, content):
    path = labels / "other"
    path.write_bytes(content)
    assert "is not a log of heliodor" in check(labels, "--log-file", path).sentence
    assert path.read_bytes() == content


def test_details_are_shown_on_request(labels):
    out = labels / "out"
    result = done("pick", labels / "m", "--diameter", 40, "-o", out, "--verbose")
    assert re.search(r"heliodor\.\S+: .*a\.mrc is picked", result.err)
    assert "picking took" in result.err
    assert "picking took" not in done("pick", labels / "m", "--diameter", 40, "-o", out).err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--quiet", "--verbose"], "--quiet or --verbose"),
        (["--progress", "dots"], "auto, lines, none or json"),
        (["--log-file", "no/such/folder/x.log"], "--log-file"),
    ],
)
def test_options_that_cannot_be_are_refused(labels, options, words):
    result = check(labels, *options)
    assert result.code == 2
    assert words in result.sentence


def test_a_full_disk_ends_the_log_file_and_not_the_command(labels, capfd):
    result = check(labels, "--log-file", "/dev/full")
    assert result.code == check(labels).code
    assert result.out == check(labels).out
    assert "is not written any more" in result.err
    assert "Traceback" not in result.err
