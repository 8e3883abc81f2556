"""Where the report of the demonstration is opened."""

from __future__ import annotations

from pathlib import Path

import pytest

from heliodor.workflows import demo


@pytest.mark.parametrize(
    ("variables", "terminal", "opened"),
    [
        ({"DISPLAY": ":0"}, True, True),
        ({"WAYLAND_DISPLAY": "wayland-0"}, True, True),
        ({"DISPLAY": ":0", "SSH_CONNECTION": "10.0.0.1 1 10.0.0.2 22"}, True, False),
        ({"DISPLAY": ":0"}, False, False),
        ({}, True, False),
    ],
)
def test_the_report_is_opened_on_a_desktop_alone(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str],
    terminal: bool,
    opened: bool,
) -> None:
    shown: list[str] = []
    monkeypatch.setattr(demo.sys, "platform", "linux")
    monkeypatch.setattr(demo.sys.stderr, "isatty", lambda: terminal, raising=False)
    monkeypatch.setattr(demo.webbrowser, "open", lambda address: shown.append(address) or True)
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SSH_CONNECTION"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    demo.open_report(tmp_path / "a folder")
    expected = (tmp_path / "a folder" / "results" / "report.html").as_uri()
    assert shown == ([expected] if opened else [])
