"""The front for Granian's own protocol: half the cost of ASGI for a warm answer, and files by path from Rust.

Its scope has no raw path: where that matters, the ASGI front serves (`docs/decisions/003-rsgi-front.md`).
"""

import time
from collections.abc import AsyncIterator
from typing import Any, Protocol

from entrepot.web.asgi import AsgiApp, Message
from entrepot.web.cache import Headers
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
        if answer is None:
            answer = await self._through(scope, proto, path)
        else:
            _send(proto, answer)
        self._warm.note(answer, method, path, _host(scope.client), header, began)

    async def _through(self, scope: RsgiScope, proto: RsgiProtocol, path: str) -> Answer:
        inner = self._warm.path_behind(path)
        if inner is None:
            outside = self._warm.outside()
            _send(proto, outside)
            return outside
        state: dict[str, Any] = {"token": ""}
        exchange = _Exchange(proto, scope)
        await self._behind(_asgi_scope(scope, inner, state), exchange.receive, exchange.send)
        return exchange.answer(str(state["token"]))


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
        "query_string": scope.query_string.encode("latin-1"),
        "root_path": "",
        "headers": headers,
        "client": (_host(scope.client), 0),
        "server": (_host(scope.server), None),
        "extensions": {"http.response.pathsend": {}},
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
        self._size = 0

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
                self._status = message["status"]
                self._headers = [
                    (name.decode("latin-1"), value.decode("latin-1")) for name, value in message["headers"]
                ]
            case "http.response.body":
                await self._send_body(message.get("body", b""), more=message.get("more_body", False))
            case "http.response.pathsend":
                self._proto.response_file(self._status, self._headers, message["path"])
                self._size = _announced(self._headers)

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
            await self._stream.send_bytes(body)

    def answer(self, token: str) -> Answer:
        return Answer(self._status, [], size=self._size, token=token)


def _announced(headers: Headers) -> int:
    return next((int(value) for name, value in headers if name == "content-length"), 0)
