"""Single objects from one store to another: documents, which are merged, and bytes."""

import re
import time
from collections.abc import Callable
from typing import Protocol

from msgspec import Struct

from entrepot.errors import Conflict, EntrepotError, NotFound
from entrepot.index import ABSENT, ANY, Entry, Store
from entrepot.moving import across
from entrepot.moving.ledger import Patience, Progress, Trouble, trouble
from entrepot.stores.documents import Documents, read_bytes


class Merge(Protocol):
    """What becomes of a document: see `merging`."""

    def __call__(self, there: bytes | None, ours: bytes, *, key: str) -> bytes: ...


# `gc` deletes what it found unused a day ago and what is unchanged since. What is younger than this is safe from it.
_SAFE = 12 * 3600.0  # seconds
# Keys that hold a digest. Where it stands last, as in archives, it is that of these very bytes.
_ADDRESSED = re.compile(r"/blobs/[0-9a-f]{2}/(?:[0-9a-f]{64}/|(?P<whole>[0-9a-f]{64})\Z)")


class Options(Struct, frozen=True, kw_only=True):
    """How to copy. No `indexes`: all of the store, and what belongs to none."""

    indexes: frozenset[str] = frozenset()
    jobs: int = 8
    verify: bool = False
    dry_run: bool = False


class Tally(Struct, kw_only=True):
    """What was copied so far, or would be. Sizes in bytes."""

    copied: int = 0
    copied_size: int = 0
    present: int = 0
    repaired: int = 0  # of the copied ones: what was there had other bytes than its key says
    changed: int = 0  # documents written
    troubles: list[Trouble] = []


class Blob(Struct, frozen=True, kw_only=True):
    """Bytes that a record names. `named`: the destination's record does so too, so that no `gc` takes them there."""

    key: str
    filename: str
    sha256: str | None
    size: int | None
    named: bool
    removed: bool = False  # only a tombstone names them: they may be gone


class Carrier:
    """Brings objects from `source` to `target`. What goes wrong is written down, until everything does."""

    def __init__(self, source: Store, target: Store, options: Options, progress: Progress) -> None:
        self.source = source
        self.target = target
        self.options = options
        self.tally = Tally()
        # Each is looked at before its bytes are copied, and changed after them.
        self.documents = Documents[bytes](target, encode=bytes, decode=_as_it_is, remember=options.jobs)
        self._progress = progress
        self._patience = Patience()

    def note(self, error: EntrepotError, at: str) -> None:
        """Write it down. Raises it if nothing goes right any more."""
        self.tally.troubles.append(trouble(error, at))
        self._patience.failed(error)

    async def document(self, key: str, merge: Merge) -> None:
        """Merge the source's document into the destination's."""
        try:
            ours = await read_bytes(self.source, key)
            try:
                await self.swap(key, lambda there: merge(there, ours, key=key))
            except Conflict:
                # Another copy may have brought a later one of the source.
                later = await read_bytes(self.source, key)
                if later == ours:
                    raise
                await self.swap(key, lambda there: merge(there, later, key=key))
        except EntrepotError as error:
            self.note(error, key)

    async def swap(self, key: str, change: Callable[[bytes | None], bytes]) -> None:
        """Change a document of the destination, and count it if it is another one then."""
        before: bytes | None = None

        def noting(there: bytes | None) -> bytes:
            nonlocal before
            before = there
            return change(there)

        if self.options.dry_run:
            after = noting(await self.documents.load(key))
        else:
            after = await self.documents.change(key, noting)
        if after is before:
            self.tally.present += 1
        else:
            self.tally.changed += 1
        self._patience.succeeded()

    async def blob(self, blob: Blob) -> None:
        """Make the destination have these bytes. Raises `NotFound` if the source has not, `Invalid` for other bytes."""
        there = await found(self.target, blob.key)
        if there is not None and await self._is_right(there, blob):
            self.tally.present += 1
            return
        entry = await self.source.stat(blob.key)
        if not self.options.dry_run:
            body = across.hashed(await self.source.read(blob.key), blob.key, blob.sha256, self._progress)
            # Not only where nothing is: the key says which bytes these are, and large ones cannot be written so.
            await self.target.write(blob.key, body, expect=ANY)
        self._copied(entry, repaired=there is not None and blob.named)

    async def _is_right(self, there: Entry, blob: Blob) -> bool:
        if blob.size is not None and there.size != blob.size:
            return False
        if not blob.named and time.time() - there.modified > _SAFE:
            return False  # a `gc` may be about to delete it: written anew, it is not what was marked
        return not self.options.verify or blob.sha256 in {None, await self._digest(self.target, blob.key)}

    async def alone(self, entry: Entry) -> None:
        """Bytes that no record tells of. Others in the destination are a conflict."""
        key = entry.key
        try:
            there = await found(self.target, key)
            if there is None:
                await self._carry(entry)
            elif await self._are_same(entry, there):
                self.tally.present += 1
            else:
                raise Conflict("both stores have it, with different bytes", at=key, hint="the destination's stay")
        except EntrepotError as error:
            self.note(error, key)

    async def absent(self, entry: Entry) -> None:
        """An object of a cache: whatever the destination has stays."""
        try:
            if await found(self.target, entry.key) is None:
                await self._carry(entry)
            else:
                self.tally.present += 1
        except EntrepotError as error:
            self.note(error, entry.key)

    async def _carry(self, entry: Entry) -> None:
        if not self.options.dry_run:
            addressed = _ADDRESSED.search(entry.key)
            sha256 = addressed["whole"] if addressed is not None else None
            body = across.hashed(await self.source.read(entry.key), entry.key, sha256, self._progress)
            await self.target.write(entry.key, body, expect=ANY if addressed is not None else ABSENT)
        self._copied(entry)

    async def _are_same(self, ours: Entry, there: Entry) -> bool:
        if ours.size != there.size:
            return False
        if _ADDRESSED.search(ours.key) and not self.options.verify:
            return True
        return await self._digest(self.source, ours.key) == await self._digest(self.target, ours.key)

    async def _digest(self, store: Store, key: str) -> str:
        return await across.digest(await store.read(key), key)

    def _copied(self, entry: Entry, *, repaired: bool = False) -> None:
        self.tally.copied += 1
        self.tally.copied_size += entry.size
        self.tally.repaired += repaired
        self._patience.succeeded()


async def found(store: Store, key: str) -> Entry | None:
    """What is there under the key; None if nothing is."""
    try:
        return await store.stat(key)
    except NotFound:
        return None


def _as_it_is(data: bytes, _: str) -> bytes:
    return data
