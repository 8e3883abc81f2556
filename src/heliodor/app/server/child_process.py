"""A command of the program that ends, what it has done being kept, with who began it.

``python -m heliodor.app.server.child_process pick ...`` is ``heliodor pick ...`` which is
told to stop (SIGTERM) when its standard input ends: the pipe of a server that was killed ends too.
"""

from __future__ import annotations

import os
import runpy
import signal
import threading


def _end_with_parent() -> None:
    # Not through `sys.stdin`: it could not be closed at the end while a thread reads from it.
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def main() -> None:
    """Be ``python -m heliodor``, tied."""
    threading.Thread(target=_end_with_parent, name="tied", daemon=True).start()
    runpy.run_module("heliodor", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
