"""Files while they come: one request upstream, its bytes to every client and into staging, kept only if they are true.

Within a process all clients share one `Download`. Between the workers of a node whoever holds the lock of the staging
file leads; the others read the growing file.
"""

import asyncio
import fcntl
import hashlib
import logging
import os
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, Self

from msgspec import Struct

from entrepot import pagecache
from entrepot.errors import EntrepotError, Unavailable
from entrepot.index import Span, Staged
from entrepot.model import File, ProjectName
from entrepot.sources.mirror.upstream import Upstream, begins_at
from entrepot.stores import failures
from entrepot.threads import finished

log = logging.getLogger(__name__)

_PIECE = 64 << 10  # bytes read for one client at a time: many may share a download
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
    async def has(self, wanted: Wanted) -> bool: ...


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
        self._hashers = {name: hashlib.new(name) for name in ("sha256", *_checkable(wanted.file.hashes))}
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

    def stream(self, span: Span | None = None) -> "Growing | None":
        """Its bytes as they come; None once it is over: then they are in the store, or nowhere."""
        if self._fd < 0:
            return None
        return Growing(self, os.dup(self._fd), span)

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
            self._fd = await finished(_leading, self._path)
            self._leads = self._fd >= 0
            await (self._lead() if self._leads else self._follow())
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
                await finished(_dismiss, fd, self._path if self._leads else None)

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
            if not self._begun:
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

    async def _follow(self) -> None:
        """Another worker leads: read what it writes, until it is done."""
        fd = await finished(_opened, self._path)
        if fd is not None:
            self._fd, self._begun = fd, True
            while not await finished(_is_left, fd):
                self._grow(fd)
                await asyncio.sleep(_LOOK)
            self._grow(fd)
        if not await self._keep.has(self.wanted):
            raise Unavailable("another worker could not fetch it", at=self.wanted.url, status=502)
        self.verified = self._begun = True
        self._tell()

    def _grow(self, fd: int) -> None:
        size = os.fstat(fd).st_size
        if size > self.written:
            self.written = size
            self._tell()


class Growing:
    """The bytes of `span` of a download, for one client. Closes its descriptor when nobody holds it any more."""

    def __init__(self, download: Download, fd: int, span: Span | None) -> None:
        self._download = download
        self._fd = fd
        self._close = weakref.finalize(self, os.close, fd)
        self._at = span.start if span is not None else 0
        self._stop = span.stop if span is not None else None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        download = self._download
        while self._close.alive and (self._stop is None or self._at < self._stop):
            there = download.readable if self._stop is None else min(self._stop, download.readable)
            if self._at < there:
                stop = min(there, self._at + _PIECE)
                piece = pagecache.at_hand(self._fd, self._at, stop)
                if piece is None:
                    piece = await finished(os.pread, self._fd, stop - self._at, self._at)
                if not piece:
                    raise Unavailable("it became shorter while it came", at=download.wanted.url, status=502)
                self._at += len(piece)
                return piece
            if download.error is not None:
                raise download.error
            if download.verified:
                break
            await download.news()
        self._close()
        raise StopAsyncIteration

    async def aclose(self) -> None:
        self._close()


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


def _checkable(hashes: Mapping[str, str]) -> list[str]:
    """The strongest that we can compute; one is enough."""
    return [name for name in _STRONGEST if name in hashes][:1]


def _leading(path: Path) -> int:
    """An open, locked, empty staging file; -1 if another process has it."""
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return -1
        # Between our open and our lock its last holder may have removed it.
        if _is_at(fd, path):
            os.ftruncate(fd, 0)
            return fd
        os.close(fd)


def _is_at(fd: int, path: Path) -> bool:
    try:
        there = os.stat(path)
    except FileNotFoundError:
        return False
    ours = os.fstat(fd)
    return (ours.st_ino, ours.st_dev) == (there.st_ino, there.st_dev)


def _opened(path: Path) -> int | None:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None


def _is_left(fd: int) -> bool:
    """Whether its writer is done with it."""
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _dismiss(fd: int, path: Path | None) -> None:
    if path is not None:
        path.unlink(missing_ok=True)
    os.close(fd)
