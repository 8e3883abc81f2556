"""The engine: a process that trains and scores for the server of the app.

``python -m heliodor.app.engine.main`` reads requests from standard input and writes events to
standard output, one JSON object per line; see `heliodor.app.protocol`. A separate thread reads,
so that a canceled training ends after the current update and the micrograph on the screen is
scored first. The engine ends when its input ends.
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
from heliodor.app.protocol import (  # noqa: E402
    CancelledEvent,
    Event,
    EventWriter,
    FailedEvent,
    ReadyEvent,
    RefusedEvent,
    read_request,
)
from heliodor.errors import BadInput  # noqa: E402
from heliodor.utils import console  # noqa: E402


def main() -> None:
    """Serve until the input ends."""
    console.show_messages()
    # What libraries print must not be mistaken for an event.
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    # Ctrl-C in the server's terminal reaches this process too; the server decides what to do.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "SIGUSR1"):  # a scheduler may send it to all processes of a job
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    serve(sys.stdin, EventWriter(out))


def serve(stream: TextIO, events: EventWriter) -> None:
    """Serve the requests of a stream until it ends."""
    requests = RequestQueue()
    threading.Thread(target=_listen, args=(stream, requests, events), daemon=True).start()
    from heliodor.app.engine.session import Session

    session: Session | None = None
    warm = False
    while True:
        requests.wait()
        if requests.closed:
            return
        if requests.cancelled and requests.take_train() is not None:
            requests.finish_training()
            events.send(CancelledEvent())
        elif (project := requests.take_open()) is not None:
            session = None
            try:
                session = Session.open(project, requests, events)
                events.send(ReadyEvent(device=str(session.device)))
            except BadInput as error:
                events.send(FailedEvent(id=None, says=str(error)))
        elif (training := requests.take_train()) is not None:
            outcome: Event = RefusedEvent(says="no project is open; open one first")
            if session is not None:
                outcome = session.train(training)
            # Before the event is sent: the answer to it may be the next training.
            requests.finish_training()
            events.send(outcome)
        elif session is not None:
            session.score()
            if not warm and not requests.urgent:
                warm = True
                threading.Thread(target=session.warm_up, daemon=True).start()
        else:
            # Without a project there is nothing to score.
            requests.take_id()
            requests.take_end_of(frozenset())


def _listen(stream: TextIO, requests: RequestQueue, events: EventWriter) -> None:
    """Put requests into the queue as they arrive."""
    try:
        for line in stream:
            if not line.strip():
                continue
            try:
                request = read_request(line)
            except BadInput as error:
                console.show_error(str(error))
                continue
            if not requests.add(request):
                events.send(RefusedEvent(says="a training is running; cancel it first"))
    finally:
        requests.close()


if __name__ == "__main__":
    main()
