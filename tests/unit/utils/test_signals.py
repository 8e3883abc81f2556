"""Signals are heeded where nothing can be half done, and no two runs share a folder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from heliodor.errors import BadInput
from heliodor.utils.files import LOCK_FILE
from heliodor.utils.locking import lock_folder
from heliodor.utils.signals import (
    SIGNAL_EXIT_BASE,
    Stopped,
    defer_stop,
    handle_signals,
    hold_signals,
    raise_if_stopped,
    stop_requested,
    take_save_request,
)
from helpers.cli import call, done
from helpers.networks import (
    discs,
    scattered,
    write_mrc,
)


def tell(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.fixture
def usual() -> Iterator[None]:
    """Handlers as a program begins with; under nohup, say, one would be ignored."""
    before = {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_stops_at_once_with_the_code_of_a_shell(number: int, usual: None) -> None:
    before = signal.getsignal(number)

    def work() -> None:
        with handle_signals():
            assert signal.getsignal(number) != before
            tell(number)
            pytest.fail("it went on")

    with pytest.raises(Stopped) as stopped:
        work()
    assert stopped.value.code == SIGNAL_EXIT_BASE + number
    assert signal.getsignal(number) == before


def test_a_deferred_block_comes_to_its_end_or_to_a_check() -> None:
    done = []

    def checked() -> None:
        with handle_signals(), defer_stop():
            tell(signal.SIGTERM)
            assert stop_requested()
            done.append(1)
            raise_if_stopped()
            done.append(2)

    def ended() -> None:
        with handle_signals():
            with defer_stop():
                tell(signal.SIGTERM)
                done.append(3)
            done.append(4)

    with pytest.raises(Stopped):
        checked()
    with pytest.raises(Stopped):
        ended()
    assert done == [1, 3]


def test_a_second_signal_does_not_interrupt_the_ending() -> None:
    ended = []

    def work() -> None:
        with handle_signals():
            try:
                tell(signal.SIGTERM)
            finally:
                tell(signal.SIGTERM)
                tell(signal.SIGINT)
                ended.append(1)

    with pytest.raises(Stopped):
        work()
    assert ended == [1]


def test_sigusr1_asks_to_save_and_ends_nothing() -> None:
    with handle_signals():
        assert not take_save_request()
        tell(signal.SIGUSR1)
        assert take_save_request()
        assert not take_save_request()
        raise_if_stopped()


def test_what_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with handle_signals():
            tell(signal.SIGHUP)
            raise_if_stopped()
    finally:
        signal.signal(signal.SIGHUP, before)


#: The programs, with a command that never ends.
PROGRAMS = {
    "heliodor": """
from heliodor.cli import entry, main
main.app = work
entry.run()
""",
    "heliodor-topaz": """
from heliodor.integrations.topaz import entry, main
main.main = work
entry.entry()
""",
}
WORK = """
import sys, time
def work(*_, **__):
    print("ready", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_program_ends_with_one_line_and_the_code_of_a_shell(program: str, name: str) -> None:
    number = getattr(signal, name)
    command = [sys.executable, "-c", WORK + PROGRAMS[program]]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        time.sleep(0.01)
        process.send_signal(number)
        _, said = process.communicate(timeout=30)
    assert process.returncode == SIGNAL_EXIT_BASE + number
    assert len(said.splitlines()) == 1, said
    assert f"stopped by {name}" in said


#: Sends the process another signal when Python has removed the handlers and destroys its modules.
LATE = """
import os, signal, sys
class Late:
    def __del__(self, kill=os.kill, own=os.getpid(), number=signal.SIGINT):
        kill(own, number)
sys.late = Late()
"""


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_second_signal_does_not_interrupt_the_end_of_python(program: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", LATE + WORK + PROGRAMS[program]], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
    assert process.returncode == SIGNAL_EXIT_BASE + signal.SIGTERM


def test_a_second_signal_does_not_interrupt_an_outer_block() -> None:
    ended = []

    def work() -> None:
        with handle_signals():
            try:
                with handle_signals():
                    tell(signal.SIGTERM)
            finally:
                tell(signal.SIGTERM)
                ended.append(1)

    with pytest.raises(Stopped):
        work()
    assert ended == [1]


def test_held_signals_arrive_later(usual: None) -> None:
    hold_signals()
    # To this thread: others, of whoever runs the tests, do not hold signals.
    signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
    with pytest.raises(Stopped), handle_signals():
        pytest.fail("it arrived too late")


def test_other_threads_listen_to_nothing() -> None:
    found = []

    def work() -> None:
        with handle_signals():
            found.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [signal.getsignal(signal.SIGTERM)]


def test_a_lock_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("precious")
    (tmp_path / LOCK_FILE).symlink_to("precious")
    with pytest.raises(BadInput, match="is a symbolic link"), lock_folder(tmp_path):
        pytest.fail("it was locked")
    assert (tmp_path / "precious").read_text() == "precious"


HOLD = """
import sys
from pathlib import Path
from heliodor.utils.locking import lock_folder
with lock_folder(Path(sys.argv[1])):
    print("in", flush=True)
    sys.stdin.read()
"""


def test_commands_that_only_judge_or_convert_keep_out_of_a_folder_at_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    xy = scattered((96, 96), 6, 14)
    write_mrc(tmp_path / "a.mrc", discs((96, 96), xy))
    rows = "".join(f"a\t{x:g}\t{y:g}\n" for x, y in xy)
    (tmp_path / "a.txt").write_text("image_name\tx_coord\ty_coord\n" + rows)
    size = ("--pixel-size", 4)
    commands: list[tuple[object, ...]] = [
        ("convert", "a.txt", "--to", "autopick"),
        ("evaluate", "--picks", "a.txt", "--truth", "a.txt", "--match-distance", 20, *size),
        ("suggest", "--micrographs", "a.mrc", "--labels", "a.txt", *size),
    ]
    hold = [sys.executable, "-c", HOLD, str(tmp_path / "out")]
    (tmp_path / "out").mkdir()
    with subprocess.Popen(hold, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as own:
        assert own.stdout is not None
        assert own.stdout.readline() == "in\n"
        for words in commands:
            result = call(*words, "-o", "out")
            assert result.code == 2
            assert "already running in out" in result.sentence
            assert [path.name for path in (tmp_path / "out").iterdir()] == [LOCK_FILE]
    for words in commands[:2]:
        done(*words, "-o", "out")
        assert not (tmp_path / "out" / LOCK_FILE).exists()


def test_a_folder_holds_one_run_and_a_killed_one_leaves_no_lock(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    first = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert first.stdout is not None
    assert first.stdout.readline() == "in\n"
    with (
        pytest.raises(BadInput, match=f"already running in {tmp_path} .process {first.pid} on"),
        lock_folder(tmp_path),
    ):
        pass
    assert f"process {first.pid} on" in (tmp_path / LOCK_FILE).read_text()
    first.kill()
    first.communicate()
    with lock_folder(tmp_path):
        assert f"process {os.getpid()} on" in (tmp_path / LOCK_FILE).read_text()
    assert not (tmp_path / LOCK_FILE).exists()
