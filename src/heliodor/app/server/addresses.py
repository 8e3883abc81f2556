"""Where the page is reached: the interface, the names of the host, and the path in front of it."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from urllib.parse import urlsplit

from heliodor.errors import BadInput

LOOPBACK = "127.0.0.1"
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?", re.ASCII)
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+)(?::(\d{1,5}))?", re.ASCII)
_ORIGIN = re.compile(r"https?://([^/?#@]+)", re.ASCII)
_PATH = re.compile(r"(/[A-Za-z0-9._~@:+%-]+)*", re.ASCII)
_OWN_NAMES = frozenset({"127.0.0.1", "localhost", "[::1]"})
#: Where cluster software says from which host a job was submitted: usually a login node, through
#: which the node of the job is reached.
_SUBMIT_HOSTS = ("SLURM_SUBMIT_HOST", "PBS_O_HOST", "SGE_O_HOST")


@dataclass(frozen=True)
class Addresses:
    """Where the page is reached.

    Attributes
    ----------
    host
        The interface that the server listens on: an address or a name.
    base_url
        The address at which a proxy shows the page, or only its path; `{port}` stands for the
        port of the server. Empty without a proxy.
    allowed_hosts
        Names of the host that requests may have, besides those of this machine and of `base_url`.
    """

    host: str = LOOPBACK
    base_url: str = ""
    allowed_hosts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.host or any(c.isspace() or c == "/" for c in self.host):
            raise BadInput(f"--host must be an address or a name, not {self.host!r}")
        for name in self.allowed_hosts:
            if not _NAME.fullmatch(name):
                raise BadInput(
                    f"--allowed-host must be the name of a host without a port, not {name!r}"
                )
        for_check = self.base_url.replace("{port}", "1")
        parts = urlsplit(for_check)
        is_path = parts.scheme == "" and parts.netloc == "" and for_check.startswith("/")
        is_url = parts.scheme in ("http", "https") and _HOST.fullmatch(parts.netloc)
        whole = not (parts.query or parts.fragment) and _PATH.fullmatch(parts.path.rstrip("/"))
        if self.base_url and not ((is_path or is_url) and whole):
            raise BadInput(
                f"--base-url must be an address such as https://hub.example.org/user/me/heliodor/"
                f" or a path such as /node/c01/8765/, not {self.base_url!r}"
            )

    @property
    def is_local(self) -> bool:
        """Whether only this machine can connect."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def path(self, port: int) -> str:
        """Return the path in front of all addresses, without a slash at its end; "" for none."""
        return urlsplit(self.base_url.replace("{port}", str(port))).path.rstrip("/")

    def accepts_host(self, host: str) -> bool:
        """Return whether a request may name this host, with or without a port."""
        found = _HOST.fullmatch(host)
        if found is None or int(found[2] or 80) > 65535:
            return False
        return found[1] in _OWN_NAMES or found[1].lower() in self._names

    def accepts_origin(self, origin: str, host: str) -> bool:
        """Return whether the page of a request may be at this origin.

        Parameters
        ----------
        origin
            The header `Origin`.
        host
            The header `Host`, which a proxy may have changed.
        """
        if origin == f"http://{host}":
            return True
        # Another name of this machine is another origin: a proxy has names of its own.
        found = _ORIGIN.fullmatch(origin)
        name = None if found is None else _HOST.fullmatch(found[1])
        return name is not None and name[1].lower() in self._names

    @cached_property
    def _names(self) -> frozenset[str]:
        """The names that a host may have besides those of every machine."""
        names = {name.lower() for name in self.allowed_hosts}
        host = urlsplit(self.base_url).hostname
        if host is not None and host not in _OWN_NAMES:
            names.add(host.lower())
        if not self.is_local:
            names |= {name.lower() for name in _names_of_machine(self.host)}
        return frozenset(names)

    def page(self, port: int) -> str:
        """Return the address of the page."""
        parts = urlsplit(self.base_url)
        if parts.netloc:
            return f"{parts.scheme}://{parts.netloc}{self.path(port)}/"
        # A server for other machines is reached by the name of this one.
        host = LOOPBACK if self.is_local else _reachable_name(self.host)
        return f"http://{host}:{port}{self.path(port)}/"

    def describe_access(self, port: int, user: str, environment: Mapping[str, str]) -> str:
        """Return how to reach the page from another computer; "" if its address says it."""
        if not self.is_local or urlsplit(self.base_url).netloc:
            return ""
        node = socket.gethostname()
        tunnel = f"ssh -L {port}:{LOOPBACK}:{port}"
        jump = next((environment[key] for key in _SUBMIT_HOSTS if environment.get(key)), None)
        if jump is not None and _NAME.fullmatch(jump) and jump != node:
            return (
                "from another computer, first run:\n"
                f"        {tunnel} -J {user}@{jump} {user}@{node}\n"
            )
        return (
            "from another computer, first run:\n"
            f"        {tunnel} {user}@{node}\n"
            "or, if it is only reached through a login node:\n"
            f"        {tunnel} -J {user}@LOGIN_NODE {user}@{node}\n"
        )

    def listen(self, ports: Iterable[int]) -> socket.socket:
        """Return a socket that listens on the first free port.

        Raises
        ------
        BadInput
            If none can be used.
        """
        why, last = "no such port", 0
        for port in ports:
            last = port
            try:
                found = socket.getaddrinfo(
                    self.host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
                )
            except OSError as error:
                raise BadInput(
                    f"--host {self.host} is not an address of this machine ({error.strerror})"
                ) from error
            family, kind, protocol, _, address = found[0]
            listener = socket.socket(family, kind, protocol)
            try:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.bind(address)
                listener.listen(256)
            except OSError as error:
                listener.close()
                why = error.strerror or str(error)
                continue
            return listener
        raise BadInput(f"port {last} cannot be used ({why}); choose another one with --port")


def _names_of_machine(host: str) -> set[str]:
    """Return the names by which other machines may call this one."""
    names = {host, socket.gethostname(), socket.getfqdn()}
    return {f"[{name}]" if ":" in name else name for name in names}


def _reachable_name(host: str) -> str:
    """Return the name of an interface in addresses; for all interfaces, that of the machine."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if address.is_unspecified:
        return socket.gethostname()
    return f"[{host}]" if address.version == 6 else host
