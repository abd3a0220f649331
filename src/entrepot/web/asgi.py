"""The front for any ASGI server."""

import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from entrepot.web.cache import Headers
from entrepot.web.warm import READS, Answer, Warm

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
            if answer is not None and answer.file is not None and not can_send_paths(scope):
                answer = None
        if answer is None:
            answer = await self._through(scope, receive, send, path)
        else:
            await send_answer(send, answer)
        self._warm.note(answer, method, path, scope["client"][0] if scope["client"] else "unix", headers.get, began)

    async def _through(self, scope: Scope, receive: Receive, send: Send, path: str) -> Answer:
        """Let the app behind answer; what it sent, for the log."""
        inner = self._warm.path_behind(path)
        if inner is None:
            outside = self._warm.outside()
            await send_answer(send, outside)
            return outside
        state: dict[str, Any] = {**scope.get("state", {}), "token": ""}
        sent = Sent(send)
        await self._behind({**scope, "path": inner, "client_path": path, "state": state}, receive, sent)
        return sent.answer(str(state["token"]))


class Sent:
    """A `send` that counts what goes through it."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._status = 499  # the client went away before there was an answer
        self._size = 0

    async def __call__(self, message: Message) -> None:
        match message["type"]:
            case "http.response.start":
                self._status = message["status"]
            case "http.response.body":
                self._size += len(message.get("body", b""))
        await self._send(message)

    def answer(self, token: str) -> Answer:
        return Answer(self._status, [], size=self._size, token=token)


def can_send_paths(scope: Scope) -> bool:
    return "http.response.pathsend" in (scope.get("extensions") or {})


def encoded(headers: Headers) -> list[tuple[bytes, bytes]]:
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]


async def send_answer(send: Send, answer: Answer) -> None:
    await send({"type": "http.response.start", "status": answer.status, "headers": encoded(answer.headers)})
    if answer.file is not None:
        await send({"type": "http.response.pathsend", "path": str(answer.file.path)})
    else:
        await send({"type": "http.response.body", "body": answer.body})
