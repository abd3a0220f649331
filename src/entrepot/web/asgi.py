"""The front for any ASGI server."""

import string
import time
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from contextlib import AbstractContextManager, suppress
from typing import Any
from urllib.parse import quote

from entrepot.http1 import Answer, Head, Headers
from entrepot.index import OnDisk
from entrepot.web.unread import Unread
from entrepot.web.warm import READS, Warm, is_still

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]


class Front:
    """An ASGI app: warm answers itself, everything else by the app behind."""

    def __init__(self, warm: Warm, behind: AsgiApp) -> None:
        self._warm = warm
        self._behind = behind

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        began = time.perf_counter()
        headers: dict[str, str] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name.decode("latin-1"), value.decode("latin-1"))
        method, path = scope["method"], scope["path"]
        answer = self._warm.refusal(method, headers.get("host", ""), headers.get)
        if answer is None and method in READS and not scope["query_string"]:
            answer = await self._warm.look(method, path, headers.get)
            if answer is not None and answer.file is not None and not _can_send(scope, answer.file):
                answer = None
        inner = self._warm.path_behind(path)
        if answer is None and inner is None:
            answer = self._warm.outside()
        rest = Unread(receive, headers.get)
        if answer is None:
            answer = await self._through({**scope, "path": inner, "client_path": path}, rest, send)
        else:
            await rest.drain()
            await send_answer(send, answer)
        peer = scope["client"][0] if scope["client"] else "unix"
        forwarded = _joined(scope, b"x-forwarded-for") if "x-forwarded-for" in headers else None
        self._warm.note(answer, method, path, peer, forwarded, headers.get("user-agent"), began)

    async def _through(self, scope: Scope, rest: Unread, send: Send) -> Answer:
        """Let the app behind answer; what it sent, for the log."""
        state: dict[str, Any] = {**scope.get("state", {}), "token": ""}
        sent = Sent(send, rest)
        query = ascii_query(scope["query_string"])
        with logged_already():
            await self._behind({**scope, "query_string": query, "state": state}, rest.receive, sent)
        return sent.answer(str(state["token"]))


class Sent:
    """A `send` that counts what goes through it. Before the answer, the client may finish what it is sending."""

    def __init__(self, send: Send, rest: Unread) -> None:
        self._send = send
        self._rest = rest
        self._status = 499  # the client went away before there was an answer
        self._size = self._announced = 0

    async def __call__(self, message: Message) -> None:
        match message["type"]:
            case "http.response.start":
                await self._rest.drain()
                self._status = message["status"]
                self._announced = announced(message["headers"])
            case "http.response.body":
                self._size += len(message.get("body", b""))
            case "http.response.pathsend":
                self._size = self._announced
        await self._send(message)

    def answer(self, token: str) -> Answer:
        return Answer(Head(self._status, [], b""), size=self._size, token=token)


def can_send_paths(scope: Scope) -> bool:
    return "http.response.pathsend" in (scope.get("extensions") or {})


def _can_send(scope: Scope, file: OnDisk) -> bool:
    return can_send_paths(scope) and is_still(file)


def can_send_spans(scope: Scope) -> bool:
    """Whether a path may be sent with the `span` of its bytes that is meant: an extension of our own front."""
    return "entrepot.span" in (scope.get("extensions") or {})


def logged_already() -> AbstractContextManager[None]:
    """What the app behind raises it has answered and logged; raised on, the server would log it once more."""
    return suppress(Exception)


def ascii_query(raw: bytes) -> bytes:
    """The query as a URL must have it: some clients leave out the percent-encoding."""
    return raw if raw.isascii() else quote(raw, safe=string.printable).encode()


def announced(headers: Iterable[tuple[bytes, bytes]]) -> int:
    """The Content-Length of an answer, for the log; 0 if there is none."""
    return next((int(value) for name, value in headers if name == b"content-length"), 0)


def _joined(scope: Scope, wanted: bytes) -> str:
    """All lines of a header as one: proxies may append a line of their own."""
    return ", ".join(value.decode("latin-1") for name, value in scope["headers"] if name == wanted)


def encoded(headers: Headers) -> list[tuple[bytes, bytes]]:
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]


async def send_answer(send: Send, answer: Answer) -> None:
    await send({"type": "http.response.start", "status": answer.status, "headers": encoded(answer.headers)})
    if answer.file is not None:
        await send({"type": "http.response.pathsend", "path": str(answer.file.path)})
    else:
        await send({"type": "http.response.body", "body": answer.body})
