"""Files that grow in staging, shared by the workers of a node.

Whoever holds the lock of a file (`flock`) writes it, and removes its name when it is done, before it lets go of the
lock. So a name whose file nobody has locked was left by a writer that died. Such a file is never written to again, as
others may still read it: the next writer makes another one of that name.
"""

import fcntl
import os
import weakref
from pathlib import Path
from typing import Literal, Protocol, Self

from entrepot import pagecache
from entrepot.errors import EntrepotError, Unavailable
from entrepot.index import Span
from entrepot.threads import finished

_PIECE = 64 << 10  # bytes read for one client at a time: many may share a download
_COMPARED = 1 << 20  # bytes at a time

# running: it is being written. over: its writer was done with it. died: its writer did not come to its end.
State = Literal["running", "over", "died"]


def led(path: Path) -> int:
    """An open, locked, empty file at that path; -1 if another process writes it. Blocking, as all here."""
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return -1
        # Between our open and our lock its last holder may have removed it.
        if _is_at(fd, path):
            if os.fstat(fd).st_size == 0:
                return fd
            path.unlink()
        os.close(fd)


def opened(path: Path) -> int | None:
    """For reading; None if there is none."""
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None


def state(fd: int, path: Path) -> State:
    """Of a file that another process writes, or did."""
    if not _is_at(fd, path):
        return "over"
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return "running"
    fcntl.flock(fd, fcntl.LOCK_UN)  # at once: it would keep others from taking over
    return "died" if _is_at(fd, path) else "over"


def dismiss(fd: int, path: Path | None) -> None:
    """Close it, and before remove its name if it is ours."""
    if path is not None:
        path.unlink(missing_ok=True)
    os.close(fd)


def _is_at(fd: int, path: Path) -> bool:
    try:
        there = os.stat(path)
    except FileNotFoundError:
        return False
    ours = os.fstat(fd)
    return (ours.st_ino, ours.st_dev) == (there.st_ino, there.st_dev)


class Coming(Protocol):
    """What a reader needs to know of the download whose file it reads."""

    error: EntrepotError | None
    verified: bool  # all bytes are there, and true

    @property
    def readable(self) -> int:
        """The bytes that clients may have."""

    @property
    def url(self) -> str: ...

    async def news(self) -> None:
        """Wait until something changed."""


class Growing:
    """The bytes of `span` of a download, for one client. Closes its descriptors when nobody holds it any more."""

    def __init__(self, download: Coming, fd: int, span: Span | None) -> None:
        self._download = download
        self._fd = fd
        self._before: int | None = None  # the file that the client has bytes of, whose writer died
        self._fds = [fd]
        self._close = weakref.finalize(self, _close_all, self._fds)
        self._start = self._at = span.start if span is not None else 0
        self._stop = span.stop if span is not None else None

    def go_on_with(self, fd: int) -> None:
        """The download begins anew, in this file, which becomes ours: the writer of the other one died."""
        if not self._close.alive:
            os.close(fd)
            return
        if self._before is None:  # else nothing was read of the file that died last
            self._before = self._fd
        self._fds.append(fd)
        self._fd = fd

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        download = self._download
        while self._close.alive and (self._stop is None or self._at < self._stop):
            there = download.readable if self._stop is None else min(self._stop, download.readable)
            if self._at < there:
                if self._before is not None:
                    await self._compare(self._before)
                    continue
                return await self._read(min(there, self._at + _PIECE))
            if download.error is not None:
                raise download.error
            if download.verified:
                break
            await download.news()
        self._close()
        raise StopAsyncIteration

    async def _read(self, stop: int) -> bytes:
        piece = pagecache.at_hand(self._fd, self._at, stop)
        if piece is None:
            piece = await finished(os.pread, self._fd, stop - self._at, self._at)
        if not piece:
            raise Unavailable("it became shorter while it came", at=self._download.url, status=502)
        self._at += len(piece)
        return piece

    async def _compare(self, before: int) -> None:
        """What the client has must be the beginning of what comes: nobody knew yet whether that was true."""
        self._before = None
        if not await finished(_are_equal, before, self._fd, self._start, self._at):
            raise Unavailable("it came with other bytes the second time", at=self._download.url, status=502)

    async def aclose(self) -> None:
        self._close()


def _are_equal(one: int, other: int, start: int, stop: int) -> bool:
    """Whether two files have the same bytes there."""
    while start < stop:
        size = min(_COMPARED, stop - start)
        if os.pread(one, size, start) != os.pread(other, size, start):
            return False
        start += size
    return True


def _close_all(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)
