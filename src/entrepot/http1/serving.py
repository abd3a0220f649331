"""Listening, sweeping, and stopping."""

import asyncio
import socket
import ssl
from collections.abc import Sequence
from typing import Any

from entrepot.http1.connection import Clients, Connection, Handler
from entrepot.http1.known import Known

_SWEEP = 5.0  # seconds between two looks at every connection
_IDLE = 75.0  # seconds without a request; uv and pip keep connections for some 60 at most
_HEAD = 30.0  # seconds for one request's head
_HANDSHAKE = 15.0  # seconds for TLS
_FAREWELL = 3600.0  # seconds for its end, and before it for all that waits: the sweep is who decides
_GOODBYE = 1.0  # seconds for it when the server stops


class Serving:
    """The connections of one process. `stall`: see `Connection`."""

    def __init__(self, handler: Handler, *, stall: float = 60.0) -> None:
        self._handler = handler
        self._stall = stall
        self._known = Known()
        self._clients = Clients()
        self._servers: list[asyncio.Server] = []
        self._sweeping: asyncio.TimerHandle | None = None

    async def listen(self, sockets: Sequence[socket.socket], tls: ssl.SSLContext | None = None) -> None:
        """Answer at sockets that are bound already."""
        loop = asyncio.get_running_loop()
        secure: dict[str, Any] = {}
        if tls is not None:
            secure = {"ssl": tls, "ssl_handshake_timeout": _HANDSHAKE, "ssl_shutdown_timeout": _FAREWELL}
        for listener in sockets:
            make = loop.create_unix_server if listener.family == socket.AF_UNIX else loop.create_server
            self._servers.append(await make(self._connection, sock=listener, backlog=2048, **secure))
        self._sweep()

    async def stop(self) -> None:
        """Accept nobody any more, finish what is being answered, however long it takes."""
        for server in self._servers:
            server.close()
        self._clients.leaving = True
        for client in self._clients:
            client.shut()
        self._sweep_in(_GOODBYE)
        await self._clients.nobody.wait()
        self._sweep_in(None)

    def _connection(self) -> Connection:
        return Connection(self._handler, self._known, self._clients, self._stall)

    def _sweep(self) -> None:
        for client in self._clients:
            client.sweep(_SWEEP, idle=_IDLE, head=_HEAD)
        self._sweep_in(_SWEEP)

    def _sweep_in(self, seconds: float | None) -> None:
        """None: never again."""
        if self._sweeping is not None:
            self._sweeping.cancel()
        self._sweeping = asyncio.get_running_loop().call_later(seconds, self._sweep) if seconds is not None else None
