"""The program `heliodor-topaz`, as its script starts it."""

from __future__ import annotations

import os
import sys

from heliodor.utils.import_path import exclude_current_folder

#: True for type checkers alone.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


def entry() -> NoReturn:
    """Run the command line, and end the process."""
    exclude_current_folder()
    from heliodor.utils.signals import Stopped, handle_signals, hold_signals

    hold_signals()  # until they can be handled
    from heliodor.integrations.topaz.main import main

    try:
        with handle_signals(restore_after_stop=False):
            code = main()
    except Stopped as stopped:
        print(f"# {stopped}", file=sys.stderr, flush=True)
        # Python would wait for threads whose results nobody will take.
        os._exit(stopped.code)
    sys.exit(code)
