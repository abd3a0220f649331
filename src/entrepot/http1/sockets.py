"""What transports do not tell of their sockets."""

import asyncio
import fcntl
import os
import socket
import sys
import termios


def unsent(client: socket.socket) -> int:
    """Bytes that the kernel keeps for the client, because its side has not taken them yet."""
    return int.from_bytes(fcntl.ioctl(client, termios.TIOCOUTQ, b"\0\0\0\0"), sys.byteorder)


def duplicate(transport: asyncio.Transport) -> socket.socket | None:
    """The transport's socket under a descriptor of our own; None under TLS, where bytes must pass through us.

    Of our own, because event loops refuse to watch a descriptor that belongs to a transport.
    """
    if transport.get_extra_info("ssl_object") is not None:
        return None
    made = socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno()))
    made.setblocking(False)
    return made
