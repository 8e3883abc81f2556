"""The program `heliodor-topaz`, as its script starts it."""

from __future__ import annotations

import sys

from heliodor.utils.import_path import exclude_current_folder

#: True for type checkers alone.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


def entry() -> NoReturn:
    """Run the command line, and end the process."""
    exclude_current_folder()
    from heliodor.integrations.topaz.main import main

    sys.exit(main())
