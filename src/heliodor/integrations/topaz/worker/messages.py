"""Messages between a client and its worker: length and JSON, over a local socket."""

from __future__ import annotations

import json
import os
import socket
import struct
from typing import Any

_LENGTH = struct.Struct(">I")
#: Longer messages are errors.
LARGEST_BYTES = 2**28


def send(connection: socket.socket, message: dict[str, Any]) -> None:
    """Send one message; raise OSError if nobody receives it."""
    data = json.dumps(message).encode("ascii")
    connection.sendall(_LENGTH.pack(len(data)) + data)


def receive(connection: socket.socket) -> dict[str, Any]:
    """Wait for one message, up to the timeout of the socket.

    Raises
    ------
    OSError
        If no message comes, or the connection ends.
    ValueError
        If the message is invalid.
    """
    (length,) = _LENGTH.unpack(_receive_exactly(connection, _LENGTH.size))
    if length > LARGEST_BYTES:
        raise ValueError(f"message too long: {length} bytes")
    message = json.loads(_receive_exactly(connection, length))
    if not isinstance(message, dict):
        raise ValueError("message is not a JSON object")
    return message


def _receive_exactly(connection: socket.socket, number: int) -> bytes:
    data = bytearray()
    while len(data) < number:
        more = connection.recv(min(number - len(data), 2**20))
        if not more:
            raise ConnectionResetError("the connection was closed")
        data += more
    return bytes(data)


def send_lock(connection: socket.socket, lock: int) -> None:
    """Send a locked file to the other side; the lock holds until both sides have closed it."""
    socket.send_fds(connection, [b"\0"], [lock])


def receive_lock(connection: socket.socket) -> int | None:
    """Receive a locked file; None if the other side sends nothing."""
    _, descriptors, _, _ = socket.recv_fds(connection, 1, 1)
    return descriptors[0] if descriptors else None


def is_same_user(connection: socket.socket) -> bool:
    """Return whether the other side belongs to this user, if the system can tell.

    Otherwise return True: the folder of the sockets is closed to other users.
    """
    if not hasattr(socket, "SO_PEERCRED"):
        return True
    credentials = struct.Struct("3i")
    data = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, credentials.size)
    return bool(credentials.unpack(data)[1] == os.geteuid())
