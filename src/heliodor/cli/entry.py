"""The program `heliodor`, as its script and ``python -m heliodor`` start it.

Light to import: a long command runs in a process of its own, and this one only watches it. Imports
that Python has not made itself are inside the functions, behind `prepare_process`.
"""

from __future__ import annotations

import gc
import os
import sys

from heliodor.utils.import_path import python_command
from heliodor.utils.process_setup import (
    find_current_folder_fault,
    flush_output,
    prepare_process,
)

#: True for type checkers alone.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

#: Commands on many micrographs, which can be resumed after a crash.
SUPERVISED = (["pick"], ["watch"], ["merge"], ["run"], ["relion", "pick"])
_ENTRY = "from heliodor.cli.entry import entry; entry()"
_RUN = "from heliodor.cli.entry import run; run()"


def entry() -> NoReturn:
    """Run the command line; a long command is supervised, and resumed after a crash."""
    prepare_process(_ENTRY)
    from heliodor.utils.signals import hold_signals

    hold_signals()  # until they can be handled
    from heliodor.utils import console
    from heliodor.utils.crash_recovery import has_crashed, is_supervised, run_supervised

    words = sys.argv[1:]
    is_long = any(words[: len(own)] == own for own in SUPERVISED)
    if not is_long or {"-h", "--help"} & {*words} or os.name != "posix" or is_supervised():
        run()
    console.allow_any_terminal()
    console.show_messages()
    code = run_supervised(python_command("-c", _RUN, *words))
    if has_crashed(code) and words[0] == "relion":
        from heliodor.cli.relion import leave_failure

        leave_failure(words[1:])
    sys.exit(code)


def run() -> NoReturn:
    """Run the command line in this process, and end the process."""
    prepare_process(_RUN)
    import atexit

    from heliodor.errors import BAD_INPUT
    from heliodor.utils import console
    from heliodor.utils.signals import SIGNAL_EXIT_BASE

    # Importing PyTorch makes so many objects that looking for garbage takes a tenth of the time.
    gc.set_threshold(50_000, 20, 20)
    console.allow_any_terminal()
    if (fault := find_current_folder_fault()) is not None:
        console.show_error(f"heliodor: {fault}")
        sys.exit(BAD_INPUT)
    from heliodor.cli.main import main

    code: int | str | None = 0
    try:
        main(restore_signals=False)
    except SystemExit as end:
        code = end.code
    if code is not None and not isinstance(code, int):
        sys.exit(code)
    if (fault := flush_output()) is not None and not code:
        console.show_error(f"heliodor: {fault}")
        code = BAD_INPUT
    if "torch" not in sys.modules and (code or 0) <= SIGNAL_EXIT_BASE:
        sys.exit(code)
    # Taking PyTorch down piece by piece costs half a second of CPU time, for nothing. After a
    # signal, Python would remove the handlers first, and a second one would interrupt the rest.
    atexit._run_exitfuncs()
    os._exit(code or 0)
