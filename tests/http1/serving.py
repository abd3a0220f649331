"""A real server in this process, with a handler that does what a test says."""

import asyncio
import socket
import ssl
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import uvloop

from entrepot.http1 import Answer, Connection, Exchange, Head, Headers, Request, Serving, head, plain
from entrepot.index import OnDisk
from tests.e2e.processes import until

T = TypeVar("T")
Work = Callable[[Request, Exchange], Awaitable[None]]


class Talk:
    """A handler: an answer or a coroutine for each path, 404 for the others. `noted` is its access log."""

    def __init__(self) -> None:
        self.ready: dict[str, Answer | Exception] = {}
        self.work: dict[str, Work] = {}
        self.noted: list[tuple[str, str, int, int]] = []  # method, path, status, bytes
        self.hold = asyncio.Event()  # what `held` waits for

    def at_once(self, request: Request) -> Answer | None:
        answer = self.ready.get(request.path)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def handle(self, request: Request, exchange: Exchange, peer: str) -> None:
        if request.path in self.work:
            await self.work[request.path](request, exchange)
            self.note(request, Answer(Head(exchange.status, [], b""), size=exchange.size), peer, 0)
            return
        await exchange.answer(self.at_once(request) or plain(404, request.path))

    def note(self, request: Request, answer: Answer, peer: str, began: float) -> None:  # noqa: ARG002 - a protocol's
        self.noted.append((request.method, request.path, answer.status, answer.size))

    def refused(self, answer: Answer, peer: str) -> None:  # noqa: ARG002 - a protocol's
        self.noted.append(("-", "-", answer.status, answer.size))

    # Kinds of work.

    async def echo(self, request: Request, exchange: Exchange) -> None:  # noqa: ARG002 - as all work
        """What came as the body, in one piece with its length."""
        await respond(exchange, await body_of(exchange))

    async def held(self, request: Request, exchange: Exchange) -> None:
        await self.hold.wait()
        await respond(exchange, request.path.encode())


async def respond(exchange: Exchange, body: bytes, *, status: int = 200, more: bool = False) -> None:
    await exchange.send({"type": "http.response.start", "status": status, "headers": []})
    await exchange.send({"type": "http.response.body", "body": body, "more_body": more})


async def body_of(exchange: Exchange) -> bytes:
    """The whole body; what came of it with b"<cut>" behind if it was broken off."""
    pieces = list[bytes]()
    while True:
        message = await exchange.receive()
        if message["type"] == "http.disconnect":
            return b"".join(pieces) + b"<cut>"
        pieces.append(message["body"])
        if not message["more_body"]:
            return b"".join(pieces)


def answer(body: bytes, *, status: int = 200, headers: Headers | None = None) -> Answer:
    return Answer(head(status, [("content-length", str(len(body))), *(headers or [])]), body, None, len(body))


def file_answer(path: Path) -> Answer:
    """An answer of a file as it is now."""
    found = path.stat()
    file = OnDisk(path=path, size=found.st_size, mtime_ns=found.st_mtime_ns)
    return Answer(head(200, [("content-length", str(found.st_size))]), b"", file, found.st_size)


class Served:
    """`Serving` in an event loop in a thread. What the loop complains of is in `faults`."""

    def __init__(
        self, *, tls: ssl.SSLContext | None = None, stall: float = 60.0, family: int = socket.AF_INET,
        path: Path | None = None,
    ) -> None:  # fmt: skip
        self.faults: list[dict[str, Any]] = []
        self.talk = Talk()
        self._loop = uvloop.new_event_loop()
        self._loop.set_exception_handler(lambda _, context: self.faults.append(context))
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        listener = socket.socket(family)
        listener.bind(str(path) if path else ("::1" if family == socket.AF_INET6 else "127.0.0.1", 0))
        listener.listen(100)
        self.address = listener.getsockname()
        self.family = family
        self.serving = Serving(self.talk, stall=stall)
        self.run(self.serving.listen([listener], tls))

    def run(self, work: Coroutine[Any, Any, T], *, within: float = 10) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(within)

    def call(self, work: Callable[[], T]) -> T:
        """Run a plain function between two turns of the loop."""

        async def called() -> T:
            return work()

        return self.run(called())

    def release(self) -> None:
        """Let `held` answer."""
        self.call(self.talk.hold.set)

    def clients(self) -> list[Connection]:
        return self.call(lambda: list(self.serving._clients))

    def client(self) -> Connection:
        """The only one, which may still be on its way."""
        [client] = until(self.clients, what="a client")
        return client

    def settle(self) -> None:
        """Wait until the clients' side has taken everything: it does not say so at once."""
        self.client()
        until(lambda: not sum(self.call(client._waiting) for client in self.clients()), what="the clients")

    def sweep(self, times: int = 1, *, idle: float = 75.0, head: float = 30.0, every: float = 5.0) -> None:
        for _ in range(times):
            for client in self.clients():
                self.call(partial(client.sweep, every, idle=idle, head=head))

    @contextmanager
    def connect(self, *, small: bool = False) -> Iterator[socket.socket]:
        with socket.socket(self.family) as made:
            made.settimeout(5)
            if small:
                made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            made.connect(self.address)
            yield made

    def exchange(self, sent: bytes, *, ended: bool = False) -> bytes:
        """What comes back for these bytes, until the server closes."""
        with self.connect() as made:
            made.sendall(sent)
            if ended:
                made.shutdown(socket.SHUT_WR)
            return until_closed(made)

    def end(self) -> None:
        self.call(self.talk.hold.set)
        for client in self.clients():
            self.call(client._transport.abort)
        self.run(self.serving.stop())
        self.run(self._rest())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _rest(self) -> None:
        """What is still running may end."""
        async with asyncio.timeout(5):
            while others := asyncio.all_tasks() - {asyncio.current_task()}:
                await asyncio.wait(others)


def until_closed(made: socket.socket) -> bytes:
    """All that comes until the server closes; "<reset>" where it did not do that in peace."""
    received = bytearray()
    try:
        while piece := made.recv(1 << 20):
            received += piece
    except ConnectionResetError:
        received += b"<reset>"
    return bytes(received)


def received(made: socket.socket, size: int) -> bytes:
    """The next bytes, so many of them."""
    parts = bytearray()
    while len(parts) < size:
        piece = made.recv(size - len(parts))
        assert piece, f"closed after {bytes(parts)!r}"
        parts += piece
    return bytes(parts)


def head_of(made: socket.socket) -> bytes:
    """The next head, to its empty line."""
    parts = b""
    while not parts.endswith(b"\r\n\r\n"):
        parts += received(made, 1)
    return parts


def request(target: str = "/", *, method: str = "GET", headers: str = "", body: bytes = b"") -> bytes:
    length = f"Content-Length: {len(body)}\r\n" if body else ""
    return f"{method} {target} HTTP/1.1\r\nHost: localhost\r\n{length}{headers}\r\n".encode("latin-1") + body


def chunked(*pieces: bytes, trailers: str = "") -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + f"0\r\n{trailers}\r\n".encode()


def reset(made: socket.socket) -> None:
    """Have it end with a reset when it is closed."""
    made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
