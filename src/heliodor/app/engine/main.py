"""The engine: a process that trains and scores for a server, told and telling by lines of JSON.

``python -m heliodor.app.engine.main`` reads requests from its standard input and says on its
standard output what happens; see `protocol`. A thread reads, so that a cancelled training ends
at the next
update and a micrograph that comes into focus is scored before the others. The engine ends with
its input.
"""

from __future__ import annotations

from heliodor.utils.threads import spare_threads

spare_threads()  # before numpy is imported

import os  # noqa: E402
import signal  # noqa: E402
import sys  # noqa: E402
import threading  # noqa: E402
from typing import TextIO  # noqa: E402

from heliodor.app.engine.request_queue import Wishes  # noqa: E402
from heliodor.app.protocol import Events, read_request  # noqa: E402
from heliodor.errors import BadInput  # noqa: E402
from heliodor.utils import console  # noqa: E402


def main() -> None:
    """Serve until the input ends."""
    console.show_messages()
    # What libraries print must not be taken for an event.
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    # Ctrl-C in the server's terminal reaches this process too; the server tells what to do.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    serve(sys.stdin, Events(out))


def serve(stream: TextIO, events: Events) -> None:
    """Do what is asked for until the stream ends."""
    wishes = Wishes()
    threading.Thread(target=_listen, args=(stream, wishes, events), daemon=True).start()
    from heliodor.app.engine.session import Ending, Studio

    studio: Studio | None = None
    warm = False
    while True:
        wishes.wait()
        if wishes.closed:
            return
        if wishes.cancelled and wishes.take_train() is not None:
            wishes.trained()
            events.say("cancelled")
        elif (project := wishes.take_open()) is not None:
            studio = None
            try:
                studio = Studio.of(project, wishes, events)
                events.say("ready", device=str(studio.device))
            except BadInput as error:
                events.say("failed", id=None, says=str(error))
        elif (lesson := wishes.take_train()) is not None:
            ending: Ending = ("refused", {"says": "no project is open yet; open one first"})
            if studio is not None:
                ending = studio.train(lesson)
            # Before it is told: the answer may be the next training.
            wishes.trained()
            events.say(ending[0], **ending[1])
        elif studio is not None:
            studio.score()
            if not warm and not wishes.urgent:
                warm = True
                threading.Thread(target=studio.warm_up, daemon=True).start()
        else:
            wishes.take_id()  # of no project


def _listen(stream: TextIO, wishes: Wishes, events: Events) -> None:
    """Pass requests on as they come."""
    try:
        for line in stream:
            if not line.strip():
                continue
            try:
                request = read_request(line)
            except BadInput as error:
                print(error, file=sys.stderr)
                continue
            if not wishes.add(request):
                events.say("refused", says="a training is under way; cancel it first")
    finally:
        wishes.close()


if __name__ == "__main__":
    main()
