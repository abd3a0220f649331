"""A store in a folder of a local disk.

An object is a file whose path is its key, so that `ls`, `cp -a` and a backup see what we see. What is
acknowledged is durable: the file's bytes before its name, the name before the answer.
"""

import os
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterator, Mapping
from contextlib import ExitStack, aclosing, suppress
from itertools import islice
from pathlib import Path
from typing import Self
from urllib.parse import unquote_to_bytes, urlsplit

from msgspec.structs import replace

from entrepot.errors import EntrepotError, Invalid, NotFound
from entrepot.index import ABSENT, Body, Content, Entry, Etag, Expect, OnDisk, Span, Staged, Stream, Traits
from entrepot.stores import failures, identity, keys, placing, staging
from entrepot.stores.changes import Changes
from entrepot.stores.entries import cut, entry_of, is_object
from entrepot.stores.ownership import refuse_strangers
from entrepot.stores.pieces import Pieces
from entrepot.stores.remote import Remote, refuse_options
from entrepot.stores.walk import walk
from entrepot.threads import finished

_GATHER = 1024 * 1024  # bytes of a streamed body that go to the disk with one change of threads


def from_url(url: str, remote: Remote | None = None, *, create: bool) -> "Disk":
    """The store of a `file:///path` URL."""
    refuse_options(url, remote)
    parts = urlsplit(url)
    if parts.netloc not in ("", "localhost") or not parts.path:
        raise Invalid("a file URL has three slashes, as in file:///srv/packages", at=url)
    return Disk.open(Path(os.fsdecode(unquote_to_bytes(parts.path))), create=create)


class Disk:
    """The `Store` in `root`. `Disk.open` looks whether there is one; the constructor does not."""

    traits: Traits

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self._root = str(self.root)
        self.traits = Traits(compare_and_swap=True, staging=self.root / "staging")
        self._changes: Changes | None = None

    @classmethod
    def open(cls, root: Path, *, create: bool) -> Self:
        """Raises `Unavailable` if there is no store and `create` is false, or if its schema is too new."""
        store = cls(root)
        with failures.translated(failures.while_writing, "", store._root):
            found = (identity.create if create else identity.read)(store._root)
            store.traits = replace(store.traits, id=found.id)
            # A reader who may not write there asks the file system each time.
            with suppress(PermissionError):
                store._changes = Changes(store._root)
        return store

    @property
    def pulse(self) -> Callable[[], object] | None:
        """A function whose result changes with every write on this machine; None if there are no marks to read."""
        return self._changes.pulse if self._changes is not None else None

    async def stat(self, key: str) -> Entry:
        changes = self._changes
        if changes is None:
            keys.check(key)
            return self._stat(key)
        known = changes.recall(key)
        if known is not None:
            return known
        keys.check(key)
        watched = changes.watch(key)
        try:
            entry = self._stat(key)
        except NotFound:
            changes.remember(key, watched, None)
            raise
        changes.remember(key, watched, entry)
        return entry

    def _stat(self, key: str) -> Entry:
        # On the event loop, on purpose: every hot page asks this, a local disk answers in 1.5 µs, and
        # going to a thread and back costs fifty times as much.
        try:
            found = os.lstat(f"{self._root}/{key}")
        except OSError as error:
            raise self._reading(error, key) from error
        if not is_object(found):
            raise NotFound("no such object", at=key)
        return entry_of(key, found)

    async def read(self, key: str, span: Span | None = None) -> Content:
        keys.check(key)
        self._stat(key)  # what is absent costs no thread: caches ask for much that is not there
        return await finished(self._read, key, span)

    async def write(self, key: str, body: Body, *, expect: Expect) -> Etag:
        """A cancellation while the object is put into place is raised after it is there."""
        keys.check(key)
        if isinstance(body, bytes | Staged):
            return await finished(placing.put, self._root, key, body, expect)
        opened = ExitStack()  # filled in the thread: a cancellation would lose what the thread returns
        try:
            staged = await finished(lambda: opened.enter_context(placing.begin(self._root, key)))
            async with aclosing(_gathered(body)) as pieces:
                async for piece in pieces:
                    await finished(staged.write, piece)
            return await finished(placing.commit, self._root, key, staged, expect)
        finally:
            await finished(opened.close)

    async def write_all(self, bodies: Mapping[str, bytes | Staged]) -> None:
        for key in bodies:
            keys.check(key)
        await finished(placing.put_all, self._root, bodies)

    async def delete(self, key: str, *, expect: Expect) -> None:
        """The file lies in `trash` until it is swept, for those who are about to open it."""
        keys.check(key)
        if expect is ABSENT:
            raise ValueError("nothing is to be deleted where nothing is expected")
        await finished(placing.discard, self._root, key, expect)

    async def list(self, prefix: str, *, after: str = "") -> AsyncIterator[Entry]:
        if not keys.check_prefix(prefix):
            return
        entries = walk(self._root, prefix, after)
        # Many keys with one change of threads, but few at first: some callers want only one.
        amount = 16
        while batch := await finished(self._take, entries, amount):
            for entry in batch:
                yield entry
            amount = min(amount * 2, 1024)

    async def sweep(self, now: float) -> None:
        """Remove what was deleted ten minutes ago, and what writers that died left an hour ago."""
        await finished(self._sweep, now)

    # What follows runs in threads.

    def _read(self, key: str, span: Span | None) -> Content:
        path = f"{self._root}/{key}"
        try:
            # O_NONBLOCK: a named pipe would make us wait for its writer.
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise self._reading(error, key) from error
        try:
            found = os.fstat(fd)
            if not is_object(found):
                raise NotFound("no such object", at=key)
            if span is None:
                return OnDisk(path=Path(path), size=found.st_size, mtime_ns=found.st_mtime_ns)
            part = cut(span, found.st_size)
            body = Pieces(os.dup(fd), part, key=key, root=self._root)
            return Stream(body=body, size=part.stop - part.start)
        finally:
            os.close(fd)

    def _reading(self, error: OSError, key: str) -> EntrepotError:
        meant = failures.while_reading(error, key, self._root)
        if isinstance(meant, NotFound):
            with failures.translated(failures.while_writing, key, self._root):
                identity.require(self._root)  # where no store is, nothing is known to be absent
        return meant

    def _take(self, entries: Iterator[Entry], amount: int) -> "tuple[Entry, ...]":
        with failures.translated(failures.while_reading, "", self._root):
            return tuple(islice(entries, amount))

    def _sweep(self, now: float) -> None:
        with failures.translated(failures.while_writing, "", self._root):
            refuse_strangers(self._root)
            staging.sweep(f"{self._root}/staging", now)
            placing.sweep_trash(self._root, now)


async def _gathered(body: AsyncIterable[bytes]) -> AsyncGenerator[bytes, None]:
    """The body in pieces that are worth a change of threads."""
    pieces: list[bytes] = []
    size = 0
    async for piece in body:
        pieces.append(piece)
        size += len(piece)
        if size >= _GATHER:
            yield b"".join(pieces)
            pieces.clear()
            size = 0
    if pieces:
        yield b"".join(pieces)
