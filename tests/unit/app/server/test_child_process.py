"""Commands beside the server: what they say, their end, and that they can be stopped."""

from __future__ import annotations

import signal
import sys
import threading
from pathlib import Path

import pytest

from heliodor.app.server import child_process
from heliodor.app.server.child_process import await_end, start_command, watch_command


def test_what_a_command_says_is_appended_and_seen_after_its_end(tmp_path: Path) -> None:
    log, seen = tmp_path / "log", list[str]()
    log.write_text("first\n")
    script = "import sys; print('said'); print('warned', file=sys.stderr); sys.exit(3)"
    process = start_command([sys.executable, "-c", script], log)
    assert watch_command(process, lambda: seen.append(log.read_text()), 0.02) == 3
    assert sorted(seen[-1].split()) == ["first", "said", "warned"]
    assert process.stdin is not None
    assert process.stdin.closed


def test_a_command_that_does_not_stop_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child_process, "_STOP_SECONDS", 0.1)
    process = start_command([sys.executable, "-c", "input()"], tmp_path / "log")
    ended = list[int]()
    watcher = threading.Thread(
        target=lambda: ended.append(watch_command(process, lambda: None, 0.02))
    )
    watcher.start()
    await_end(process, watcher)
    assert ended == [-signal.SIGKILL]


def test_without_a_command_nothing_is_waited_for() -> None:
    await_end(None, None)
