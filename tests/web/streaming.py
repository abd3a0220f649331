"""A server whose files come as streams, as those of an object store would: `python -m tests.web.streaming PORT`.

Not a test: `test_streams.py` runs it.
"""

import asyncio
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import uvloop

from entrepot.access import Tokens
from entrepot.errors import NotFound, Unavailable
from entrepot.http1 import Serving
from entrepot.index import Catalog, Content, Mounted, Span, Stream
from entrepot.model import File, Project, ProjectName, Revision
from entrepot.stores.memory import Memory
from entrepot.web import Site, fronted

PIECE = bytes(64 * 1024)
MANY = 1000  # pieces of the long file
NAME = ProjectName("demo")
LONG, BROKEN, TAKEN = "demo-1.tar.gz", "demo-2.tar.gz", "demo-3.tar.gz"


class Streams:
    """A long file, one that breaks after five of its ten bytes, and one that tells how much of the long one was taken."""

    name = "streams"

    def __init__(self) -> None:
        self.taken = 0
        self.running = 0

    async def projects(self) -> AsyncIterator[ProjectName]:
        yield NAME

    async def project(self, name: ProjectName) -> Project:
        if name != NAME:
            raise NotFound(f"no project {name}")
        sizes = {LONG: len(PIECE) * MANY, BROKEN: 10, TAKEN: None}
        return Project(
            name=NAME,
            files=tuple(
                File(filename=filename, version=filename[5], size=size, origin="streams")
                for filename, size in sizes.items()
            ),
        )

    async def revision(self, name: ProjectName | None) -> Revision:  # noqa: ARG002
        return Revision("1")

    async def open(self, project: ProjectName, file: File, span: Span | None = None) -> Content:  # noqa: ARG002
        body = {LONG: self._long, BROKEN: self._broken, TAKEN: self._told}[file.filename]
        return Stream(body=body(), size=file.size)

    async def open_metadata(self, project: ProjectName, file: File) -> Content:
        raise NotFound(f"{file.filename} of {project} has none")

    async def _long(self) -> AsyncIterator[bytes]:
        self.running += 1
        try:
            for _ in range(MANY):
                self.taken += len(PIECE)
                yield PIECE
                await asyncio.sleep(0.001)
        finally:
            self.running -= 1

    async def _broken(self) -> AsyncIterator[bytes]:
        yield b"01234"
        raise Unavailable("the disk broke")

    async def _told(self) -> AsyncIterator[bytes]:
        yield f"{self.running} {self.taken}".encode()


@asynccontextmanager
async def opening() -> AsyncIterator[Site]:
    source = Streams()
    catalog = Catalog(
        default="root", indexes={"root": Mounted(name="root", index=source)}, sources={"streams": source}, stores={}
    )
    yield Site(catalog=catalog, tokens=Tokens(Memory()), clock=lambda: datetime.now(UTC))


async def serve(port: int) -> None:
    loop, end = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, end.set)
    async with fronted(opening) as front:
        serving = Serving(front)
        await serving.listen([socket.create_server(("127.0.0.1", port))])
        await end.wait()
        await serving.stop()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
