"""The engine: a process that trains and scores for a server, told and telling by lines of JSON.

``python -m heliodor.app.engine.main`` reads requests from its standard input and says on its
standard output what happens; see `protocol`. A thread reads, so that a cancelled training ends
at the next
update and a micrograph that comes into focus is scored before the others. The engine ends with
its input.
"""

from __future__ import annotations

from heliodor.utils.threads import limit_blas_threads

limit_blas_threads()  # before numpy is imported

import os  # noqa: E402
import signal  # noqa: E402
import sys  # noqa: E402
import threading  # noqa: E402
from typing import TextIO  # noqa: E402

from heliodor.app.engine.request_queue import RequestQueue  # noqa: E402
from heliodor.app.protocol import EventWriter, read_request  # noqa: E402
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
    serve(sys.stdin, EventWriter(out))


def serve(stream: TextIO, events: EventWriter) -> None:
    """Do what is asked for until the stream ends."""
    requests = RequestQueue()
    threading.Thread(target=_listen, args=(stream, requests, events), daemon=True).start()
    from heliodor.app.engine.session import Event, Session

    session: Session | None = None
    warm = False
    while True:
        requests.wait()
        if requests.closed:
            return
        if requests.cancelled and requests.take_train() is not None:
            requests.finish_training()
            events.send("cancelled")
        elif (project := requests.take_open()) is not None:
            session = None
            try:
                session = Session.open(project, requests, events)
                events.send("ready", device=str(session.device))
            except BadInput as error:
                events.send("failed", id=None, says=str(error))
        elif (result := requests.take_train()) is not None:
            ending: Event = ("refused", {"says": "no project is open yet; open one first"})
            if session is not None:
                ending = session.train(result)
            # Before it is told: the answer may be the next training.
            requests.finish_training()
            events.send(ending[0], **ending[1])
        elif session is not None:
            session.score()
            if not warm and not requests.urgent:
                warm = True
                threading.Thread(target=session.warm_up, daemon=True).start()
        else:
            requests.take_id()  # of no project


def _listen(stream: TextIO, requests: RequestQueue, events: EventWriter) -> None:
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
            if not requests.add(request):
                events.send("refused", says="a training is under way; cancel it first")
    finally:
        requests.close()


if __name__ == "__main__":
    main()
