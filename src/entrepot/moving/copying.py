"""A store copied into another one, which loses nothing by it and is sound at every moment.

Each record is read before the bytes that it names, which are there already then; and written after them.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import partial

from msgspec.structs import replace

from entrepot.access.tokens import KEY as TOKENS
from entrepot.errors import Conflict, EntrepotError, Invalid, NotFound, Unavailable
from entrepot.index import Entry, Store
from entrepot.model import File, ProjectName
from entrepot.moving import merging, opaque
from entrepot.moving.ledger import Progress
from entrepot.moving.objects import Blob, Carrier, Merge, Options, Tally, found
from entrepot.moving.parallel import each
from entrepot.sources import record as records
from entrepot.sources.hosted import blob_key
from entrepot.sources.names import Names
from entrepot.sources.record import Record
from entrepot.stores import keys
from entrepot.stores.documents import read_bytes
from entrepot.wire import filenames

_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
_ATTEMPTS = 5  # at a record that changes while its bytes are copied
_OF_MIRRORS = frozenset({"upstream/", "seen/", "metadata/", "used.json"})  # whose records are a cache
_CACHES = frozenset({"upstream/", "metadata/"})
_KNOWN = frozenset({"names.json", "used.json", "seen/", ".claims/", *_CACHES})  # claims are locks of archives
_LAST = "\U0010ffff"  # greater than any character of a key


async def copy(source: Store, target: Store, options: Options, progress: Progress = lambda _: None) -> Tally:
    """Make `target` have all that `source` has. Raises `NotFound` for an index that is not there, `Unavailable`.

    Reads each record once and each blob that is missing there, with memory for `jobs` records and pieces of as many
    blobs. `progress` is told of bytes as they go over.
    """
    return await _Copy(source, target, options, progress).run()


async def size(store: Store, options: Options) -> int:
    """The bytes of all blobs of the indexes: what a first copy has to bring, at most. Costs a listing."""
    names = [name for name in await _branches(store, "") if name.endswith("/")]
    chosen = [name for name in names if not options.indexes or name[:-1] in options.indexes]
    total = 0
    for name in chosen:
        async for entry in store.list(f"{name}blobs/"):
            total += entry.size
    return total


_Merge = Callable[[bytes | None, bytes], bytes]


class _Copy:
    def __init__(self, source: Store, target: Store, options: Options, progress: Progress) -> None:
        self._source = source
        self._options = options
        self._carrier = Carrier(source, target, options, progress)
        self._names: dict[str, Names] = {}  # of the destination, of indexes that keep a list
        self._projects = asyncio.Semaphore(options.jobs)
        self._bytes = asyncio.Semaphore(options.jobs)

    async def run(self) -> Tally:
        tops = [name for name in await _branches(self._source, "") if name.rstrip("/") not in {*keys.RESERVED, "gc"}]
        chosen = self._chosen(tops)
        if not self._options.indexes:
            await self._access(tops)
        indexes = {index: await _branches(self._source, index) for index in chosen}
        for index, branches in indexes.items():
            await self._documents(index, branches)
        for index, branches in indexes.items():
            work = partial(self._project, index, not _OF_MIRRORS.isdisjoint(branches))
            await each(self._source.list(f"{index}projects/"), work, self._projects)
        for index, branches in indexes.items():
            await self._rest(index, branches)
        if not self._options.indexes:
            await self._opaque(partial(self._strays, tops))
        return self._carrier.tally

    def _chosen(self, tops: Sequence[str]) -> list[str]:
        indexes = [name for name in tops if name.endswith("/") and name != "access/"]
        known = {name.rstrip("/") for name in indexes}
        if missing := self._options.indexes - known:
            hint = f"it has: {', '.join(sorted(known))}" if known else "it is empty"
            raise NotFound(f"the source has no index {', '.join(sorted(missing))}", at="--index", hint=hint)
        return [name for name in indexes if not self._options.indexes or name.rstrip("/") in self._options.indexes]

    async def _access(self, tops: Sequence[str]) -> None:
        if "access/" in tops:
            if await found(self._source, TOKENS) is not None:
                await self._carrier.document(TOKENS, merging.tokens)
            await self._opaque(lambda: _but(self._source.list("access/"), TOKENS))

    async def _opaque(self, listing: opaque.Listing) -> None:
        await opaque.bring(self._carrier, listing, self._bytes)

    async def _strays(self, tops: Sequence[str]) -> AsyncIterator[Entry]:
        """What lies at the top and belongs to no index."""
        for name in tops:
            if not name.endswith("/") and (entry := await found(self._source, name)) is not None:
                yield entry

    async def _merge(self, merge: Merge, entry: Entry) -> None:
        await self._carrier.document(entry.key, merge)

    # What an index has beside its projects. Names first, so that none is missing where its record is.

    async def _documents(self, index: str, branches: Sequence[str]) -> None:
        if _OF_MIRRORS.isdisjoint(branches):
            self._names[index] = Names(self._carrier.target, index.rstrip("/"))
        if "names.json" in branches:
            await self._enter(index)
        if "used.json" in branches:
            await self._carrier.document(f"{index}used.json", merging.used)
        await each(self._source.list(f"{index}seen/"), partial(self._merge, merging.seen), self._bytes)

    async def _enter(self, index: str) -> None:
        """The names of either: a list of names only grows."""
        try:
            names = await Names(self._source, index.rstrip("/")).all()
            if not self._options.dry_run:
                await Names(self._carrier.target, index.rstrip("/")).enter(*names)
        except EntrepotError as error:
            self._carrier.note(error, f"{index}names.json")

    async def _rest(self, index: str, branches: Sequence[str]) -> None:
        for branch in _CACHES.intersection(branches):
            await each(self._source.list(f"{index}{branch}"), self._carrier.absent, self._bytes)
        await self._opaque(partial(self._unknown, index, branches))

    async def _unknown(self, index: str, branches: Sequence[str]) -> AsyncIterator[Entry]:
        """What is neither record nor blob nor a document or cache of ours."""
        for branch in branches:
            if branch in _KNOWN:
                continue
            async for entry in self._source.list(f"{index}{branch}"):
                if not _is_record(entry.key, index) and not _is_blob(entry.key, index):
                    yield entry

    # Projects.

    async def _project(self, index: str, cache: bool, entry: Entry) -> None:
        if _is_record(entry.key, index):
            try:
                await self._record(index, cache, entry.key)
            except EntrepotError as error:
                self._carrier.note(error, entry.key)

    async def _record(self, index: str, cache: bool, key: str) -> None:
        """The record as it is now, when the destination has the bytes.

        It is read again when something does not fit: files are deleted while they are copied, and another copy of a
        later record may have come first.
        """
        merge = partial(merging.cached if cache else merging.record, key=key)
        seen: bytes | None = None
        for attempt in range(_ATTEMPTS):
            try:
                ours = await read_bytes(self._source, key)
            except NotFound:
                return  # the index forgot it since it was listed
            last = ours == seen or attempt == _ATTEMPTS - 1
            seen = ours
            try:
                if await self._swapped(index, key, ours, merge, last=last):
                    return
            except Conflict:
                if last:
                    raise

    async def _swapped(self, index: str, key: str, ours: bytes, merge: _Merge, *, last: bool) -> bool:
        """Bring the bytes of the record, then the record. False if bytes are missing, unless it is the last attempt."""
        there = await self._carrier.documents.load(key)
        merge(there, ours)  # a conflict is told before any byte is copied
        known = records.decode(there, key) if there is not None else None
        record = records.decode(ours, key)
        faults = await self._bring(index, record, known)
        if not last and any(isinstance(error, NotFound) for error in faults.values()):
            return False
        for blob, error in faults.items():
            missing = NotFound("is missing in the source, but its record lists it")
            self._carrier.note(missing if isinstance(error, NotFound) else error, blob.key)
        body = _without(record, known, faults, ours)
        if body is not None:
            if index in self._names and not self._options.dry_run:
                await self._names[index].enter(ProjectName(key.removeprefix(f"{index}projects/").removesuffix(".json")))
            await self._carrier.swap(key, lambda there: merge(there, body))
        return True

    async def _bring(self, index: str, record: Record, known: Record | None) -> Mapping[Blob, EntrepotError]:
        """Make the destination have the bytes that the record names; those that it cannot have, and why."""
        faults: dict[Blob, EntrepotError] = {}

        async def one(blob: Blob) -> None:
            try:
                await self._carrier.blob(blob)
            except NotFound as error:
                if not blob.removed:
                    faults[blob] = error
            except EntrepotError as error:
                faults[blob] = error

        await each(_blobs(index.rstrip("/"), record, known), one, self._bytes)
        return faults


async def _blobs(index: str, record: Record, known: Record | None) -> AsyncIterator[Blob]:
    """What the record names, each once. Raises `Unavailable` if it does not say where bytes are."""
    there = {(file.filename, file.hashes.get("sha256")) for file in known.files} if known is not None else set()
    named = [(file, False) for file in record.files] + [(removed.file, True) for removed in record.removed]
    for file, removed in named:
        blob = Blob(
            key=_key(index, file),
            filename=file.filename,
            sha256=file.hashes["sha256"],
            size=file.size,
            named=(file.filename, file.hashes["sha256"]) in there,
            removed=removed,
        )
        yield blob
        if file.core_metadata:
            stated = file.core_metadata if isinstance(file.core_metadata, Mapping) else {}
            yield replace(blob, key=f"{blob.key}.metadata", sha256=stated.get("sha256"), size=None)


def _key(index: str, file: File) -> str:
    sha256 = file.hashes.get("sha256", "")
    key = blob_key(index, sha256, file.filename)
    if not _SHA256.match(sha256) or "/" in file.filename or not keys.is_key(key):
        words = f"it does not say where the bytes of {file.filename!r} are: it has no true sha256"
        raise Unavailable(words, hint="bring the record back from a backup")
    return key


def _without(record: Record, known: Record | None, faults: Mapping[Blob, EntrepotError], ours: bytes) -> bytes | None:
    """The record as it can be written: it names no file whose bytes could not be copied, unless it did so before."""
    there = {file.filename for file in known.files} if known is not None else set()
    dropped = {blob.filename for blob in faults if not blob.removed} - there
    if not dropped:
        return ours
    files = tuple(file for file in record.files if file.filename not in dropped)
    if not files and not record.removed:
        return None
    return records.encode(replace(record, files=files))


def _is_record(key: str, index: str) -> bool:
    place = key.removeprefix(f"{index}projects/")
    return place != key and place.endswith(".json") and "/" not in place


def _is_blob(key: str, index: str) -> bool:
    """Whether it is a distribution or its metadata: those that no record names are left behind."""
    place = key.removeprefix(f"{index}blobs/")
    parts = place.split("/")
    try:
        filenames.parse(parts[-1].removesuffix(".metadata"))
    except Invalid:
        return False
    return place != key and len(parts) == 3


async def _but(entries: AsyncIterator[Entry], key: str) -> AsyncIterator[Entry]:
    async for entry in entries:
        if entry.key != key:
            yield entry


async def _branches(store: Store, prefix: str) -> list[str]:
    """What lies directly below the prefix: objects, and folders with a "/" behind. Costs a listing for each folder."""
    names: list[str] = []
    after: str | None = ""
    while after is not None:
        listing, after = store.list(prefix, after=after), None
        try:
            async for entry in listing:
                name, slash, _ = entry.key[len(prefix) :].partition("/")
                names.append(name + slash)
                if slash:
                    after = f"{prefix}{name}/{_LAST}"
                    break
        finally:
            if (close := getattr(listing, "aclose", None)) is not None:
                await close()
    return names
