"""The command line, called as a user calls it but within the process of the tests."""

from __future__ import annotations

import functools
import io
import os
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from unittest import mock

import typer.main

from heliodor.cli.main import main
from heliodor.utils import console

#: Typer builds all commands anew for each call, which takes longer than most of the tests.
_built_once = functools.cache(typer.main.get_command)


@dataclass(frozen=True)
class Result:
    """What a command said and how it ended."""

    code: int
    out: str
    err: str

    @property
    def sentence(self) -> str:
        """The one sentence with which a command refuses what it was given."""
        assert "Traceback" not in self.err
        said = [line for line in self.err.splitlines() if line.startswith("heliodor: ")]
        assert len(said) == 1, self.err
        assert self.err.splitlines()[-1] == said[0]
        return said[0].removeprefix("heliodor: ")


def call(*arguments: object) -> Result:
    """Run ``heliodor`` with arguments, on one thread."""
    out, err = io.StringIO(), io.StringIO()
    with (
        mock.patch.object(sys, "argv", ["heliodor", *map(str, arguments)]),
        mock.patch.object(typer.main, "get_command", _built_once),
        mock.patch.dict(os.environ, OMP_NUM_THREADS="1"),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        try:
            main()
            code: object = 0
        except SystemExit as end:
            code = end.code or 0
        finally:
            console.show_messages()  # the options of one call are not those of the next
    assert isinstance(code, int)
    return Result(code, out.getvalue(), err.getvalue())


def done(*arguments: object) -> Result:
    """Run ``heliodor`` and insist that it ends well."""
    result = call(*arguments)
    assert result.code == 0, result.err
    return result
