"""A small reverse proxy, as nginx and cluster portals are."""

from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

#: Headers that are of one connection and not passed on.
_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length"}


def free_port() -> int:
    """Return a port that is free now."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextmanager
def proxy(backend_port: int, prefix: str, strips: bool, keeps_host: bool) -> Iterator[int]:
    """Show a server of this machine below a path of another port; yields the port.

    Parameters
    ----------
    prefix
        The path, with a slash at both ends; everything else is not found.
    strips
        Whether the path is removed from the requests that are passed on.
    keeps_host
        Whether the backend sees the host that the browser asked for, or its own.
    """

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.forward()

        def do_POST(self) -> None:
            self.forward()

        def forward(self) -> None:
            if not self.path.startswith(prefix):
                self.send_error(404)
                return
            path = "/" + self.path.removeprefix(prefix) if strips else self.path
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {k: v for k, v in self.headers.items() if k.lower() not in _HOP}
            if not keeps_host:
                headers["Host"] = f"127.0.0.1:{backend_port}"
            line = http.client.HTTPConnection("127.0.0.1", backend_port, timeout=60)
            try:
                with suppress(BrokenPipeError, ConnectionResetError):
                    line.request(self.command, path, body, headers)
                # A backend may answer, and close, before it has read everything.
                answer = line.getresponse()
                content = answer.read()
            except (OSError, http.client.HTTPException):
                self.send_error(502)
                return
            finally:
                line.close()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in _HOP:
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *arguments: object) -> None:
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
