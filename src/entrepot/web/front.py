"""The front for our own server (`entrepot.http1`): warm answers at once, everything else by the app behind."""

import time
from typing import Any

from entrepot.http1 import Answer, Exchange, Head, Request
from entrepot.http1 import files as local
from entrepot.web.asgi import AsgiApp, ascii_query, logged_already
from entrepot.web.unread import Unread
from entrepot.web.warm import READS, Warm


class Front:
    """An `entrepot.http1.Handler`."""

    def __init__(self, warm: Warm, behind: AsgiApp) -> None:
        self._warm = warm
        self._behind = behind

    def at_once(self, request: Request) -> Answer | None:
        header = request.fields.get
        answer = self._warm.refusal(request.method, header("host") or "", header)
        if answer is None and request.method in READS and not request.query:
            return self._warm.at_once(request.method, request.path, header)
        return answer

    async def handle(self, request: Request, exchange: Exchange, peer: str) -> None:
        began = time.perf_counter()
        answer, fd = await self._ready(request)
        rest = Unread(exchange.receive, request.header)
        token = ""
        try:
            if answer is None:
                token = await self._through(request, exchange, rest, peer)
            else:
                token = answer.token
                await exchange.answer(answer, fd)
        finally:
            sent = Answer(Head(exchange.status, [], b""), size=exchange.size, token=token)
            self.note(request, sent, peer, began)
        # Only now: a client that looks for the answer while it is sending stops early.
        await rest.drain()

    async def _ready(self, request: Request) -> tuple[Answer | None, int | None]:
        """An answer that needs nobody behind, with the open file if it is one."""
        header, method = request.header, request.method
        refusal = self._warm.refusal(method, header("host") or "", header)
        if refusal is not None:
            return refusal, None
        answer = await self._warm.look(method, request.path, header) if method in READS and not request.query else None
        if answer is None or answer.file is None:
            return answer, None
        fd = local.opened(answer.file)
        return (answer, fd) if fd is not None else (None, None)

    async def _through(self, request: Request, exchange: Exchange, rest: Unread, peer: str) -> str:
        """The public id of the caller's token."""
        inner = self._warm.path_behind(request.path)
        if inner is None:
            await exchange.answer(self._warm.outside())
            return ""
        state: dict[str, Any] = {"token": ""}
        with logged_already():
            await self._behind(_scope(request, inner, peer, exchange.scheme, state), rest.receive, exchange.send)
        return str(state["token"])

    def note(self, request: Request, answer: Answer, peer: str, began: float) -> None:
        fields = request.fields
        forwarded = request.joined(b"x-forwarded-for") if "x-forwarded-for" in fields else None
        self._warm.note(answer, request.method, request.path, peer, forwarded, fields.get("user-agent"), began)

    def refused(self, answer: Answer, peer: str) -> None:
        self._warm.note(answer, "-", "-", peer, None, None, time.perf_counter())


def _scope(request: Request, path: str, peer: str, scheme: str, state: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": request.version,
        "method": request.method,
        "scheme": scheme,
        "path": path,
        "client_path": request.path,
        "raw_path": request.raw_path,
        "query_string": ascii_query(request.query),
        "root_path": "",
        "headers": request.lines,
        "client": (peer, 0),
        "server": None,
        "extensions": {"http.response.pathsend": {}, "entrepot.span": {}},
        "state": state,
    }
