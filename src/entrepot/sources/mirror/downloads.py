"""Files while they come: one request upstream, its bytes to every client and into staging, kept only if they are true.

Within a process all clients share one `Download`. Between the workers of a node whoever holds the lock of the staging
file leads; the others read the growing file, and one of them takes over when the leader dies.
"""

import asyncio
import hashlib
import logging
import os
import weakref
from pathlib import Path
from typing import Protocol

from msgspec import Struct

from entrepot.errors import EntrepotError, Unavailable
from entrepot.index import Span, Staged
from entrepot.model import File, ProjectName
from entrepot.sources.mirror import growing
from entrepot.sources.mirror.growing import Growing
from entrepot.sources.mirror.upstream import Upstream, begins_at
from entrepot.stores import failures
from entrepot.threads import finished

log = logging.getLogger(__name__)

_RESUMED = 3  # times that a download that was cut is taken up again
_LOOK = 0.03  # seconds between two looks at a file that another worker writes
_STRONGEST = ("sha512", "sha384", "sha256", "blake2b", "sha3_256", "sha224", "sha1", "md5")


class Wanted(Struct, frozen=True, kw_only=True):
    """A file and where upstream has it."""

    project: ProjectName
    file: File
    url: str


class Keep(Protocol):
    """What makes a complete file durable, and tells whether it is."""

    async def keep(self, wanted: Wanted, staged: Staged) -> None: ...
    async def size(self, wanted: Wanted) -> int | None:
        """Of the kept file; None if it is not kept."""


class Download:
    """One file on its way, to be kept when all of it has come and is true."""

    def __init__(self, wanted: Wanted, upstream: Upstream, staging: Path, keep: Keep) -> None:
        self.wanted = wanted
        self._upstream = upstream
        self._path = staging
        self._keep = keep
        self._fd = -1
        self._leads = True
        self._news: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._begun = self._ended = False
        self._hashers = _hashers(wanted.file)
        self._streams: weakref.WeakSet[Growing] = weakref.WeakSet()
        self.in_parts = True  # parts of it may be asked for, as far as is known
        self.verified = False
        self.error: EntrepotError | None = None
        self.written = 0
        self.modified: str | None = None  # when, as upstream's answer says
        self.size = wanted.file.size
        self.task = asyncio.create_task(self._run())

    # For clients.

    async def begun(self) -> None:
        """Wait until its size is known, as far as upstream tells. Raises what kept it from beginning."""
        while not self._begun and not self._ended:
            await self.news()
        if self.error is not None and not self._begun:
            raise self.error

    async def ended(self) -> None:
        """Wait until it is kept. Raises what kept it from being so."""
        await asyncio.shield(self.task)
        if self.error is not None:
            raise self.error

    def stream(self, span: Span | None = None) -> Growing | None:
        """Its bytes as they come; None once it is over: then they are in the store, or nowhere."""
        if self._fd < 0:
            return None
        stream = Growing(self, os.dup(self._fd), span)
        self._streams.add(stream)
        return stream

    @property
    def url(self) -> str:
        return self.wanted.url

    @property
    def readable(self) -> int:
        """The bytes that clients may have: the last is held back until all are known to be true."""
        return self.written if self.verified else self.written - 1

    async def news(self) -> None:
        """Wait until something changed."""
        if not self._ended:
            await asyncio.shield(self._news)

    def _tell(self) -> None:
        news, self._news = self._news, asyncio.get_running_loop().create_future()
        news.set_result(None)

    # The work.

    async def _run(self) -> None:
        try:
            # A leader that dies has its follower begin anew.
            while not await self._attempted():
                pass
        except EntrepotError as error:
            self._fail(error)
        except OSError as error:
            self._fail(failures.while_writing(error, self.wanted.file.filename, str(self._path.parent)))
        finally:
            fd, self._fd = self._fd, -1
            self._ended = True
            self._tell()
            if fd >= 0:
                # Whoever reads holds a descriptor of its own.
                await finished(growing.dismiss, fd, self._path if self._leads else None)

    async def _attempted(self) -> bool:
        """Lead, or follow whoever leads. False if that one died."""
        fd = await finished(growing.led, self._path)
        self._leads = fd >= 0
        if self._leads:
            self._begin_with(fd)
            await self._lead()
            return True
        return await self._follow()

    def _begin_with(self, fd: int) -> None:
        """The file that grows from now on."""
        before, self._fd = self._fd, fd
        self.written = 0
        self._hashers = _hashers(self.wanted.file)
        for stream in self._streams:
            stream.go_on_with(os.dup(fd))
        if before >= 0:
            os.close(before)

    def _fail(self, error: EntrepotError) -> None:
        self.error = error
        log.warning("%s of %s was not kept: %s", self.wanted.file.filename, self.wanted.project, error)

    async def _lead(self) -> None:
        for attempt in range(_RESUMED + 1):
            before = self.written
            try:
                await self._receive()
                break
            except Unavailable:
                if attempt == _RESUMED or self.written == before:
                    raise
        self._check()
        self.verified = True
        self._tell()
        sha256 = self._hashers["sha256"].hexdigest()
        await self._keep.keep(self.wanted, Staged(path=self._path, size=self.written, sha256=sha256))

    async def _receive(self) -> None:
        """From where we are to the end."""
        start = self.written
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
        async with self._upstream.get(self.wanted.url, headers) as response:
            if start and response.status != 200 and begins_at(response) != start:
                raise Unavailable("upstream sent another range than was asked for", at=self.wanted.url, status=502)
            self.modified = response.headers.get("Last-Modified")
            skipped = start if response.status == 200 else 0  # bytes that we have already
            if not start:
                length = response.headers.get("Content-Length")
                self._announce(int(length) if length is not None and length.isdecimal() else None)
            async for piece in response.content.iter_any():
                fresh = piece[skipped:]
                skipped = max(0, skipped - len(piece))
                if fresh:
                    await finished(self._take, fresh)
                    self.written += len(fresh)
                    self._tell()
        if self.size is not None and self.written != self.size:
            raise Unavailable(f"{self.written} bytes came in place of {self.size}", at=self.wanted.url, status=502)

    def _announce(self, length: int | None) -> None:
        if self.size is None:
            self.size = length
        elif length is not None and length != self.size:
            raise Unavailable(
                f"upstream's file has {length} bytes, and its page says {self.size}", at=self.wanted.url, status=502
            )
        self._begun = True
        self._tell()

    def _take(self, piece: bytes) -> None:
        for hasher in self._hashers.values():
            hasher.update(piece)
        rest = memoryview(piece)
        while rest:
            rest = rest[os.write(self._fd, rest) :]

    def _check(self) -> None:
        """Raises `Unavailable` if the bytes are not those that upstream's page tells of."""
        for name, digest in self.wanted.file.hashes.items():
            hasher = self._hashers.get(name)
            if hasher is not None and hasher.hexdigest() != digest:
                words = f"it has {name} {hasher.hexdigest()}, and upstream's page says {digest}"
                raise Unavailable(words, at=self.wanted.url, status=502)

    async def _follow(self) -> bool:
        """Another worker leads: read what it writes, until it is done. False if it died, or was not to be found."""
        fd = await finished(growing.opened, self._path)
        if fd is None:
            return await self._is_kept(0)
        self._begin_with(fd)
        self._begun = True
        while (state := await finished(growing.state, fd, self._path)) == "running":
            self._grow(fd)
            await asyncio.sleep(_LOOK)
        self._grow(fd)
        if await self._is_kept(self.written):
            return True
        if state == "over" and not self._path.exists():
            raise Unavailable("another worker could not fetch it", at=self.wanted.url, status=502)
        if state == "died":
            log.warning("the worker that fetched %s died: it is fetched anew", self.wanted.file.filename)
        return False

    async def _is_kept(self, read: int) -> bool:
        """Whether it is kept, and those who follow it here can read all of it."""
        size = await self._keep.size(self.wanted)
        if size is None or (self._streams and size != read):
            return False
        self.verified = self._begun = True
        self._tell()
        return True

    def _grow(self, fd: int) -> None:
        size = os.fstat(fd).st_size
        if size > self.written:
            self.written = size
            self._tell()


class Downloads:
    """The downloads of a mirror in this process, by filename."""

    def __init__(self, index: str, upstream: Upstream, staging: Path, keep: Keep) -> None:
        self._index = index
        self._upstream = upstream
        self._staging = staging
        self._keep = keep
        self._running: dict[tuple[str, str], Download] = {}

    def start(self, wanted: Wanted) -> Download:
        """The download of the file; the running one if there is one."""
        key = (wanted.project, wanted.file.filename)
        download = self._running.get(key)
        if download is None:
            download = Download(wanted, self._upstream, self._path(wanted), self._keep)
            self._running[key] = download
            download.task.add_done_callback(lambda _: self._running.pop(key, None))
        return download

    async def stop(self) -> None:
        """What has not come by now is given up."""
        tasks = [download.task for download in self._running.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _path(self, wanted: Wanted) -> Path:
        what = f"{self._index}/{wanted.project}/{wanted.file.filename}"
        return self._staging / f"mirror-{hashlib.sha256(what.encode()).hexdigest()[:40]}"


def _hashers(file: File) -> "dict[str, hashlib._Hash]":
    """The SHA-256, under which it is kept, and the strongest that its page tells and we can compute."""
    checkable = [name for name in _STRONGEST if name in file.hashes][:1]
    return {name: hashlib.new(name) for name in ("sha256", *checkable)}
