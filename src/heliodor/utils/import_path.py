"""Keep the current folder off the path on which Python looks for modules.

A project's folder may contain a script of the user, such as ``copy.py`` or ``numpy.py``, which
Python would run in place of the module of that name. ``python -m``, ``python -c`` and an empty
entry of $PYTHONPATH put the current folder first on the path.

This module must import nothing that could be found there.
"""

from __future__ import annotations

import os
import sys


def python_command(*arguments: str) -> tuple[str, ...]:
    """Return a command of this Python that does not look for modules in the current folder.

    Parameters
    ----------
    arguments
        Of the interpreter, such as ``-m`` and a module, and its arguments.
    """
    return (sys.executable, "-P", *arguments)


def exclude_current_folder() -> None:
    """Take the current folder off the path of this process and of those that it starts.

    The folder that this package is in stays on the path. Call it before other modules are
    imported.
    """
    try:
        current = os.path.realpath(os.getcwd())
    except OSError:  # it was removed, so there is nothing in it
        return
    own = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
    if current == own:
        return
    # Relative entries mean the current folder or one below it.
    sys.path[:] = [
        entry for entry in sys.path if os.path.isabs(entry) and os.path.realpath(entry) != current
    ]
    if "PYTHONPATH" in os.environ:
        entries = os.environ["PYTHONPATH"].split(os.pathsep)
        kept = [entry for entry in entries if entry and os.path.realpath(entry) != current]
        os.environ["PYTHONPATH"] = os.pathsep.join(kept)
