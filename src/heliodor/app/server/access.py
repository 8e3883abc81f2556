"""Access control: sessions, the origin of requests, and limits on their size and number.

By default the server listens on this machine only, but other users of the machine can reach it,
and so can any web site that is open in a browser on it. So every request for something of the
project needs the session token or a signature, must name a host that is allowed (which defeats
DNS rebinding), and must come from a page of this server. Only the page and its scripts, which are
the same for everybody, are open: the browser loads them before the page can send a token.

Starlette's TrustedHostMiddleware is not enough here: it does not check the port, and neither
accepts ``[::1]`` nor rejects ``127.0.0.1:80@evil.example``. uvicorn's `limit_concurrency` counts
connections without access too, with which other users of the machine could lock out the owner.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException

from heliodor.app.server.access_keys import AccessKeys, Rights
from heliodor.app.server.addresses import Addresses

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: Most bytes of a request body, and most seconds between its parts.
MAX_BODY, MAX_SECONDS = 4 * 2**20, 30.0
#: Most requests that are served at the same time.
MAX_REQUESTS = 256
#: Sec-Fetch-Site of requests by a page of this server, or by the user in the address bar.
_SITES = {"same-origin", "none"}
POLICY = (
    "default-src 'self'; img-src 'self' blob: data:; object-src 'none'; base-uri 'none';"
    " form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    b"content-security-policy": POLICY.encode(),
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"DENY",
    b"referrer-policy": b"no-referrer",
    b"cross-origin-resource-policy": b"same-origin",
    b"cross-origin-opener-policy": b"same-origin",
    b"cache-control": b"no-store",
}
#: Where the page exchanges the token of its address for the session token.
SESSION_PATH = "/api/session"
#: Set in the scope of a request that has access: what it may do.
RIGHTS = "heliodor.rights"
#: What a read-only session may ask for with POST, as its question does not fit into an address.
_READING_POSTS = {"/api/crops"}
#: What the page asks for again and again, whether somebody uses it or not.
_POLLED = {"/api/changes"}
_NO_SESSION = "no access; open the newest address that heliodor app printed"
_USED_TOKEN = (
    "this address was opened already, or the server was restarted; open the newest one that"
    " heliodor app printed"
)
_READ_ONLY = "this is a read-only link: nothing can be changed with it"
_EXPIRED = "this address has expired; open it again from the page of heliodor app"


class AccessControl:
    """ASGI middleware that only serves requests with the session token or a signature.

    Parameters
    ----------
    app
        The application to protect.
    keys
        The tokens and signatures.
    addresses
        Where the page is reached.
    port
        The port of the server.
    """

    def __init__(
        self,
        app: ASGIApp,
        keys: AccessKeys,
        addresses: Addresses | None = None,
        port: int = 0,
    ) -> None:
        self._app = app
        self._keys = keys
        self._addresses = addresses or Addresses()
        self._base_path = self._addresses.path(port)
        self._active = 0
        #: When somebody last did something in the page, on the clock that never goes back.
        self.last_use = time.monotonic()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return  # closes a websocket; the app has none

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                present = {name.lower() for name, _ in message["headers"]}
                more = [(n, v) for n, v in _HEADERS.items() if n not in present]
                message = {**message, "headers": [*message["headers"], *more]}
            await send(message)

        if self._base_path and scope["path"] == self._base_path:
            # Relative addresses need the slash at the end.
            place = self._base_path.rpartition("/")[2] + "/"
            await _send(answer, 307, [(b"location", place.encode())], b"")
            return
        if self._base_path and scope["path"].startswith(f"{self._base_path}/"):
            # Some proxies remove the path in front, others keep it.
            # In place: the connection looks at the same scope.
            scope["path"] = scope["path"].removeprefix(self._base_path)
        refusal = self._find_fault(scope)
        if refusal is not None:
            await _send_error(answer, *refusal)
            return
        if scope["path"] == SESSION_PATH:
            await self._open_session(scope, answer)
            return
        if _is_open_to_all(scope):
            # Not counted: other users must not use up what the owner needs.
            await self._app(scope, _LimitedBody(receive).receive, answer)
            return
        rights = self._find_rights(scope)
        if rights is None:
            expired = b"signature=" in scope["query_string"]
            await _send_error(answer, 401, _EXPIRED if expired else _NO_SESSION)
            return
        reads = scope["method"] in ("GET", "HEAD") or scope["path"] in _READING_POSTS
        if rights is Rights.READ and not reads:
            await _send_error(answer, 403, _READ_ONLY)
            return
        scope[RIGHTS] = rights
        if scope["path"] not in _POLLED:
            self.last_use = time.monotonic()
        if self._active >= MAX_REQUESTS:
            await _send_error(
                answer, 503, "too many requests at the same time; try again", retry=True
            )
            return
        self._active += 1
        try:
            await self._app(scope, _LimitedBody(receive).receive, answer)
        finally:
            self._active -= 1

    def _find_fault(self, scope: Scope) -> tuple[int, str] | None:
        """Return why a request is refused even with the token: status and sentence."""
        if scope["method"] not in ("GET", "HEAD", "POST"):
            return 405, "only GET and POST are allowed"
        host = _single(scope, b"host")
        if host is None or not self._addresses.accepts_host(host):
            return 403, (
                "this server does not answer by this name of a host; allow it with --allowed-host"
                " or --base-url"
            )
        if _has_header(scope, b"origin"):
            origin = _single(scope, b"origin")
            if origin is None or not self._addresses.accepts_origin(origin, host):
                return 403, "requests from other pages are refused"
        if (
            _has_header(scope, b"sec-fetch-site")
            and _single(scope, b"sec-fetch-site") not in _SITES
        ):
            # A link on any page may lead to the page itself, but to nothing else.
            navigation = [_single(scope, b"sec-fetch-" + name) for name in (b"mode", b"dest")]
            if scope["path"] != "/" or navigation != ["navigate", "document"]:
                return 403, "requests from other pages are refused"
        length = _single(scope, b"content-length")
        if _has_header(scope, b"content-length") and not (length or "").isdecimal():
            return 400, "the Content-Length is not a number"
        if length is not None and (len(length) > 12 or int(length) > MAX_BODY):
            return 413, f"the body may have at most {MAX_BODY} bytes"
        if scope["method"] == "POST":
            kind = (_single(scope, b"content-type") or "").partition(";")[0].strip().lower()
            if kind != "application/json":
                return 415, "the body must be application/json"
        return None

    def _find_rights(self, scope: Scope) -> Rights | None:
        """Return what a request may do, None if it has no access."""
        token = _bearer_token(scope)
        if token is not None:
            return self._keys.rights(token)
        query = scope["query_string"].decode("latin-1")
        is_signed = self._keys.is_signed(scope["path"], query)
        return Rights.READ if is_signed and scope["method"] in ("GET", "HEAD") else None

    async def _open_session(self, scope: Scope, answer: Send) -> None:
        """Exchange the token of the address for the session token.

        The token is a header, so that strangers cannot keep connections busy with slow bodies.
        """
        if scope["method"] != "POST":
            await _send_error(answer, 405, "only POST is allowed at this address")
            return
        session = self._keys.exchange(_bearer_token(scope) or "")
        if session is None:
            await _send_error(answer, 401, _USED_TOKEN)
            return
        body = json.dumps({"session": session.token, "rights": session.rights.value}).encode()
        await _send(answer, 200, [(b"content-type", b"application/json")], body)


class _LimitedBody:
    """Limits the size of a request body and the time that it takes."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._bytes = 0
        self._whole = False

    async def receive(self) -> Message:
        if self._whole:
            return await self._receive()  # waits until the client disconnects
        try:
            message = await asyncio.wait_for(self._receive(), MAX_SECONDS)
        except TimeoutError as error:
            raise HTTPException(408, "the body was not received in time") from error
        self._bytes += len(message.get("body", b""))
        self._whole = not message.get("more_body", False)
        if self._bytes > MAX_BODY:
            raise HTTPException(413, f"the body may have at most {MAX_BODY} bytes")
        return message


def _header_values(scope: Scope, name: bytes) -> Iterable[str]:
    return [value.decode("latin-1") for key, value in scope["headers"] if key.lower() == name]


def _has_header(scope: Scope, name: bytes) -> bool:
    return bool(_header_values(scope, name))


def _single(scope: Scope, name: bytes) -> str | None:
    """Return a header; None if it is missing or occurs more than once."""
    values = list(_header_values(scope, name))
    return values[0] if len(values) == 1 else None


def _bearer_token(scope: Scope) -> str | None:
    header = _single(scope, b"authorization") or ""
    return header.removeprefix("Bearer ").strip() if header.startswith("Bearer ") else None


def _is_open_to_all(scope: Scope) -> bool:
    is_page = scope["path"] == "/" or scope["path"].startswith("/static/")
    return is_page and scope["method"] in ("GET", "HEAD")


async def _send_error(answer: Send, status: int, sentence: str, retry: bool = False) -> None:
    headers = [(b"content-type", b"application/json")]
    if retry:
        headers.append((b"retry-after", b"1"))
    if status in (408, 413):
        headers.append((b"connection", b"close"))
    await _send(answer, status, headers, json.dumps({"error": sentence}).encode())


async def _send(
    answer: Send, status: int, headers: list[tuple[bytes, bytes]], body: bytes
) -> None:
    headers = [*headers, (b"content-length", str(len(body)).encode())]
    await answer({"type": "http.response.start", "status": status, "headers": headers})
    await answer({"type": "http.response.body", "body": body})
