"""The two fronts under one interface: the ASGI app driven in process, and a real server process.

A test that takes `front` runs over all of them, so they cannot come to answer differently.
"""

import asyncio
import http.client
import itertools
import json
import os
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping, MutableMapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, TypeVar
from urllib.parse import unquote

from msgspec.structs import replace

from entrepot import config, units
from entrepot.access import Permission
from entrepot.assembly import Assembled, is_loopback, now, opened, running
from entrepot.index import Sink
from entrepot.model import Status, StatusName, normalise
from entrepot.web import AsgiSite, Site
from entrepot.web.access_log import AccessLog, as_json
from entrepot.web.proxies import Proxies
from tests.distributions.build import sdist_bytes, sdist_filename, wheel_bytes, wheel_filename
from tests.e2e.processes import until
from tests.e2e.raw import Answer, Form, basic
from tests.e2e.servers import Server

T = TypeVar("T")
Headers = Mapping[str, str] | Iterable[tuple[str, str]]

JSON = "application/vnd.pypi.simple.v1+json"
HTML = "application/vnd.pypi.simple.v1+html"
PIP = f"{JSON}, {HTML}; q=0.1, text/html; q=0.01"

_numbers = itertools.count(1)


def fresh(word: str = "demo") -> str:
    """A project name that no other test has."""
    return f"{word}{next(_numbers)}"


class Loop:
    """An event loop in a thread of its own, for all that the tests do with the library."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


@dataclass(frozen=True)
class File:
    """A distribution that was made for a test."""

    filename: str
    data: bytes

    def form(self, **changes: str) -> Form:
        return Form(self.filename, self.data, **changes)


def wheel(name: str, version: str = "1.0", **more: Any) -> File:
    return File(wheel_filename(name, version), wheel_bytes(name, version, **more))


def sdist(name: str, version: str = "1.0", **more: Any) -> File:
    return File(sdist_filename(name, version), sdist_bytes(name, version, **more))


class Ask(Protocol):
    """One request. `peer` is the address from which it comes."""

    def __call__(
        self, method: str, target: str, headers: Headers = (), body: bytes = b"", *, peer: str = "127.0.0.1"
    ) -> Answer: ...


class Front:
    """What a test works with. Management and tokens go past the server, as the commands do."""

    def __init__(self, settings: config.Config, ask: Ask, log: Path, loop: Loop, process: Server | None = None) -> None:
        self.settings = settings
        self.ask = ask
        self.loop = loop
        self._log = log
        self._process = process

    @property
    def process(self) -> Server:
        assert self._process is not None, "this front has no process"
        return self._process

    @property
    def driver(self) -> "Driver":
        assert isinstance(self.ask, Driver), "this front is a process"
        return self.ask

    @property
    def data(self) -> Path:
        return Path(self.settings.data)

    @property
    def path(self) -> str:
        return self.settings.server.path

    @property
    def staging(self) -> list[Path]:
        """The uploads that are under way, or were left behind."""
        return list((self.settings.store_folder / "staging").iterdir())

    # Reading.

    def get(self, target: str, headers: Headers = (), *, peer: str = "127.0.0.1") -> Answer:
        return self.ask("GET", self.path + target, headers, peer=peer)

    def head(self, target: str, headers: Headers = ()) -> Answer:
        return self.ask("HEAD", self.path + target, headers)

    def page(self, project: str, *, index: str = "", token: str = "") -> dict[str, Any]:
        """The JSON page; it must be there."""
        credentials = {"Authorization": basic(token)} if token else {}
        answer = self.get(f"{index}/simple/{project}/", {"Accept": JSON, **credentials})
        assert answer.status == 200, answer
        page: dict[str, Any] = answer.json()
        return page

    def filenames(self, project: str) -> list[str]:
        """What the page lists; nothing if there is no page."""
        if self.get(f"/simple/{project}/", {"Accept": JSON}).status == 404:
            return []
        return [file["filename"] for file in self.page(project)["files"]]

    # Writing.

    @cached_property
    def uploader(self) -> str:
        return self.token("upload")

    def token(
        self, *can: Permission, indexes: tuple[str, ...] = ("*",), projects: tuple[str, ...] = ("*",),
        lifetime: timedelta | None = None, name: str = "somebody",
    ) -> str:  # fmt: skip
        async def create(assembled: Assembled) -> str:
            made = assembled.tokens.create(
                name, can=can, now=now(), indexes=indexes, projects=projects, lifetime=lifetime
            )
            return (await made)[0]

        return self.manage(create)

    def upload(
        self, form: Form, *, token: str | None = None, index: str = "", headers: Headers = (), query: str = ""
    ) -> Answer:
        """As twine does it. A token that is not named is one that may."""
        credentials = {"Authorization": basic(self.uploader if token is None else token)} if token != "" else {}
        every = {**form.headers, **credentials, **dict(headers)}
        return self.ask("POST", f"{self.path}{index}/legacy/{query}", every, b"".join(form.body()))

    def publish(self, *files: File, index: str = "") -> None:
        for file in files:
            answer = self.upload(file.form(), index=index)
            assert answer.status == 200, answer

    def manage(self, work: Callable[[Assembled], Coroutine[Any, Any, T]]) -> T:
        async def within() -> T:
            async with opened(self.settings) as assembled:
                return await work(assembled)

        return self.loop.run(within())

    def change(self, work: Callable[[Sink], Coroutine[Any, Any, T]], *, index: str = "private") -> T:
        """Something done to the files of an index, beside the running server."""

        def with_sink(assembled: Assembled) -> Coroutine[Any, Any, T]:
            sink = assembled.catalog.indexes[index].sink
            assert sink is not None
            return work(sink)

        return self.manage(with_sink)

    def amend(self, project: str, *, index: str = "private", **changes: Any) -> None:
        """Change every file of the project, as `yank` does."""
        self.change(lambda sink: sink.amend(normalise(project), lambda file: replace(file, **changes)), index=index)

    def mark(self, project: str, status: StatusName, reason: str | None = None) -> None:
        self.change(lambda sink: sink.mark(normalise(project), Status(status=status, reason=reason)))

    def delete(self, project: str, *filenames: str) -> None:
        self.change(lambda sink: sink.remove(normalise(project), frozenset(filenames), by="test", now=now()))

    def restore(self, project: str, *filenames: str) -> None:
        self.change(lambda sink: sink.restore(normalise(project), frozenset(filenames)))

    def blob(self, filename: str) -> Path:
        """Where a published file lies."""
        [path] = (self.settings.store_folder / "private" / "blobs").rglob(filename)
        return path

    # The access log.

    def lines(self, target: str = "") -> list[dict[str, Any]]:
        """The lines about one path, or all, until now."""
        last = f"/{fresh('mark')}"
        self.ask("GET", last)

        def logged() -> list[dict[str, Any]]:
            lines = [json.loads(line) for line in self._log.read_bytes().split(b"\n") if line]
            return lines if any(line["path"] == last for line in lines) else []

        return [line for line in until(logged, what="the access log") if target in {"", line["path"]}]


def in_process(
    settings: config.Config, loop: Loop, log: Path, *, paths: bool, **changes: Any
) -> tuple[Front, AsgiSite]:
    """The ASGI front over a catalog of its own. With `paths` it is driven by a server that sends files by path."""
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    site = AsgiSite(lambda: _site(settings, **changes), AccessLog(out, as_json))
    return Front(settings, Driver(site, loop, paths=paths), log, loop), site


def _site(settings: config.Config, **changes: Any) -> AbstractAsyncContextManager[Site]:
    """As the worker makes it, with some of it changed."""

    @asynccontextmanager
    async def opening() -> AsyncIterator[Site]:
        server = settings.server
        async with running(settings) as assembled:
            site = Site(
                catalog=assembled.catalog,
                tokens=assembled.tokens,
                clock=now,
                proxies=Proxies(server.trusted_proxies),
                loopback=is_loopback(settings),
                hosts=(server.host, *server.hosts),
                path=server.path,
                open=settings.access.open,
                max_upload=units.size(server.max_upload),
                max_uploads=server.max_uploads,
                stall=units.seconds(server.stall),
                page_cache=units.size(server.page_cache),
                max_age=int(units.seconds(server.max_age)),
                archives=assembled.archives,
            )
            yield replace(site, **changes)

    return opening()


class Driver:
    """A small ASGI server: one request, given and answered in messages."""

    def __init__(self, site: AsgiSite, loop: Loop, *, paths: bool) -> None:
        self.site = site
        self._loop = loop
        self._extensions: dict[str, Any] = {"http.response.pathsend": {}} if paths else {}

    def __call__(
        self, method: str, target: str, headers: Headers = (), body: bytes = b"", *, peer: str = "127.0.0.1"
    ) -> Answer:
        pieces = [body[at : at + 65536] for at in range(0, len(body), 65536)] or [b""]
        messages = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
        messages[-1]["more_body"] = False
        waiting = iter(messages)

        async def receive() -> dict[str, Any]:
            return next(waiting, {"type": "http.disconnect"})

        return self._loop.run(self.request(method, target, headers, receive, peer=peer, size=len(body)))

    async def request(
        self, method: str, target: str, headers: Headers, receive: Callable[[], Coroutine[Any, Any, dict[str, Any]]], *,
        peer: str = "127.0.0.1", size: int | None = None,
    ) -> Answer:  # fmt: skip
        """A request whose body comes from `receive`; `size` None means that its length is not announced."""
        started: dict[str, Any] = {}
        parts: list[bytes] = []

        async def send(message: MutableMapping[str, Any]) -> None:
            match message["type"]:
                case "http.response.start":
                    assert not started, "a second answer"
                    started.update(message)
                case "http.response.body":
                    parts.append(message.get("body", b""))
                case "http.response.pathsend":
                    assert self._extensions, "this server cannot send a path"
                    parts.append(Path(message["path"]).read_bytes())  # noqa: ASYNC240 - a test's server may block

        await self.site(self._scope(method, target, headers, peer, size), receive, send)
        assert started, "no answer"
        found = {name.decode("latin-1"): value.decode("latin-1") for name, value in started["headers"]}
        assert len(found) == len(started["headers"]), started["headers"]
        # What servers do: a HEAD's answer has no body whatever the app sends.
        return Answer(started["status"], found, b"" if method == "HEAD" else b"".join(parts))

    def _scope(self, method: str, target: str, headers: Headers, peer: str, size: int | None) -> dict[str, Any]:
        path, _, query = target.partition("?")
        pairs = list(headers.items()) if isinstance(headers, Mapping) else list(headers)
        known = {name.lower() for name, _ in pairs}
        pairs = [("Host", "localhost"), *pairs] if "host" not in known else pairs
        if size and not known & {"content-length", "transfer-encoding"}:
            pairs.append(("Content-Length", str(size)))
        return {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": unquote(path),
            "raw_path": path.encode(),
            "query_string": query.encode("latin-1"),
            "root_path": "",
            "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in pairs],
            "client": (peer, 50_000),
            "server": ("127.0.0.1", 80),
            "extensions": self._extensions,
        }


@asynccontextmanager
async def started(site: AsgiSite) -> AsyncIterator[None]:
    """The app's lifespan, as a server runs it."""
    to_app: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    from_app: asyncio.Queue[Any] = asyncio.Queue()
    await to_app.put({"type": "lifespan.startup"})
    task = asyncio.create_task(site({"type": "lifespan", "asgi": {"version": "3.0"}}, to_app.get, from_app.put))
    assert (await from_app.get())["type"] == "lifespan.startup.complete"
    try:
        yield
    finally:
        await to_app.put({"type": "lifespan.shutdown"})
        assert (await from_app.get())["type"] == "lifespan.shutdown.complete"
        await task


def of_process(server: Server, settings: config.Config, loop: Loop, log: Path) -> Front:
    """The RSGI front, by sockets."""

    def ask(method: str, target: str, headers: Headers = (), body: bytes = b"", *, peer: str = "127.0.0.1") -> Answer:
        port = server.options.port
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30, source_address=(peer, 0))
        try:
            pairs = list(headers.items()) if isinstance(headers, Mapping) else list(headers)
            known = {name.lower() for name, _ in pairs}
            connection.putrequest(method, target, skip_host="host" in known, skip_accept_encoding=True)
            for name, value in pairs:
                connection.putheader(name, value)
            if body and not known & {"content-length", "transfer-encoding"}:
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body or None)
            response = connection.getresponse()
            pairs = [(name.lower(), value) for name, value in response.getheaders()]
            # What only the server adds, and says anew each time.
            found = {name: value for name, value in pairs if name not in {"date", "server", "connection"}}
            return Answer(response.status, found, response.read())
        finally:
            connection.close()

    return Front(settings, ask, log, loop, server)
