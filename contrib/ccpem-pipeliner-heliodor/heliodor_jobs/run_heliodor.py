"""Run heliodor as a command of a job: micrographs that it cannot use do not fail the job.

heliodor ends with exit code 3 if it is done but could not use some of the micrographs. The
Pipeliner takes any exit code but 0 as the failure of a job, so this script, which a job runs in
place of the program, ends with 0 then. What the program printed names these micrographs, and so
does ``failed.tsv`` in the job's folder.

Usage: python run_heliodor.py ARGUMENTS_OF_HELIODOR
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from types import FrameType

PROGRAM = "heliodor"
#: heliodor's exit code if it is done but some micrographs could not be used.
SOME_FAILED = 3


def run(arguments: Sequence[str]) -> int:
    """Run the program with arguments; return the exit code for the Pipeliner."""
    program = shutil.which(PROGRAM)
    if program is None:
        print(
            f"the program {PROGRAM} was not found on the PATH; start the Pipeliner with the bin"
            " folder of heliodor's environment on the PATH",
            file=sys.stderr,
        )
        return 127
    process = subprocess.Popen([program, *arguments], stderr=subprocess.PIPE)

    def stop(number: int, frame: FrameType | None) -> None:
        process.send_signal(number)

    # The Pipeliner stops a job with SIGTERM, and heliodor can be continued after it.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    # The Pipeliner shows what is in run.err as an error, so progress goes to run.out.
    last = b""
    for line in process.stderr or ():
        sys.stdout.buffer.write(line)
        sys.stdout.buffer.flush()
        last = line
    code = process.wait()
    if code < 0:  # ended by a signal
        return 128 - code
    if code in (0, SOME_FAILED):
        return 0
    sys.stderr.buffer.write(last)
    return code


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
