"""What the protocols share: the compute options, and how the program is run."""

from __future__ import annotations

import os
import shlex
import subprocess
from typing import Any, Sequence

import pyworkflow.protocol.constants as cons
import pyworkflow.protocol.params as params

from heliodor_em import Plugin, convert

#: heliodor's exit code if it is done but some micrographs could not be used.
SOME_FAILED = 3


class HeliodorCommand:
    """The part of a protocol that runs the program; to be combined with a class of Scipion."""

    def _defineCommandParams(self, form: Any) -> None:
        """Add the parameters that every protocol has: GPU, and further options."""
        form.addHidden(
            cons.USE_GPU,
            params.BooleanParam,
            default=True,
            label="Use GPU",
            help="Without a GPU, heliodor computes on the number of threads below.",
        )
        form.addHidden(
            cons.GPU_LIST,
            params.StringParam,
            default="0",
            label="GPU ID",
            help="The number of one GPU, counted from 0. heliodor uses a single GPU.",
        )
        form.addParam(
            "extraOptions",
            params.StringParam,
            default="",
            expertLevel=cons.LEVEL_ADVANCED,
            label="Further options",
            help="Options of the command line that this form does not have, such as"
            " _--edge-margin 90_. See _heliodor pick --help_ and _heliodor train --help_.",
        )

    def _validateCommand(self) -> list[str]:
        """Return what is wrong with these parameters."""
        errors = []
        try:
            shlex.split(self._getExtraOptions())
        except ValueError as error:
            errors.append(f"Further options: {error}.")
        gpus = self.gpuList.get().replace(",", " ").split()  # type: ignore[attr-defined]
        if self.useGpu.get() and len(gpus) != 1:  # type: ignore[attr-defined]
            errors.append("heliodor uses a single GPU: give one number as GPU ID.")
        return errors

    def _getExtraOptions(self) -> str:
        return self.extraOptions.get() or ""  # type: ignore[attr-defined]

    def _runHeliodor(self, arguments: Sequence[str], folder: str, files: set[str]) -> None:
        """Run the program, and report the micrographs that it could not use.

        Parameters
        ----------
        arguments
            The command and its options.
        folder
            The output folder, with the list of micrographs that failed.
        files
            The files of the micrographs.

        Raises
        ------
        subprocess.CalledProcessError
            If the program failed for another reason than unusable micrographs.
        """
        words = [*arguments, *shlex.split(self._getExtraOptions())]
        words += ["--progress", "lines", "--threads", str(self.numberOfThreads.get())]  # type: ignore[attr-defined]
        line = " ".join(shlex.quote(word) for word in words)
        if self.useGpu.get():  # type: ignore[attr-defined]
            # Scipion replaces %(GPU)s by the number of a GPU, so other % must be doubled.
            line = line.replace("%", "%%") + " --device cuda:%(GPU)s"
        else:
            line += " --device cpu"
        listed = os.path.join(folder, convert.FAILED)
        if os.path.exists(listed):  # of an earlier run, which this one continues
            os.remove(listed)
        try:
            self.runJob(shlex.quote(Plugin.getProgram()), line, numberOfMpi=1)  # type: ignore[attr-defined]
        except subprocess.CalledProcessError as error:
            failed = {name for name, _ in convert.read_failures(folder)}
            if error.returncode != SOME_FAILED and not files <= failed:
                raise
        for name, reason in convert.read_failures(folder):
            self.warning(f"{name} could not be used: {reason}")  # type: ignore[attr-defined]


def add_number(words: list[str], option: str, value: Any) -> None:
    """Add an option with a number, unless its field in the form is empty."""
    if value.get() is not None:
        words += [option, f"{value.get():g}"]
