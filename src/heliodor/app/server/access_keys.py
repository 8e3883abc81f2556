"""The secrets of one start of the server: tokens of addresses, session tokens and signatures."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import threading
import time
from collections.abc import Callable
from enum import Enum
from typing import NamedTuple
from urllib.parse import quote

#: A signed address is valid until the end of the next period, so for one to two of them, and
#: stays the same within one.
_PERIOD_SECONDS = 3600
_SIGNED = re.compile(r"(?:.*&)?expires=(\d{1,12})&signature=([0-9a-f]{64})", re.ASCII)


class Rights(Enum):
    """What a session may do."""

    ALL = "all"
    #: See everything, and change nothing.
    READ = "read"


class Session(NamedTuple):
    """What the token of an address was exchanged for."""

    token: str
    rights: Rights


class AccessKeys:
    """What gives access to the server.

    The address that the user opens has a token that works once: browsers keep addresses in
    their history. It is exchanged for the session token, which the page keeps where only pages
    of the same host and port can read it, and sends as a header. A cookie would be sent to all
    ports of the host, and so to servers of other users. What the browser has to load by its
    address has a signature instead, which is valid for this address only, and not for long.

    A read-only address is meant to be passed on: its token works until it is replaced, and is
    exchanged for a session that may only read.

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
        #: The token of the read-only address and the session that it is exchanged for; None while
        #: there is no such address.
        self._read_only: tuple[str, str] | None = None
        self._lock = threading.Lock()

    def exchange(self, token: str) -> Session | None:
        """Return the session for the token of an address; a new one replaces that of the owner.

        None if the token is wrong or was exchanged already.
        """
        shared = self._read_only
        if shared is not None and _are_equal(token, shared[0]):
            return Session(shared[1], Rights.READ)
        if not _are_equal(token, self.address_token):
            return None
        self.address_token = secrets.token_urlsafe(32)
        self._announce(self.address_token)
        return Session(self._session, Rights.ALL)

    def rights(self, token: str) -> Rights | None:
        """Return what the session with this token may do; None if there is no such session."""
        if _are_equal(token, self._session):
            return Rights.ALL
        shared = self._read_only
        if shared is not None and _are_equal(token, shared[1]):
            return Rights.READ
        return None

    def share(self, renew: bool = False) -> str:
        """Return the token of the read-only address.

        Parameters
        ----------
        renew
            Whether to make a new one: those who have the present one lose their access.
        """
        with self._lock:
            if self._read_only is None or renew:
                self._read_only = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
            return self._read_only[0]

    def stop_sharing(self) -> None:
        """Remove the read-only address: those who have it lose their access."""
        self._read_only = None

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
