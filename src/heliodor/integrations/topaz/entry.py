"""The program `heliodor-topaz`, as its script starts it."""

from __future__ import annotations

import os
import sys

from heliodor.utils.process_setup import (
    find_current_folder_fault,
    flush_output,
    prepare_process,
)

#: True for type checkers alone.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

_ENTRY = "from heliodor.integrations.topaz.entry import entry; entry()"


def entry() -> NoReturn:
    """Run the command line, and end the process."""
    prepare_process(_ENTRY)
    from heliodor.errors import BAD_INPUT
    from heliodor.utils import console
    from heliodor.utils.signals import Stopped, handle_signals, hold_signals

    hold_signals()  # until they can be handled
    console.allow_any_terminal()
    fault = find_current_folder_fault()
    code = 0
    if fault is None:
        from heliodor.integrations.topaz.main import main

        try:
            with handle_signals(restore_after_stop=False):
                code = main()
        except Stopped as stopped:
            console.show_error(f"# {stopped}")
            # Python would wait for threads whose results nobody will take.
            os._exit(stopped.code)
        fault = flush_output()
    if fault is not None and not code:
        console.show_error(f"# error: {fault}")
        code = BAD_INPUT
    sys.exit(code)
