"""One client's connection: requests in, answers out, one after the other.

The way of a request that was seen before and whose answer is ready: one look-up by its bytes, one call of
`Handler.at_once`, one write. Everything else is read by llhttp and answered by a task.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Coroutine, Iterator
from typing import Protocol, cast

from entrepot.http1 import answers, exchange, files
from entrepot.http1.answers import Answer, plain
from entrepot.http1.bodies import Body
from entrepot.http1.exchange import Exchange
from entrepot.http1.files import ClientGone
from entrepot.http1.requests import Reader, Refused, Request

log = logging.getLogger("entrepot.http")

_READS = frozenset({"GET", "HEAD"})
_HIGH = 256 << 10  # bytes that may wait for a slow client before whoever sends them waits too


class Handler(Protocol):
    """Who answers."""

    def at_once(self, request: Request) -> Answer | None:
        """The answer if it takes no waiting. The same request may come any number of times."""

    async def handle(self, request: Request, exchange: Exchange, peer: str) -> None:
        """Answer by `exchange`, and note it."""

    def note(self, request: Request, answer: Answer, peer: str, began: float) -> None:
        """An answer of `at_once` is on its way. `began` by `time.perf_counter`."""


class Known:
    """Requests by their bytes: a client asks for the same page in the same words, and needs no parser for it.

    Only whole ones without a body are kept; the oldest goes first.
    """

    _MOST, _LONGEST = 4096, 2048  # requests, and bytes of one

    def __init__(self) -> None:
        self._held: dict[bytes, Request] = {}
        self.get = self._held.get

    def keep(self, data: bytes, request: Request) -> None:
        if len(data) > self._LONGEST or request.method not in _READS or request.brings_body or not request.keep_alive:
            return
        if len(self._held) >= self._MOST:
            del self._held[next(iter(self._held))]
        self._held[data] = request


class Clients:
    """The open connections of a process. `nobody` is set while there is none."""

    def __init__(self) -> None:
        self._held: set[Connection] = set()
        self.nobody = asyncio.Event()
        self.nobody.set()

    def __iter__(self) -> "Iterator[Connection]":
        return iter(tuple(self._held))

    def add(self, client: "Connection") -> None:
        self._held.add(client)
        self.nobody.clear()

    def discard(self, client: "Connection") -> None:
        self._held.discard(client)
        if not self._held:
            self.nobody.set()


class Connection(asyncio.Protocol):
    """Made by `Serving` for each client, which also closes it when it idles or when the server stops.

    `stall` is how many seconds a client may take nothing of what is sent.
    """

    def __init__(self, handler: Handler, known: Known, clients: "Clients", stall: float) -> None:
        self._handler = handler
        self._known = known
        self._clients = clients
        self._stall = stall
        self._transport: asyncio.Transport
        self._peer = "unix"
        self._reader = Reader(self._begun, self._new_body)
        self._seen: list[Request] = []  # in what was read last
        self._queue: deque[Request] = deque()  # pipelined behind the one that is being answered
        self._refused: Refused | None = None  # what came behind them
        self._task: asyncio.Task[None] | None = None
        self._pauses = 0  # reasons not to read
        self._full: asyncio.Future[None] | None = None  # until the client has taken what waits for it
        self._gone: asyncio.Future[None] | None = None
        self._lost = self._heard_all = self._deaf = False
        self.scheme = "http"
        self.closing = False  # after the answer that is under way
        self._quiet = 0  # sweeps since a request began
        self._stuck = (0, 0)  # sweeps in which the client took nothing, and how many bytes wait for it

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop has classes of its own
        self._transport.set_write_buffer_limits(_HIGH)
        peer = transport.get_extra_info("peername")
        self._peer = peer[0] if isinstance(peer, tuple) else "unix"
        self.scheme = "https" if transport.get_extra_info("ssl_object") is not None else "http"
        self._clients.add(self)

    def data_received(self, data: bytes) -> None:
        if self._task is not None or not self._reader.at_rest or self._deaf:
            self._read(data)
            return
        self._quiet = 0
        request = self._known.get(data)
        if request is not None:
            self._respond(request)
            return
        self._seen.clear()
        self._read(data)
        if len(self._seen) == 1 and self._reader.at_rest:
            self._known.keep(data, self._seen[0])

    def eof_received(self) -> bool:
        """The client sends no more, but may still read: what it asked for is answered."""
        self._heard_all = True
        self._reader.cut()
        if self._task is None:
            self._transport.close()
        return True

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002 - for us it is gone, whatever it was
        self._lost = True
        self._clients.discard(self)
        self._reader.cut()
        self._queue.clear()
        self.resume_writing()
        if self._gone is not None and not self._gone.done():
            self._gone.set_result(None)

    def pause_writing(self) -> None:
        self._full = asyncio.get_running_loop().create_future()
        self._pause()  # it need not ask for more

    def resume_writing(self) -> None:
        full, self._full = self._full, None
        if full is not None:
            if not full.done():
                full.set_result(None)
            self._resume()

    # Requests.

    def _read(self, data: bytes) -> None:
        if self._deaf or self._refused is not None or self._reader.over:
            return
        try:
            self._reader.feed(data)
        except Refused as refused:
            self._refused = refused
            self._reader.cut()
        if self._task is None:
            self._go_on()

    def _begun(self, request: Request) -> None:
        """A request's head is complete."""
        self._seen.append(request)
        if self._task is not None:
            self._queue.append(request)
            if len(self._queue) == 1:
                self._pause()
        else:
            self._respond(request)

    def _respond(self, request: Request) -> None:
        """Begin to answer. Nothing else is being answered."""
        began = time.perf_counter()
        answer = None
        if self._full is None and not request.brings_body:
            answer = self._handler.at_once(request)
        if answer is None:
            self._start(self._handle(request))
        elif answer.file is None or request.method == "HEAD":
            self._put(request, answer, answer.body)
            self._handler.note(request, answer, self._peer, began)
        else:
            self._put_file(request, answer, began)

    def _put(self, request: Request, answer: Answer, body: bytes) -> None:
        keep_alive = request.keep_alive and not self.closing
        ending = answers.ending(exchange.connection(request, keep_alive=keep_alive))
        if request.method == "HEAD":
            body = b""
        self._transport.writelines((answer.head.wire, ending, body))
        if not keep_alive:
            self._part()

    def _put_file(self, request: Request, answer: Answer, began: float) -> None:
        assert answer.file is not None
        fd = files.opened(answer.file)
        if fd is None:
            self._start(self._handle(request))
            return
        body = files.at_hand(fd, 0, answer.size)
        if body is None:
            self._start(self._send(request, answer, fd, began))
            return
        files.close(fd)
        self._put(request, answer, body)
        self._handler.note(request, answer, self._peer, began)

    def _start(self, work: Coroutine[None, None, None]) -> None:
        self._task = asyncio.get_running_loop().create_task(work)

    async def _handle(self, request: Request) -> None:
        made = Exchange(self, request)
        try:
            await self.drained()
            await self._handler.handle(request, made, self._peer)
        except ClientGone:
            pass
        except Exception:
            log.exception("%s %r failed", request.method, request.path)
        self._answered(request, made)

    async def _send(self, request: Request, answer: Answer, fd: int, began: float) -> None:
        """A file that is not at hand."""
        made = Exchange(self, request)
        try:
            await made.answer(answer, fd)
        except ClientGone:
            pass
        except OSError:
            log.exception("%s %r was cut off", request.method, request.path)
        self._handler.note(request, answer, self._peer, began)
        self._answered(request, made)

    def _answered(self, request: Request, made: Exchange) -> None:
        """A task has done what it could: another request, or the end."""
        self._task = None
        self._quiet = 0
        if self._lost:
            return
        if not made.begun and not request.body.cut:
            fault = plain(500, "this is a fault of the server; its log says more")
            self._put(request, fault, fault.body)
            self._part()
        elif not made.complete:
            self._transport.abort()  # else what was sent would look complete
        elif not made.keep_alive or not request.body.ended or self._heard_all or self.closing:
            self._part()
        else:
            self._go_on()

    def _go_on(self) -> None:
        """Answer what is waiting."""
        while self._queue and self._task is None and not self._deaf:
            request = self._queue.popleft()
            if not self._queue:
                self._resume()
            self._respond(request)
        if self._task is not None or self._deaf:
            return
        if self._refused is not None:
            refusal = plain(self._refused.status, self._refused.reason)
            self._transport.writelines((refusal.head.wire, answers.ending("close"), refusal.body))
            self._part()
        elif self._reader.over or self._heard_all:
            self._part()

    def _part(self) -> None:
        """No more requests.

        What still comes is dropped: closed at once, a client that is writing might see a reset and not the answer
        (RFC 9112 §9.6). The sweep ends the connection if the client does not.
        """
        self._deaf = True
        self._queue.clear()
        if self._lost or self._transport.is_closing():
            return
        if self._heard_all or self._reader.at_rest or not self._transport.can_write_eof():
            self._transport.close()
        else:
            self._transport.write_eof()
            self._pauses = 0
            self._transport.resume_reading()

    def _new_body(self) -> Body:
        return Body(self._pause, self._resume)

    def _pause(self) -> None:
        self._pauses += 1
        if self._pauses == 1 and not self._transport.is_closing():
            self._transport.pause_reading()

    def _resume(self) -> None:
        self._pauses = max(0, self._pauses - 1)
        if self._pauses == 0 and not self._transport.is_closing():
            self._transport.resume_reading()

    # For exchanges.

    def write(self, data: bytes) -> None:
        """Raises `ClientGone`."""
        if self._lost or self._transport.is_closing():
            raise ClientGone("it closed the connection")
        self._transport.write(data)

    async def drained(self) -> None:
        """Wait until the client has taken enough of what was written. Raises `ClientGone`."""
        full = self._full
        if full is not None:
            try:
                async with asyncio.timeout(self._stall):
                    await asyncio.shield(full)
            except TimeoutError:
                self._transport.abort()
                raise ClientGone(f"it took nothing for {self._stall:.0f} seconds") from None
        if self._lost:
            raise ClientGone("it closed the connection")

    async def send_file(self, fd: int, start: int, stop: int) -> None:
        """Send bytes of a file behind what was written. Raises `ClientGone`, and `OSError` for a broken file."""
        try:
            client = files.duplicate(self._transport)
            if client is None:
                await self._copy_file(fd, start, stop)
                return
            with client:
                self._transport.set_write_buffer_limits(0)
                await self.drained()
                await files.send(client, fd, start, stop, stall=self._stall)
            self._transport.set_write_buffer_limits(_HIGH)
        except OSError:
            self._transport.abort()
            raise

    async def _copy_file(self, fd: int, start: int, stop: int) -> None:
        while start < stop:
            piece = await files.read(fd, start, stop)
            self._transport.write(piece)
            start += len(piece)
            await self.drained()

    async def lost(self) -> None:
        """Wait until the client is gone."""
        if self._lost:
            return
        self._gone = asyncio.get_running_loop().create_future()
        await self._gone

    # For the server.

    def shut(self) -> None:
        """The server stops: finish what is being answered, begin nothing."""
        self.closing = True
        if self._task is None:
            self._transport.close()

    def kill(self) -> None:
        self._transport.abort()

    def sweep(self, every: float, *, idle: float, head: float) -> None:
        """Called every so many seconds: end a client that idles, does not finish its head, or takes nothing."""
        self._quiet += 1
        waiting = self._transport.get_write_buffer_size()
        self._stuck = (self._stuck[0] + 1, waiting) if waiting and waiting == self._stuck[1] else (0, waiting)
        if self._stuck[0] * every > self._stall:
            self._transport.abort()
        elif self._task is None:
            allowed = idle if self._reader.at_rest and not self._deaf else head
            if self._quiet * every > allowed:
                self._transport.abort() if self._deaf else self._transport.close()
