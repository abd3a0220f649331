"""An upstream index for tests: real sockets in a thread of its own, real distributions, and faults at any moment.

It stands on our own HTTP server, and on none of the code that reads or writes pages.
"""

import asyncio
import base64
import hashlib
import re
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from fnmatch import fnmatchcase
from typing import Any, Final, Self
from urllib.parse import parse_qs, unquote

from entrepot.http1 import Answer, Exchange, Request, Serving
from entrepot.model import normalise
from tests.e2e.processes import free_port, until
from tests.upstream import pages
from tests.upstream.faults import Fault, Gate
from tests.upstream.stock import Item, Manner

OTHER: Final = "127.0.0.2"  # another host, of the same index
_HOSTS = ("127.0.0.1", OTHER)
_PIECE = 64 << 10
_NO_FAULT = Fault(match="")


@dataclass(kw_only=True)
class Seen:
    """A request that came, and what became of it so far."""

    method: str
    path: str
    query: Mapping[str, list[str]]
    host: str  # without its port
    headers: Mapping[str, str]
    status: int = 0
    sent: int = 0  # bytes of body
    outcome: str = "running"  # then: complete, cut (by us), gone (the client)

    @property
    def range(self) -> str:
        return self.headers.get("range", "")

    @property
    def credentials(self) -> str:
        """What came as Basic: "user:password"; "" if nothing did."""
        scheme, _, value = self.headers.get("authorization", "").partition(" ")
        return base64.b64decode(value).decode() if scheme.lower() == "basic" else ""


@dataclass
class _Project:
    name: str
    manner: Manner
    items: dict[str, Item] = field(default_factory=dict)
    changes: int = 0

    @property
    def modified(self) -> str:
        """A second later with each change: it has no finer unit."""
        return formatdate(1_700_000_000 + self.changes, usegmt=True)


@dataclass
class _Reply:
    status: int
    headers: dict[str, str]
    body: bytes | memoryview = b""


class Upstream:
    """Run it as a `with` block. Everything may be changed while it runs."""

    def __init__(self) -> None:
        self.port = free_port()
        self.manner = Manner()  # of projects that will be added without one of their own
        self.password = ""  # "user:password", of every request if it is set
        self.listed: tuple[str, ...] = ()  # names in the list of projects beside those that it has
        self.seen: list[Seen] = []
        self.loop = asyncio.new_event_loop()
        self._projects: dict[str, _Project] = {}
        self._faults: list[Fault] = []
        self._serving: Serving | None = None
        self._served: list[Serving] = []
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True, name="upstream")

    # Its life.

    def __enter__(self) -> Self:
        self._thread.start()
        self.come_back()
        return self

    def __exit__(self, *_: object) -> None:
        for fault in self._faults:
            fault.end()
        self.go_away()
        self._run(self._cancel())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)
        self.loop.close()

    def go_away(self) -> None:
        """Connections break, and new ones are refused."""
        self._run(self._stop())

    def come_back(self) -> None:
        """At the same port."""
        self._run(self._listen())

    def _run(self, work: Any) -> None:
        asyncio.run_coroutine_threadsafe(work, self.loop).result(20)

    async def _listen(self) -> None:
        assert self._serving is None
        self._serving = Serving(self, stall=120)
        self._served.append(self._serving)
        sockets = []
        for host in _HOSTS:
            listener = socket.socket()
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((host, self.port))
            sockets.append(listener)
        await self._serving.listen(sockets)

    async def _stop(self) -> None:
        serving, self._serving = self._serving, None
        if serving is None:
            return
        # Whoever is let in while a listener closes is forgotten by asyncio, socket and all: first let in nobody more.
        for listener in (listener for server in serving._servers for listener in server.sockets):
            self.loop.remove_reader(listener.fileno())
        await asyncio.sleep(0.001)
        stopping = asyncio.ensure_future(serving.stop())
        while not stopping.done():
            for client in serving._clients:
                client._transport.abort()
            await asyncio.wait([stopping], timeout=0.01)

    async def _cancel(self) -> None:
        """The answers that still wait for something: their clients are gone. And who was let in at the last moment."""
        waiting = asyncio.all_tasks() - {asyncio.current_task()}
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        await asyncio.sleep(0.001)
        while clients := [client for serving in self._served for client in serving._clients]:
            for client in clients:
                client._transport.abort()
            await asyncio.sleep(0.001)

    # Its addresses.

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def other(self) -> str:
        """The origin of another host that has the same."""
        return f"http://{OTHER}:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.origin}/simple/"

    @property
    def flat(self) -> str:
        """The one page of all files."""
        return f"{self.origin}/flat/"

    def url_for(self, credentials: str) -> str:
        """With "user:password" in it."""
        return f"http://{credentials}@127.0.0.1:{self.port}/simple/"

    # What it has.

    def add(self, name: str, *items: Item, manner: Manner | None = None) -> Manner:
        """Files of a project, new or in place of those of the same name; how the project is told of."""
        project = self._projects.setdefault(name, _Project(name, replace(self.manner)))
        if manner is not None:
            project.manner = manner
        project.items = {**project.items, **{item.filename: item for item in items}}
        project.changes += 1
        return project.manner

    def remove(self, name: str, *filenames: str) -> None:
        """Files, or without any the project."""
        if not filenames:
            del self._projects[name]
            return
        project = self._projects[name]
        project.items = {key: item for key, item in project.items.items() if key not in filenames}
        project.changes += 1

    # What goes wrong.

    def fault(self, match: str = "*", **what: Any) -> Fault:
        """Of the paths that match the pattern, from now on; the latest of several counts."""
        fault = Fault(match=match, **what)
        self._faults.append(fault)
        return fault

    def gate(self) -> Gate:
        return Gate(self.loop)

    def held(self, match: str, *, after: int | None = None) -> Fault:
        """Answers wait before their head, or `after` so many bytes, until the fault ends."""
        if after is None:
            return self.fault(match, before=self.gate())
        return self.fault(match, within=self.gate(), after=after)

    @contextmanager
    def away(self) -> Iterator[None]:
        self.go_away()
        yield
        self.come_back()

    # What it saw.

    def asked(self, match: str = "*", *, method: str = "", host: str = "") -> list[Seen]:
        """The requests for paths that match the pattern, in their order."""
        return [
            seen
            for seen in tuple(self.seen)
            if fnmatchcase(seen.path, match) and method in {"", seen.method} and host in {"", seen.host}
        ]

    def forget(self) -> None:
        """What was seen."""
        self.seen.clear()

    def quiet(self, match: str = "*") -> None:
        """Return when no answer is under way."""
        until(
            lambda: all(seen.outcome != "running" for seen in self.asked(match)), within=20, what="a quiet upstream"
        )  # fmt: skip

    # What the server calls.

    def at_once(self, request: Request) -> Answer | None:  # noqa: ARG002 - all takes waiting
        return None

    def note(self, request: Request, answer: Answer, peer: str, began: float) -> None:
        pass

    def refused(self, answer: Answer, peer: str) -> None:
        pass

    async def handle(self, request: Request, exchange: Exchange, peer: str) -> None:  # noqa: ARG002
        headers = {name.decode().lower(): value.decode("latin-1") for name, value in reversed(request.lines)}
        host = headers.get("host", "").partition(":")[0]
        path = unquote(request.raw_path.decode())
        query = parse_qs(request.query.decode())
        seen = Seen(method=request.method, path=path, query=query, host=host, headers=headers)
        self.seen.append(seen)
        fault = self._fault(seen)
        try:
            await self._answer(seen, fault, exchange)
        except OSError:
            seen.outcome = "gone"
            raise
        else:
            seen.outcome = "complete" if exchange.complete else "cut"
        finally:
            if seen.outcome == "running":
                seen.outcome = "gone"

    def _fault(self, seen: Seen) -> Fault:
        for fault in reversed(self._faults):
            if fault.active and _concerns(fault, seen):
                if fault.times is not None:
                    fault.times -= 1
                    fault.active = fault.times > 0
                return fault
        return _NO_FAULT

    async def _answer(self, seen: Seen, fault: Fault, exchange: Exchange) -> None:
        if fault.before is not None:
            await fault.before.passed()
        if fault.delay:
            await asyncio.sleep(fault.delay)
        if fault.drop:
            exchange._wire._transport.abort()  # type: ignore[attr-defined]
            await exchange._wire.lost()
            return
        reply = self._faulty(seen, fault)
        seen.status = reply.status
        reply.headers.setdefault("content-length", str(len(reply.body)))
        if fault.chunked:
            del reply.headers["content-length"]
        lines = [(name.encode(), value.encode()) for name, value in {**reply.headers, **fault.headers}.items()]
        await exchange.send({"type": "http.response.start", "status": reply.status, "headers": lines})
        await self._send(seen, fault, exchange, b"" if seen.method == "HEAD" else reply.body)

    async def _send(self, seen: Seen, fault: Fault, exchange: Exchange, body: bytes | memoryview) -> None:
        end = len(body) if fault.cut is None else min(fault.cut, len(body))
        piece = max(1, min(_PIECE, fault.rate // 20)) if fault.rate else _PIECE
        start = 0
        await exchange.send({"type": "http.response.body", "body": b"", "more_body": True})
        while start < end:
            if fault.within is not None and start >= fault.after:
                await fault.within.passed()
            stop = min(start + piece, end)
            if fault.within is not None and start < fault.after < stop:
                stop = fault.after
            await exchange.send({"type": "http.response.body", "body": bytes(body[start:stop]), "more_body": True})
            seen.sent += stop - start
            start = stop
            if fault.rate:
                await asyncio.sleep(piece / fault.rate)
        if fault.cut is None:
            await exchange.send({"type": "http.response.body", "body": b"", "more_body": False})
            return
        # What was sent must have left before the connection breaks.
        while exchange._wire._transport.get_write_buffer_size():  # type: ignore[attr-defined]  # noqa: ASYNC110
            await asyncio.sleep(0.001)

    # What it answers.

    def _faulty(self, seen: Seen, fault: Fault) -> _Reply:
        if self.password and seen.credentials != self.password:
            return _Reply(401, {"www-authenticate": 'Basic realm="upstream"'}, b"credentials are required")
        if fault.redirect:
            return _Reply(302, {"location": fault.redirect})
        if fault.status:
            return _Reply(fault.status, {"content-type": "text/plain"}, b"" if fault.status == 304 else b"a fault")
        if fault.body is not None:
            return _Reply(200, {"content-type": pages.HTML}, fault.body)
        reply = self._reply(seen)
        if fault.change is not None:
            reply.body = fault.change(bytes(reply.body))
        return reply

    def _reply(self, seen: Seen) -> _Reply:
        match seen.path.removeprefix("/").split("/"):
            case ["simple", ""]:
                as_json, as_html = pages.listing((*self._projects, *self.listed))
                return self._page(seen, self.manner, as_json, as_html)
            case ["simple", name]:
                return _Reply(301, {"location": f"/simple/{name}/"})
            case ["simple", name, ""]:
                return self._project_page(seen, name)
            case ["flat", ""]:
                stock = [(p.name, item, p.manner) for p in self._projects.values() for item in p.items.values()]
                return _Reply(200, {"content-type": pages.HTML}, pages.flat(stock))
            case ["pypi", name, "json"] if name in self._projects and self._projects[name].manner.legacy_json:
                document = pages.legacy(name, self._projects[name].items.values())
                return _Reply(200, {"content-type": "application/json"}, document)
            case ["files", name, filename] if name in self._projects:
                return self._file(seen, self._projects[name], filename)
        return _Reply(404, {"content-type": "text/plain"}, b"not here")

    def _project_page(self, seen: Seen, name: str) -> _Reply:
        project = self._projects.get(normalise(name))
        if project is None:
            return _Reply(404, {"content-type": "text/plain"}, b"no such project")
        manner, items = project.manner, project.items.values()
        right = manner.spelled or project.name
        if name != right:
            return _Reply(301, {"location": f"/simple/{right}/"})
        as_json = pages.as_json(project.name, items, manner) if manner.json else None
        as_html = pages.as_html(project.name, items, manner) if manner.html else None
        return self._page(seen, manner, as_json, as_html, modified=project.modified)

    def _page(
        self, seen: Seen, manner: Manner, as_json: bytes | None, as_html: bytes | None, modified: str = ""
    ) -> _Reply:
        wanted = pages.JSON in seen.headers.get("accept", "")
        chosen = (pages.JSON, as_json) if as_json is not None and (wanted or as_html is None) else (pages.HTML, as_html)
        kind, body = chosen
        assert body is not None
        headers = {"content-type": kind, "vary": "Accept"}
        if manner.max_age is not None:
            headers["cache-control"] = f"max-age={manner.max_age}, public"
        etag = f'"{hashlib.sha256(body).hexdigest()[:16]}"' if manner.etag else ""
        if etag:
            headers["etag"] = etag
        if manner.last_modified and modified:
            headers["last-modified"] = modified
        if _unchanged(seen.headers, etag, modified if manner.last_modified else ""):
            return _Reply(304, headers)
        return _Reply(200, headers, body)

    def _file(self, seen: Seen, project: _Project, filename: str) -> _Reply:
        manner = project.manner
        item = project.items.get(filename.removesuffix(".metadata"))
        if item is None or (seen.method == "HEAD" and not manner.head):
            return _Reply(404 if item is None else 405, {"content-type": "text/plain"}, b"not here")
        if filename == item.filename:
            return _ranged(seen, memoryview(item.data), manner)
        if item.metadata is None or manner.metadata in {"none", "lost"}:
            return _Reply(404, {"content-type": "text/plain"}, b"no metadata")
        return _Reply(200, {"content-type": "text/plain"}, item.metadata)


def _concerns(fault: Fault, seen: Seen) -> bool:
    right_kind = fault.method in {"", seen.method} and fault.ranged in {None, bool(seen.range)}
    return right_kind and fnmatchcase(seen.path, fault.match)


def _unchanged(headers: Mapping[str, str], etag: str, modified: str) -> bool:
    if "if-none-match" in headers:
        return bool(etag) and etag in headers["if-none-match"]
    return bool(modified) and headers.get("if-modified-since") == modified


def _ranged(seen: Seen, data: memoryview, manner: Manner) -> _Reply:
    etag = f'"{hashlib.sha256(data[:4096]).hexdigest()[:16]}-{len(data)}"'
    headers = {
        "content-type": "application/octet-stream",
        "etag": etag,
        "cache-control": "max-age=365000000, immutable",
    }
    if manner.ranges != "ignored":
        headers["accept-ranges"] = "bytes"
    wanted = _span(seen.range, len(data))
    if wanted is None or manner.ranges in {"ignored", "claimed"} or seen.headers.get("if-range", etag) != etag:
        return _Reply(200, headers, data)
    start, stop = wanted
    if start >= stop:
        return _Reply(416, {**headers, "content-range": f"bytes */{len(data)}"})
    told = start
    if manner.ranges != "honoured":
        start, stop = (0, stop - start) if start else (1, stop)
    if manner.ranges == "other":
        told = start
    headers["content-range"] = f"bytes {told}-{told + stop - start - 1}/{len(data)}"
    return _Reply(206, headers, data[start:stop])


def _span(text: str, size: int) -> tuple[int, int] | None:
    found = re.fullmatch(r"bytes=(\d*)-(\d*)", text)
    if found is None or found[0] == "bytes=-":
        return None
    first, last = found.groups()
    if not first:
        return max(0, size - int(last)), size
    return int(first), min(size, int(last) + 1 if last else size)
