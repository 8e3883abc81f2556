"""Access control: the token, the origin of requests, and limits on their size and number.

The server listens on this machine only, but other users of the machine can reach it, and so can
any web site that is open in a browser on it. So every request needs the token, must name this
machine as its host (which defeats DNS rebinding), and must come from a page of this server.

Starlette's TrustedHostMiddleware is not enough here: it does not check the port, and neither
accepts ``[::1]`` nor rejects ``127.0.0.1:80@evil.example``. uvicorn's `limit_concurrency` counts
connections without a token too, with which other users of the machine could lock out the owner.
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

#: Most bytes of a request body, and most seconds between its parts.
MAX_BODY, MAX_SECONDS = 4 * 2**20, 30.0
#: Most requests that are served at the same time.
MAX_REQUESTS = 256
#: With any port: the local end of an SSH tunnel may have another one.
_HOST = re.compile(r"(127\.0\.0\.1|localhost|\[::1\])(?::(\d{1,5}))?", re.ASCII)
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
#: For a link on another page: after a redirect the browser would not send the cookie, because
#: the other page started the navigation.
_FORWARD_PAGE = (
    b'<!doctype html><meta http-equiv="refresh" content="0;url=/"><title>heliodor</title>'
    b'<a href="/">heliodor</a>'
)


class AccessControl:
    """ASGI middleware that only serves requests with the token.

    Parameters
    ----------
    app
        The application to protect.
    token
        The secret token.
    """

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._token = token.encode()
        self._active = 0

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

        refusal = self._find_fault(scope)
        if refusal is not None:
            await _send_error(answer, *refusal)
            return
        if scope["path"] == "/" and scope["query_string"]:
            try:
                query = parse_qs(scope["query_string"].decode("latin-1"), max_num_fields=20)
            except ValueError:
                await _send_error(answer, 400, "the address has too many fields")
                return
            if "token" in query:
                await self._log_in(scope, answer, query["token"])
                return
        if not self._is_authorized(scope):
            await _send_error(
                answer, 401, "no valid token; open the address that heliodor app printed"
            )
            return
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
        found = _HOST.fullmatch(host or "")
        if found is None or int(found[2] or 80) > 65535:
            return 403, "this server answers only as 127.0.0.1 or localhost"
        if _has_header(scope, b"origin") and _single(scope, b"origin") != f"http://{host}":
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

    def _is_authorized(self, scope: Scope) -> bool:
        header = _single(scope, b"authorization") or ""
        if header.startswith("Bearer ") and self._matches(header.removeprefix("Bearer ").strip()):
            return True
        cookies: SimpleCookie = SimpleCookie()
        for value in _header_values(scope, b"cookie"):
            try:
                cookies.load(value)
            except CookieError:
                continue  # from another server on this machine
        found = cookies.get(_cookie_name(scope))
        return found is not None and self._matches(found.value)

    def _matches(self, token: str) -> bool:
        return hmac.compare_digest(token.encode(), self._token)

    async def _log_in(self, scope: Scope, answer: Send, tokens: list[str]) -> None:
        """Set the cookie for a valid token in the address, and go on to the page."""
        if len(tokens) != 1 or not self._matches(tokens[0]):
            await _send_error(answer, 401, "invalid token; was the server restarted?")
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


def _cookie_name(scope: Scope) -> str:
    """Return the name of the cookie; it has the port, since all ports share their cookies."""
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
