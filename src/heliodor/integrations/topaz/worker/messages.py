"""Messages between a client and its worker: JSON behind its length, over a local socket."""

from __future__ import annotations

import json
import os
import socket
import struct
from typing import Any

_LENGTH = struct.Struct(">I")
#: Nothing that is said here comes near to this.
LARGEST_BYTES = 2**28


def send(connection: socket.socket, message: dict[str, Any]) -> None:
    """Send one message; raises OSError where nobody takes it."""
    data = json.dumps(message).encode("ascii")
    connection.sendall(_LENGTH.pack(len(data)) + data)


def receive(connection: socket.socket) -> dict[str, Any]:
    """Wait for one message, as long as the socket's time-out has it.

    Raises
    ------
    OSError
        If none comes, or the other side has gone.
    ValueError
        If what comes is no message.
    """
    (length,) = _LENGTH.unpack(_receive_exactly(connection, _LENGTH.size))
    if length > LARGEST_BYTES:
        raise ValueError(f"a message of {length} bytes")
    message = json.loads(_receive_exactly(connection, length))
    if not isinstance(message, dict):
        raise ValueError("a message that is no object")
    return message


def _receive_exactly(connection: socket.socket, number: int) -> bytes:
    data = bytearray()
    while len(data) < number:
        more = connection.recv(min(number - len(data), 2**20))
        if not more:
            raise ConnectionResetError("the other side has gone")
        data += more
    return bytes(data)


def send_lock(connection: socket.socket, lock: int) -> None:
    """Lend a locked file to the other side: the lock holds until both have closed it."""
    socket.send_fds(connection, [b"\0"], [lock])


def receive_lock(connection: socket.socket) -> int | None:
    """Take a locked file; None where the other side says nothing."""
    _, descriptors, _, _ = socket.recv_fds(connection, 1, 1)
    return descriptors[0] if descriptors else None


def is_same_user(connection: socket.socket) -> bool:
    """Tell whether the other side is of this user, where the system says who it is.

    Where it does not, the folder of the sockets, which is closed to others, has to do.
    """
    if not hasattr(socket, "SO_PEERCRED"):
        return True
    credentials = struct.Struct("3i")
    data = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, credentials.size)
    return bool(credentials.unpack(data)[1] == os.geteuid())
