"""A proxy between a node and its object store that fails as networks and servers do, one request at a time.

It speaks HTTP/1.1 with a connection for each request, hands the bytes on as they are, and does the next fault of its
plan to the first request that the fault is for.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit

# cut: half of the answer comes. lost: done, but no answer comes. twice: done two times, and the second answer comes.
# silent: nothing is done, and nothing comes. late: done, but the answer comes when `release` says so.
Kind = Literal["cut", "lost", "twice", "silent", "late", "500", "503"]
Matches = Callable[[str, str], bool]


@dataclass
class Fault:
    kind: Kind
    matches: Matches  # method, path
    times: int = 1


@dataclass
class Proxy:
    """Faults are added by `next`; `seen` holds the method and path of every request."""

    endpoint: str
    seen: list[tuple[str, str]] = field(default_factory=list)
    done: list[str] = field(default_factory=list)  # the faults that were met, by kind
    release: asyncio.Event = field(default_factory=asyncio.Event)
    _plan: list[Fault] = field(default_factory=list)

    def next(self, kind: Kind, method: str, path: str = "", times: int = 1) -> None:
        """The next `times` requests of that method whose path holds `path` meet this fault."""
        self._plan.append(Fault(kind, lambda m, p: m == method and path in p, times))

    def take(self, method: str, path: str) -> Kind | None:
        self.seen.append((method, path))
        for fault in self._plan:
            if fault.times > 0 and fault.matches(method, path):
                fault.times -= 1
                self.done.append(fault.kind)
                return fault.kind
        return None


@asynccontextmanager
async def proxied(target: str, rewrite: Callable[[bytes], bytes] = bytes) -> AsyncIterator[Proxy]:
    """A proxy in front of the server at that URL; its own is `endpoint`. `rewrite` may change the heads of requests."""
    there = urlsplit(target)
    running: set[asyncio.Task[None]] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        running.add(task)
        try:
            await _serve(proxy, (there.hostname or "", there.port or 80), reader, writer, rewrite)
        except (OSError, asyncio.IncompleteReadError):
            pass  # one side hung up, as is its right
        finally:
            running.discard(task)
            writer.close()

    server = await asyncio.start_server(accept, "127.0.0.1", 0, limit=1 << 20)
    port = server.sockets[0].getsockname()[1]
    proxy = Proxy(f"http://127.0.0.1:{port}{there.path}")
    try:
        yield proxy
    finally:
        server.close()
        for task in list(running):
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def _serve(
    proxy: Proxy, there: tuple[str, int], reader: asyncio.StreamReader, writer: asyncio.StreamWriter,
    rewrite: Callable[[bytes], bytes],
) -> None:  # fmt: skip
    head = rewrite(await reader.readuntil(b"\r\n\r\n"))
    first, _, rest = head.partition(b"\r\n")
    method, path, _ = first.decode().split(" ", 2)
    length = next((int(line[15:]) for line in rest.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0)
    body = await reader.readexactly(length)
    request = first + b"\r\nConnection: close\r\n" + rest + body
    fault = proxy.take(method, path)
    if fault == "silent":
        await proxy.release.wait()
        return
    if fault in {"500", "503"}:
        words = b"HTTP/1.1 %s Failed\r\nContent-Length: 0\r\nConnection: close\r\n\r\n" % fault.encode()
        writer.write(words)
        await writer.drain()
        return
    if fault in {"lost", "twice"}:
        await _whole(there, request)
    if fault == "lost":
        return
    if fault in {"cut", "late"}:
        answer = await _whole(there, request)
        if fault == "late":
            await proxy.release.wait()
        writer.write(answer[: len(answer) // 2] if fault == "cut" else answer)
        await writer.drain()
        return
    await _through(there, request, writer)


async def _whole(there: tuple[str, int], request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(*there)
    try:
        writer.write(request)
        await writer.drain()
        return await reader.read()
    finally:
        writer.close()


async def _through(there: tuple[str, int], request: bytes, back: asyncio.StreamWriter) -> None:
    reader, writer = await asyncio.open_connection(*there)
    try:
        writer.write(request)
        await writer.drain()
        while piece := await reader.read(1 << 18):
            back.write(piece)
            await back.drain()
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
