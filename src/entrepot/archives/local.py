"""Files on this machine: what is offered to an archive, and what is pulled out of one.

A pulled file appears under its name only when it is complete and verified; `.etag` beside it, which says which
version it is, is written last.
"""

import errno
import fcntl
import hashlib
import os
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from msgspec import Struct

from entrepot.archives.model import IN_ONE_REQUEST, Archives, Offer, Version, check_localname
from entrepot.archives.reading import of_file, pieces
from entrepot.errors import Conflict, Invalid, Unavailable
from entrepot.index import Body, OnDisk, Span
from entrepot.stores import uniqueness
from entrepot.threads import finished

# Told of bytes as they come: how many, and of them how many were here before.
Progress = Callable[[int], None]

_GATHER = 1 << 20  # bytes that go to the disk and through the hash with one change of threads


def nothing(_: int) -> None:
    """A progress that nobody looks at."""


async def offered(
    path: Path, *, filename: str | None, by: str | None, now: datetime, progress: Progress = nothing
) -> Offer:
    """The local file, hashed. Its bytes are read again when they are sent, and must be the same then."""
    running, size = hashlib.sha256(), 0
    small = bytearray()
    async for piece in of_file(path):
        await finished(running.update, piece)
        size += len(piece)
        small += piece if size <= IN_ONE_REQUEST else b""
    sha256, held = running.hexdigest(), bytes(small) if size <= IN_ONE_REQUEST else None

    def body() -> Body:
        return held if held is not None else _again(path, sha256, progress)

    return Offer(filename=filename or path.name, size=size, sha256=sha256, body=body, by=by, now=now)


async def _again(path: Path, sha256: str, progress: Progress) -> AsyncIterator[bytes]:
    """The bytes of the file. Raises `Conflict` at their end if they are others than they were: nothing is kept."""
    running, size = hashlib.sha256(), 0
    async for piece in of_file(path):
        await finished(running.update, piece)
        yield piece
        size += len(piece)
        progress(len(piece))
    if running.hexdigest() != sha256:
        raise Conflict("the file was changed while it was sent", at=str(path), hint="push it again")


class Pulled(Struct, frozen=True, kw_only=True):
    """What became of a pull. `sha256` None: it was not computed, since the file was here already."""

    path: Path
    skipped: bool
    sha256: str | None = None


def destination(outdir: Path, localname: str) -> Path:
    """Where `pull` puts the file. Raises `Invalid` for a localname that leads elsewhere."""
    check_localname(localname)
    return outdir / localname


def etag_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.etag")


def is_here(path: Path, version: Version) -> bool:
    """Whether `.etag` and size say that this version was pulled here before."""
    return recorded_etag(path) == version.etag and size_of(path) == version.size


def recorded_etag(path: Path) -> str | None:
    """What `.etag` says; None if there is none."""
    try:
        return etag_path(path).read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise Unavailable(error.strerror or repr(error), at=str(etag_path(path))) from error


def size_of(path: Path) -> int | None:
    """None if there is no such file."""
    try:
        return path.stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise Unavailable(error.strerror or repr(error), at=str(path)) from error


async def pull(
    archives: Archives, name: str, version: Version, path: Path, *, progress: Progress = nothing
) -> str:  # fmt: skip
    """Fetch the version to `path`, going on where an earlier attempt was cut; its sha256.

    Raises `Unavailable` if what came has another sha256 or size than is recorded; then `path` is as it was.
    """
    part = await finished(Part.open, path, version)
    try:
        begun = part.size
        progress(begun)
        if not await _fetched(archives, name, version, part, progress) and begun:
            # What an earlier attempt left may be what is wrong.
            await finished(part.clear)
            progress(-begun)
            await _fetched(archives, name, version, part, progress)
        _require_right(name, version, part)
        if version.sha256 is None and (await archives.archive(name)).version(version.version).etag != version.etag:
            part.spoiled = True  # nobody knows which of the two its bytes are of
            raise Conflict(f"version {version.version} of {name} was replaced while it came", hint="try again")
        await finished(part.finish, version.etag)
    finally:
        await finished(part.close)
    return part.sha256


async def _fetched(archives: Archives, name: str, version: Version, part: "Part", progress: Progress) -> bool:
    """Whether all of it is here and right."""
    if part.size < version.size or not version.size:
        span = Span(part.size, version.size) if part.size else None
        content = await archives.open(name, version, span)
        start = part.size if isinstance(content, OnDisk) else 0
        waiting: list[bytes] = []
        size = 0
        async for piece in pieces(content, start):
            waiting.append(piece)
            size += len(piece)
            progress(len(piece))
            if size >= _GATHER:
                await finished(part.write, b"".join(waiting))
                waiting, size = [], 0
        await finished(part.write, b"".join(waiting))
    return _is_right(version, part)


def _is_right(version: Version, part: "Part") -> bool:
    return part.size == version.size and version.sha256 in {None, part.sha256}


def _require_right(name: str, version: Version, part: "Part") -> None:
    if _is_right(version, part):
        return
    found = f"{part.size} bytes with sha256 {part.sha256}"
    meant = f"{version.size} bytes with sha256 {version.sha256 or 'that nobody recorded'}"
    part.spoiled = True
    hint = "`entrepot archive verify` says what is stored"
    raise Unavailable(f"what came of {name} {version.version} is {found} and not {meant}", at=str(part.path), hint=hint)


class Part:
    """A file on its way to `path`, under a name of its own beside it. Blocking; one process at a time has it."""

    def __init__(self, path: Path, name: Path, file: Any) -> None:
        self.path = path
        self.size = 0
        self.spoiled = False
        self._name: Path | None = name
        self._file = file
        self._hash = hashlib.sha256()
        while piece := file.read(_GATHER):
            self._hash.update(piece)
            self.size += len(piece)

    @classmethod
    def open(cls, path: Path, version: Version) -> "Part":
        """What is there of this very version already, or a new one. Makes the folder."""
        told = hashlib.sha256(f"{version.version}\0{version.etag}".encode()).hexdigest()[:16]
        prefix = _prefix(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.is_dir():
                raise Invalid("is a folder, and a file is to be written there", at=str(path))
            part = cls._locked(path, path.with_name(f"{prefix}{told}.part"))
            # Another process is at it: to wait would be as slow as to fetch it twice.
            part = part or cls._locked(path, path.with_name(f"{prefix}{uniqueness.name()}.part"))
        except OSError as error:
            raise _failed(error, path) from error
        assert part is not None
        if part.size > version.size:
            part.clear()
        return part

    @classmethod
    def _locked(cls, path: Path, name: Path) -> "Part | None":
        file = os.fdopen(os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666), "r+b")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.stat(name).st_ino == os.fstat(file.fileno()).st_ino:
                return cls(path, name, file)
        except (BlockingIOError, FileNotFoundError):
            pass  # somebody else has it, or has just finished it
        except BaseException:
            file.close()
            raise
        file.close()
        return None

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    def write(self, data: bytes) -> None:
        """Append it."""
        try:
            self._file.write(data)
        except OSError as error:
            raise _failed(error, self.path) from error
        self._hash.update(data)
        self.size += len(data)

    def clear(self) -> None:
        self._file.seek(0)
        self._file.truncate()
        self._hash, self.size = hashlib.sha256(), 0

    def finish(self, etag: str) -> None:
        """Put it under its name, and then say which version it is."""
        assert self._name is not None
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            os.replace(self._name, self.path)
            self._name = None
            _write(etag_path(self.path), etag)
            _sweep(self.path)
        except OSError as error:
            raise _failed(error, self.path) from error

    def close(self) -> None:
        """What is right so far stays for the next attempt."""
        if self._name is not None and (self.spoiled or not self.size):
            with suppress(OSError):
                os.unlink(self._name)
        with suppress(OSError):  # a full disk: what is not written is fetched again
            self._file.close()


def _prefix(path: Path) -> str:
    """What the names of all parts of this file begin with, and of no other one."""
    return f".{path.name[:50]}.{hashlib.sha256(path.name.encode()).hexdigest()[:8]}-"


def _sweep(path: Path) -> None:
    """Remove what earlier pulls of this file left that were cut and never gone on with, unless one is under way."""
    prefix = _prefix(path)
    for name in os.listdir(path.parent):
        if name.startswith(prefix) and name.endswith(".part"):
            # Another process may finish or remove it at the same moment.
            with suppress(OSError), (path.parent / name).open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.unlink(path.parent / name)


def _write(path: Path, text: str) -> None:
    draft = path.with_name(f".{path.name[:50]}.{uniqueness.name()}")
    try:
        draft.write_text(text, encoding="utf-8")
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def _failed(error: OSError, path: Path) -> Unavailable:
    where = error.filename if isinstance(error.filename, str) else str(path)
    full = error.errno in {errno.ENOSPC, errno.EDQUOT}
    return Unavailable(error.strerror or repr(error), at=where, status=507 if full else 503)
