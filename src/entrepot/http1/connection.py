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

from msgspec.structs import replace

from entrepot import pagecache
from entrepot.http1 import answers, exchange, files, sockets
from entrepot.http1.answers import Answer, plain
from entrepot.http1.bodies import Body
from entrepot.http1.exchange import Exchange
from entrepot.http1.files import ClientGone
from entrepot.http1.known import Known
from entrepot.http1.requests import Reader, Refused, Request

log = logging.getLogger("entrepot.http")

_HIGH = 256 << 10  # bytes that may wait for a slow client before whoever sends them waits too
_PIPELINED = 256  # requests that may wait behind one; what is read in one go could hold 10,000
_FAULT = plain(500, "this is a fault of the server; its log says more")


class Handler(Protocol):
    """Who answers."""

    def at_once(self, request: Request) -> Answer | None:
        """The answer if it takes no waiting. The same request may come any number of times."""

    async def handle(self, request: Request, exchange: Exchange, peer: str) -> None:
        """Answer by `exchange`, and note it."""

    def note(self, request: Request, answer: Answer, peer: str, began: float) -> None:
        """An answer of `at_once` is on its way. `began` by `time.perf_counter`."""

    def refused(self, answer: Answer, peer: str) -> None:
        """What came was no request that can be read, and this answer ends the connection."""


class Clients:
    """The open connections of a process. `nobody` is set while there is none. `leaving`: the server stops."""

    def __init__(self) -> None:
        self._held: set[Connection] = set()
        self.leaving = False
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
        self._gone: asyncio.Event | None = None  # made by whoever waits for the connection's end
        self._lost = self._heard_all = self._deaf = False
        self.scheme = "http"
        self.closing = False  # after the answer that is under way
        self._quiet = 0  # sweeps since a request began, or since the client took some of an answer
        self._waited = 0  # bytes that it had not taken at the last sweep

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop has classes of its own
        self._transport.set_write_buffer_limits(_HIGH)
        peer = transport.get_extra_info("peername")
        self._peer = peer[0] if isinstance(peer, tuple) else "unix"
        self.scheme = "https" if transport.get_extra_info("ssl_object") is not None else "http"
        self._clients.add(self)
        if self._clients.leaving:  # it was let in before, and its handshake took until now
            self.shut()

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
        return self.scheme == "http"  # TLS cannot be half closed, and complains of being asked to

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002 - for us it is gone, whatever it was
        self._lost = True
        self._clients.discard(self)
        self._reader.cut()
        self._queue.clear()
        self.resume_writing()
        if self._gone is not None:
            self._gone.set()

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
        if self._deaf or self._refused is not None:
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
        if self._deaf:
            return
        if self._task is not None:
            if len(self._queue) >= _PIPELINED:
                raise Refused(429, f"more than {_PIPELINED} requests wait behind the one that is being answered")
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
            try:
                answer = self._handler.at_once(request)
            except Exception:
                log.exception("%s %r failed", request.method, request.path)
                answer = _FAULT
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
        body = pagecache.at_hand(fd, 0, answer.size)
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
        self._handler.note(request, replace(answer, size=made.size), self._peer, began)
        self._answered(request, made)

    def _answered(self, request: Request, made: Exchange) -> None:
        """A task has done what it could: another request, or the end."""
        self._task = None
        self._quiet = 0
        request.body.forget()
        if self._lost or self._transport.is_closing():
            return
        if not made.begun and request.body.cut:
            self._go_on()  # to why its body was refused, if it was
        elif not made.begun:
            self.closing = True
            self._put(request, _FAULT, _FAULT.body)
        elif not made.complete:
            self._transport.abort()  # else what was sent would look complete
        elif not made.keep_alive or not request.body.ended or self.closing:
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
            self._handler.refused(refusal, self._peer)
            self._part()
        elif self._heard_all:
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
        if self._heard_all or self._reader.at_rest or self.scheme == "https":
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
        while full is not None and not full.done():
            before = self._waiting()
            await asyncio.wait((full,), timeout=self._stall)
            if not full.done() and self._waiting() == before:
                self._transport.abort()
                raise ClientGone(f"it took nothing for {self._stall:.0f} seconds")
        if self._lost:
            raise ClientGone("it closed the connection")

    async def send_file(self, fd: int, start: int, stop: int) -> None:
        """Send bytes of a file behind what was written. Raises `ClientGone`, and `OSError` for a broken file."""
        try:
            client = sockets.duplicate(self._transport)
            if client is None:
                await self._copy_file(fd, start, stop)
                return
            with client:
                self._transport.set_write_buffer_limits(0)
                await self.drained()
                await files.send(client, fd, start, stop, stall=self._stall, gone=self._transport.is_closing)
            if not self._transport.is_closing():
                self._transport.set_write_buffer_limits(_HIGH)
        except OSError:
            self._transport.abort()
            raise

    async def _copy_file(self, fd: int, start: int, stop: int) -> None:
        while start < stop:
            piece = await files.read(fd, start, stop)
            self.write(piece)
            start += len(piece)
            await self.drained()

    def _waiting(self) -> int:
        """Bytes that the client has not taken yet."""
        return self._transport.get_write_buffer_size() + sockets.unsent(self._transport.get_extra_info("socket"))

    async def lost(self) -> None:
        """Wait until the client is gone."""
        if self._lost:
            return
        self._gone = self._gone or asyncio.Event()
        await self._gone.wait()

    # For the server.

    def shut(self) -> None:
        """The server stops: finish what is being answered, begin nothing."""
        self.closing = True
        if self._task is None:
            self._transport.close()

    def sweep(self, every: float, *, idle: float, head: float) -> None:
        """Called every so many seconds: end a client that idles, does not finish its head, or takes nothing.

        Also one that has everything and owes us its goodbye: TLS has one, and a pooled connection never says it.
        """
        waiting = self._waiting()
        taken, self._waited = waiting != self._waited, waiting
        self._quiet = 0 if waiting and taken else self._quiet + 1
        if waiting:
            allowed = self._stall
        elif self._task is not None:
            return  # the handler's time is its own affair
        elif self.closing or self._transport.is_closing():
            allowed = 0
        else:
            allowed = idle if self._reader.at_rest and not self._deaf else head
        if self._quiet * every > allowed:
            gently = not (waiting or self._deaf or self.closing or self._transport.is_closing())
            self._transport.close() if gently else self._transport.abort()
