"""A command of heliodor that stops when its parent process ends.

``python -m heliodor.app.server.child_process pick ...`` runs ``heliodor pick ...`` and sends
itself SIGTERM when its standard input ends, which also happens when the server is killed.
"""

from __future__ import annotations

import os
import runpy
import signal
import threading


def _end_with_parent() -> None:
    # Not through `sys.stdin`: it cannot be closed at exit while a thread reads from it.
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def main() -> None:
    """Run ``python -m heliodor`` until it ends or the parent does."""
    threading.Thread(target=_end_with_parent, name="parent watch", daemon=True).start()
    runpy.run_module("heliodor", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
