"""The secrets of one start of the server: address token, session token and signatures."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Callable
from urllib.parse import quote

#: A signed address is valid until the end of the next period, so for one to two of them, and
#: stays the same within one.
_PERIOD_SECONDS = 3600
_SIGNED = re.compile(r"(?:.*&)?expires=(\d{1,12})&signature=([0-9a-f]{64})", re.ASCII)


class AccessKeys:
    """What gives access to the server.

    The address that the user opens has a token that works once: browsers keep addresses in
    their history. It is exchanged for the session token, which the page keeps where only pages
    of the same host and port can read it, and sends as a header. A cookie would be sent to all
    ports of the host, and so to servers of other users. What the browser has to load by its
    address has a signature instead, which is valid for this address only, and not for long.

    Parameters
    ----------
    announce
        Called with the next address token after the present one was exchanged.
    """

    def __init__(self, announce: Callable[[str], None] = lambda token: None) -> None:
        self._announce = announce
        self._session = secrets.token_urlsafe(32)
        self._signing_key = secrets.token_bytes(32)
        self.address_token = secrets.token_urlsafe(32)

    def exchange(self, token: str) -> str | None:
        """Return the session token for the address token, which a new one replaces.

        None if the token is wrong or was exchanged already.
        """
        if not _are_equal(token, self.address_token):
            return None
        self.address_token = secrets.token_urlsafe(32)
        self._announce(self.address_token)
        return self._session

    def is_session(self, token: str) -> bool:
        """Return whether this is the session token."""
        return _are_equal(token, self._session)

    def sign(self, path: str, query: str = "") -> str:
        """Return the address of a path and a query with its expiry and signature.

        Parameters
        ----------
        path
            The path, without percent encoding.
        query
            The query, percent-encoded, without the question mark.
        """
        expires = (int(time.time()) // _PERIOD_SECONDS + 2) * _PERIOD_SECONDS
        query = f"{query}&expires={expires}" if query else f"expires={expires}"
        return f"{quote(path)}?{query}&signature={self._signature(path, query)}"

    def is_signed(self, path: str, query: str) -> bool:
        """Return whether a path and a query were signed by `sign` and have not expired."""
        found = _SIGNED.fullmatch(query)
        if found is None:
            return False
        signed = query.removesuffix(f"&signature={found[2]}")
        is_genuine = _are_equal(found[2], self._signature(path, signed))
        return is_genuine and time.time() < int(found[1])

    def _signature(self, path: str, query: str) -> str:
        text = f"{path}?{query}".encode()
        return hmac.new(self._signing_key, text, hashlib.sha256).hexdigest()


def _are_equal(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode())
