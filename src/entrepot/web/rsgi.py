"""The front for Granian's own protocol: half the cost of ASGI for a warm answer, and files by path from Rust.

Its scope has no raw path: where that matters, the ASGI front serves (`docs/decisions/003-rsgi-front.md`).
"""

import time
from collections.abc import AsyncIterator
from typing import Any, Protocol

from entrepot.web.asgi import AsgiApp, Message, announced, ascii_query, logged_already
from entrepot.web.cache import Headers
from entrepot.web.unread import Unread
from entrepot.web.warm import READS, Answer, Warm


class RsgiHeaders(Protocol):
    def get(self, key: str, default: str | None = None) -> str | None: ...
    def items(self) -> list[tuple[str, str]]: ...


class RsgiScope(Protocol):
    """What Granian tells of a request; `path` is decoded."""

    proto: str
    http_version: str
    server: str
    client: str
    scheme: str
    method: str
    path: str
    query_string: str
    authority: str | None
    headers: RsgiHeaders


class RsgiStream(Protocol):
    async def send_bytes(self, data: bytes) -> None: ...


class RsgiProtocol(Protocol):
    """How Granian takes an answer."""

    def __aiter__(self) -> AsyncIterator[bytes]: ...
    async def client_disconnect(self) -> None: ...
    def response_empty(self, status: int, headers: Headers) -> None: ...
    def response_bytes(self, status: int, headers: Headers, body: bytes) -> None: ...
    def response_file(self, status: int, headers: Headers, file: str) -> None: ...
    def response_file_range(self, status: int, headers: Headers, file: str, start: int, end: int) -> None: ...
    def response_stream(self, status: int, headers: Headers) -> RsgiStream: ...


class Front:
    """Answers requests: warm ones itself, everything else by the ASGI app behind."""

    def __init__(self, warm: Warm, behind: AsgiApp) -> None:
        self._warm = warm
        self._behind = behind

    async def __call__(self, scope: RsgiScope, proto: RsgiProtocol) -> None:
        began = time.perf_counter()
        header = scope.headers.get
        method, path = scope.method, scope.path
        answer = self._warm.refusal(method, header("host") or scope.authority or "", header)
        if answer is None and method in READS and not scope.query_string:
            answer = await self._warm.look(method, path, header)
        if answer is None or method not in READS:
            await self._slowly(scope, proto, answer, began)
        else:
            _send(proto, answer)
            self._note(scope, method, path, answer, began)

    async def _slowly(self, scope: RsgiScope, proto: RsgiProtocol, answer: Answer | None, began: float) -> None:
        exchange = _Exchange(proto, scope)
        rest = Unread(exchange.receive, scope.headers.get)
        if answer is None:
            answer = await self._through(scope, proto, exchange, rest)
        else:
            _send(proto, answer)
        self._note(scope, scope.method, scope.path, answer, began)
        # Only now: a client that looks for the answer while it is sending stops early.
        await rest.drain()

    async def _through(self, scope: RsgiScope, proto: RsgiProtocol, exchange: "_Exchange", rest: Unread) -> Answer:
        inner = self._warm.path_behind(scope.path)
        if inner is None:
            outside = self._warm.outside()
            _send(proto, outside)
            return outside
        state: dict[str, Any] = {"token": ""}
        translated = _asgi_scope(scope, inner, state)
        with logged_already():
            await self._behind(translated, rest.receive, exchange.send)
        return exchange.answer(str(state["token"]))

    def _note(self, scope: RsgiScope, method: str, path: str, answer: Answer, began: float) -> None:
        header = scope.headers.get
        forwarded = _joined(scope, "x-forwarded-for") if header("x-forwarded-for") is not None else None
        peer = _host(scope.client)
        self._warm.note(answer, method, path, peer, forwarded, header("user-agent"), began)


def _send(proto: RsgiProtocol, answer: Answer) -> None:
    if answer.file is not None:
        proto.response_file(answer.status, answer.headers, str(answer.file.path))
    elif answer.body:
        proto.response_bytes(answer.status, answer.headers, answer.body)
    else:
        proto.response_empty(answer.status, answer.headers)


def _host(address: str) -> str:
    """The host of "host:port"; a Unix socket's peer has neither."""
    return address.rpartition(":")[0].strip("[]") or "unix"


def _joined(scope: RsgiScope, wanted: str) -> str:
    """All lines of a header as one: proxies may append a line of their own."""
    return ", ".join(value for name, value in scope.headers.items() if name == wanted)


def _asgi_scope(scope: RsgiScope, path: str, state: dict[str, Any]) -> dict[str, Any]:
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in scope.headers.items()]
    if scope.authority is not None and scope.headers.get("host") is None:  # HTTP/2
        headers.insert(0, (b"host", scope.authority.encode("latin-1")))
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": scope.http_version,
        "method": scope.method,
        "scheme": scope.scheme,
        "path": path,
        "client_path": scope.path,
        "raw_path": path.encode(),  # as good as we have it
        "query_string": ascii_query(scope.query_string.encode()),
        "root_path": "",
        "headers": headers,
        "client": (_host(scope.client), 0),
        "server": (_host(scope.server), None),
        "extensions": {"http.response.pathsend": {}, "entrepot.span": {}},
        "state": state,
    }


class _Exchange:
    """One request and its answer as ASGI messages."""

    def __init__(self, proto: RsgiProtocol, scope: RsgiScope) -> None:
        self._proto = proto
        self._body = aiter(proto)
        length = scope.headers.get("content-length")
        self._missing = int(length) if length is not None and length.isdecimal() else None
        self._ended = False
        self._status = 499  # the client went away before there was an answer
        self._headers: Headers = []
        self._stream: RsgiStream | None = None
        self._size = self._announced = 0

    async def receive(self) -> Message:
        if self._ended:
            await self._proto.client_disconnect()
            return {"type": "http.disconnect"}
        try:
            # Not `anext(…, None)`: CPython's wrapper for the default crashes on Granian's awaitables.
            chunk = await self._body.__anext__()
        except StopAsyncIteration:
            self._ended = True
        else:
            if self._missing is not None:
                self._missing -= len(chunk)
            return {"type": "http.request", "body": chunk, "more_body": True}
        if self._missing:  # the body just ends when the connection was cut
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(self, message: Message) -> None:
        match message["type"]:
            case "http.response.start":
                self._status, self._announced = message["status"], announced(message["headers"])
                self._headers = [
                    (name.decode("latin-1"), value.decode("latin-1")) for name, value in message["headers"]
                ]
            case "http.response.body":
                await self._send_body(message.get("body", b""), more=message.get("more_body", False))
            case "http.response.pathsend":
                self._send_path(message["path"], message.get("span"))

    async def _send_body(self, body: bytes, *, more: bool) -> None:
        self._size += len(body)
        if self._stream is None and not more:
            if body:
                self._proto.response_bytes(self._status, self._headers, body)
            else:
                self._proto.response_empty(self._status, self._headers)
            return
        if self._stream is None:
            self._stream = self._proto.response_stream(self._status, self._headers)
        if body:
            try:
                await self._stream.send_bytes(body)
            except RuntimeError as error:  # Granian's ProtocolClosed
                raise OSError("the client went away") from error  # as ASGI has it

    def _send_path(self, path: str, span: tuple[int, int] | None) -> None:
        self._size = self._announced
        if span is None:
            self._proto.response_file(self._status, self._headers, path)
        else:
            self._proto.response_file_range(self._status, self._headers, path, *span)

    def answer(self, token: str) -> Answer:
        return Answer(self._status, [], size=self._size, token=token)
