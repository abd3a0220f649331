"""One request and its answer, as ASGI messages and as whole answers."""

import os
from collections.abc import MutableMapping
from typing import Any, Protocol

from entrepot.http1 import answers
from entrepot.http1.answers import Answer, Headers
from entrepot.http1.requests import Request

Message = MutableMapping[str, Any]


class Wire(Protocol):
    """What an exchange needs of its connection."""

    def write(self, data: bytes) -> None: ...
    async def drained(self) -> None: ...
    async def send_file(self, fd: int, start: int, stop: int) -> None: ...
    async def lost(self) -> None: ...
    @property
    def closing(self) -> bool: ...
    @property
    def scheme(self) -> str: ...


class Exchange:
    """Takes one request's body and sends its answer, at the client's pace.

    After an answer `complete` tells whether all that its head announced was sent; if not, the connection must end.
    Sending raises `OSError` when the client is gone.
    """

    def __init__(self, wire: Wire, request: Request) -> None:
        self._wire = wire
        self._request = request
        self._head: tuple[int, Headers] | None = None  # held back until the first byte of the body is known
        self._left: int | None = None  # bytes announced and not yet sent
        self._chunked = False
        self._told_end = False  # of the request's body
        self._waits = request.waits
        self.keep_alive = request.keep_alive
        self.status = 499  # the client went away before there was an answer
        self.size = 0  # bytes of body sent
        self.begun = False
        self.complete = False

    @property
    def scheme(self) -> str:
        """Whether we encrypt: "http" or "https"."""
        return self._wire.scheme

    # ASGI.

    async def receive(self) -> Message:
        request = self._request
        if self._told_end:
            await self._wire.lost()
            return {"type": "http.disconnect"}
        if self._waits and not self.begun and request.body.empty and not request.body.ended:
            self._waits = False
            self._wire.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        piece = await request.body.take()
        if piece is None:
            return {"type": "http.disconnect"}
        more = not (request.body.ended and request.body.empty)
        self._told_end = not more
        return {"type": "http.request", "body": piece, "more_body": more}

    async def send(self, message: Message) -> None:
        match message["type"]:
            case "http.response.start":
                headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in message["headers"]]
                self._head = message["status"], headers
                self.status = message["status"]
            case "http.response.body":
                await self._send_body(message.get("body", b""), more=message.get("more_body", False))
            case "http.response.pathsend":
                await self._send_path(message["path"], message.get("span"))

    async def _send_body(self, body: bytes, *, more: bool) -> None:
        self._begin(None if more else len(body))
        if body and answers.has_body(self._request.method, self.status):
            self._send_piece(body)
        if not more:
            self._end()
        await self._wire.drained()

    async def _send_path(self, path: str, span: tuple[int, int] | None) -> None:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)  # found a moment ago, so its folder is in memory
        try:
            start, stop = span or (0, os.fstat(fd).st_size)
            self._begin(stop - start)
            if answers.has_body(self._request.method, self.status):
                self._check(stop - start)
                await self._wire.send_file(fd, start, stop)
                self._count(stop - start)
        finally:
            os.close(fd)
        self._end()

    # Whole answers.

    async def answer(self, answer: Answer, fd: int | None = None) -> None:
        """Send an answer; of `fd`, which it closes, if it is of a file."""
        self.status = answer.status
        try:
            self._put_head(answer.head.wire)
            if not answers.has_body(self._request.method, answer.status):
                pass
            elif fd is not None:
                await self._wire.send_file(fd, 0, answer.size)
            elif answer.body:
                self._wire.write(answer.body)
        finally:
            if fd is not None:
                os.close(fd)
        self.size = answer.size
        self.complete = True
        await self._wire.drained()

    # The head.

    def _begin(self, size: int | None) -> None:
        """Write the head, once. `size` is the body's, None if more may follow."""
        if self.begun:
            return
        assert self._head is not None, "a body before its head"
        status, headers = self._head
        fields = dict(headers)
        if fields.get("connection", "").lower() == "close":
            self.keep_alive = False
            headers = [pair for pair in headers if pair[0] != "connection"]
        if answers.has_body(self._request.method, status):
            headers = self._framed(headers, fields.get("content-length"), size)
        self._put_head(answers.rendered(status, headers))

    def _framed(self, headers: Headers, announced: str | None, size: int | None) -> Headers:
        """With how the client finds the end (RFC 9112 §6.3): a length, chunks, or the connection's end."""
        if announced is not None:
            self._left = int(announced)
            return headers
        if size is not None:
            self._left = size
            return [*headers, ("content-length", str(size))]
        self._chunked = self._request.version == "1.1"
        if self._chunked:
            return [*headers, ("transfer-encoding", "chunked")]
        self.keep_alive = False
        return headers

    def _put_head(self, wire: bytes) -> None:
        self.begun = True
        if self._wire.closing or (self._waits and not self._request.body.ended):
            # Told nothing, the client may send its body or not: nobody could say what comes next.
            self.keep_alive = False
        self._wire.write(wire + answers.ending(connection(self._request, keep_alive=self.keep_alive)))

    # The body.

    def _send_piece(self, piece: bytes) -> None:
        self._check(len(piece))
        self._count(len(piece))
        self._wire.write(b"%x\r\n%b\r\n" % (len(piece), piece) if self._chunked else piece)

    def _check(self, size: int) -> None:
        """A byte too many would be the beginning of the next answer."""
        if self._left is not None and size > self._left:
            raise RuntimeError("the answer has more bytes than it announced")

    def _count(self, size: int) -> None:
        self.size += size
        if self._left is not None:
            self._left -= size

    def _end(self) -> None:
        if self._chunked:
            self._wire.write(b"0\r\n\r\n")
        self.complete = not self._left or not answers.has_body(self._request.method, self.status)


def connection(request: Request, *, keep_alive: bool) -> str:
    """What the answer's Connection header says; "" leaves it out. HTTP/1.0 must be told that it may go on."""
    if not keep_alive:
        return "close"
    return "keep-alive" if request.version == "1.0" else ""
