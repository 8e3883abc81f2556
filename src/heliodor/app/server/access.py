"""The gate: who may come in, how much they may carry, and how many at a time.

The server is bound to this machine alone, but so are all its other users, and the pages of any
web site that a browser on it shows. So every request needs the token; it must be meant for this
machine by name (a foreign name that is made to point here is refused), and must come from a page
of this server.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import re
from collections.abc import Iterable
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from starlette.exceptions import HTTPException

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: Bytes of a request's body; seconds that it may take to come.
MAX_BODY, MAX_SECONDS = 4 * 2**20, 30.0
#: Requests at a time.
MAX_REQUESTS = 256
#: Any port: the user's end of a tunnel may have another one.
_HOST = re.compile(r"(127\.0\.0\.1|localhost|\[::1\])(?::(\d{1,5}))?", re.ASCII)
#: Of requests that a page of this server makes, or the user with the address line.
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
#: For who comes by a link on another page: with a redirect the browser would hold back the
#: cookie, as it was the other page that began it.
_FORWARD_PAGE = (
    b'<!doctype html><meta http-equiv="refresh" content="0;url=/"><title>heliodor</title>'
    b'<a href="/">heliodor</a>'
)


class AccessControl:
    """An ASGI application around another that lets only its user in.

    Parameters
    ----------
    app
        What is behind the gate.
    token
        The secret.
    """

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._token = token.encode()
        self._inside = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return  # closes a websocket: there is none here

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = {name.lower() for name, _ in message["headers"]}
                more = [(n, v) for n, v in _HEADERS.items() if n not in own]
                message = {**message, "headers": [*message["headers"], *more]}
            await send(message)

        refusal = self._refusal(scope)
        if refusal is not None:
            await _send_error(answer, *refusal)
            return
        if scope["path"] == "/" and scope["query_string"]:
            query = parse_qs(scope["query_string"].decode("latin-1"), max_num_fields=20)
            if "token" in query:
                await self._enter(scope, answer, query["token"])
                return
        if not self._is_known(scope):
            await _send_error(
                answer, 401, "open the address that heliodor app printed: its token is needed"
            )
            return
        if self._inside >= MAX_REQUESTS:
            await _send_error(answer, 503, "too many requests at a time; try again", retry=True)
            return
        self._inside += 1
        try:
            await self._app(scope, _LimitedBody(receive).receive, answer)
        finally:
            self._inside -= 1

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        """Return why a request is refused whoever makes it."""
        if scope["method"] not in ("GET", "HEAD", "POST"):
            return 405, "only GET and POST are understood"
        host = _single(scope, b"host")
        found = _HOST.fullmatch(host or "")
        if found is None or int(found[2] or 80) > 65535:
            return 403, "this server answers only as 127.0.0.1 or localhost"
        if _has_header(scope, b"origin") and _single(scope, b"origin") != f"http://{host}":
            return 403, "requests of other pages are refused"
        if (
            _has_header(scope, b"sec-fetch-site")
            and _single(scope, b"sec-fetch-site") not in _SITES
        ):
            # A link to the page may be followed from anywhere; nothing but the page comes of it.
            way = [_single(scope, b"sec-fetch-" + name) for name in (b"mode", b"dest")]
            if scope["path"] != "/" or way != ["navigate", "document"]:
                return 403, "requests of other pages are refused"
        length = _single(scope, b"content-length")
        if _has_header(scope, b"content-length") and not (length or "").isdecimal():
            return 400, "the length of the body is no number"
        if length is not None and (len(length) > 12 or int(length) > MAX_BODY):
            return 413, f"a request may carry {MAX_BODY} bytes at most"
        if scope["method"] == "POST":
            kind = (_single(scope, b"content-type") or "").partition(";")[0].strip().lower()
            if kind != "application/json":
                return 415, "the body must be application/json"
        return None

    def _is_known(self, scope: Scope) -> bool:
        said = _single(scope, b"authorization") or ""
        if said.startswith("Bearer ") and self._fits(said.removeprefix("Bearer ").strip()):
            return True
        cookies: SimpleCookie = SimpleCookie()
        for value in _header_values(scope, b"cookie"):
            try:
                cookies.load(value)
            except CookieError:
                continue  # of another server on this machine
        found = cookies.get(_cookie_name(scope))
        return found is not None and self._fits(found.value)

    def _fits(self, token: str) -> bool:
        return hmac.compare_digest(token.encode(), self._token)

    async def _enter(self, scope: Scope, answer: Send, tokens: list[str]) -> None:
        """Give who has the token the cookie, and lead to the page."""
        if len(tokens) != 1 or not self._fits(tokens[0]):
            await _send_error(
                answer, 401, "the token is not that of this server; it was started anew?"
            )
            return
        site = _single(scope, b"sec-fetch-site")
        cookie = f"{_cookie_name(scope)}={self._token.decode()}; Path=/; HttpOnly; SameSite=Strict"
        headers = [(b"set-cookie", cookie.encode()), (b"content-type", b"text/html")]
        if site is None or site in _SITES:
            headers.append((b"location", b"/"))
            await _send(answer, 303, headers, b"")
        else:
            await _send(answer, 200, headers, _FORWARD_PAGE)


class _LimitedBody:
    """A request's body, counted as it comes."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._bytes = 0
        self._whole = False

    async def receive(self) -> Message:
        if self._whole:
            return await self._receive()  # the client's going away, whenever
        try:
            message = await asyncio.wait_for(self._receive(), MAX_SECONDS)
        except TimeoutError as error:
            raise HTTPException(408, "the body did not come in time") from error
        self._bytes += len(message.get("body", b""))
        self._whole = not message.get("more_body", False)
        if self._bytes > MAX_BODY:
            raise HTTPException(413, f"a request may carry {MAX_BODY} bytes at most")
        return message


def _header_values(scope: Scope, name: bytes) -> Iterable[str]:
    return [value.decode("latin-1") for own, value in scope["headers"] if own.lower() == name]


def _has_header(scope: Scope, name: bytes) -> bool:
    return bool(_header_values(scope, name))


def _single(scope: Scope, name: bytes) -> str | None:
    """Return a header that is there once; one that is there twice says nothing."""
    values = list(_header_values(scope, name))
    return values[0] if len(values) == 1 else None


def _cookie_name(scope: Scope) -> str:
    """Return the cookie's name: ports of one machine share their cookies."""
    found = _HOST.fullmatch(_single(scope, b"host") or "")
    return f"heliodor_{(found and found[2]) or 80}"


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
