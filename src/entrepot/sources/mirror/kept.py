"""The files of a mirror that are kept here.

They lie in the same records and blobs as those of a hosted index, so that the same tools check and count them. Here
they are a cache: `evict` takes out what was asked for longest ago.
"""

import asyncio
import hashlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from entrepot.errors import Conflict, Invalid, NotFound
from entrepot.index import ANY, Content, Revision, Span, Staged, Store, absent
from entrepot.model import File, Project, ProjectName
from entrepot.sources import record as records
from entrepot.sources.hosted import blob_key, record_key
from entrepot.sources.mirror.downloads import Wanted
from entrepot.sources.record import Record
from entrepot.stores.documents import Documents
from entrepot.threads import finished
from entrepot.wire import filenames, metadata

log = logging.getLogger(__name__)

_REMEMBERED = 512  # records
NO_METADATA = "it has no METADATA of its name"
UNUSABLE = f"its metadata cannot be used: {NO_METADATA}"
_FREE = 0.9  # of the size allowed is what eviction leaves


class Used(Struct, frozen=True, kw_only=True):
    """When a kept file was last asked for, by "project/filename", in seconds since 1970; and what must stay."""

    schema: int = 1
    used: Mapping[str, float] = {}
    pinned: tuple[str, ...] = ()


# Of a project the wheel of that name cannot be used, and why.
Refused = Callable[[ProjectName, str, str], Awaitable[None]]


class Kept:
    """`changed(project)` is told when a page has more to say of a file than before."""

    def __init__(self, index: str, store: Store, *, changed: Callable[[ProjectName], None], refused: Refused) -> None:
        self.name = index
        self._store = store
        self._changed = changed
        self._refused = refused
        self._records = Documents[Record](store, encode=records.encode, decode=records.decode, remember=_REMEMBERED)
        self._used = Documents[Used](store, encode=_encode, decode=_decode)
        self._touched: dict[str, float] = {}
        self.grown = 0  # bytes that were kept; it never shrinks
        self.growth = asyncio.Event()  # set when it grows

    # As an index: what `/local/` and `--offline` show.

    async def projects(self) -> AsyncIterator[ProjectName]:
        for name in await documented(self._store, f"{self.name}/projects/"):
            yield name

    async def project(self, name: ProjectName) -> Project:
        record = await self._record(name)
        if record is None or not record.files:
            raise NotFound(f"nothing of {name} is kept here")
        return record.page(self.name).withhold(lambda file: UNUSABLE if is_bare(file) else None)

    async def revision(self, name: ProjectName | None) -> Revision:
        if name is None:
            return await documented_revision(self._store, f"{self.name}/projects/")
        etag = await self._records.etag(record_key(self.name, name))
        return Revision(etag) if etag is not None else absent()

    async def files(self, name: ProjectName) -> dict[str, File]:
        record = await self._record(name)
        return {file.filename: file for file in record.files} if record is not None else {}

    async def open(self, project: ProjectName, wanted: File, span: Span | None = None) -> Content | None:
        """The bytes of a kept file; None if it is not kept, is another one by now, or was taken away by somebody."""
        file = await self._same(project, wanted)
        if file is None:
            return None
        self._touched[f"{project}/{file.filename}"] = _now()
        try:
            return await self._store.read(_blob_key(self.name, file), span)
        except NotFound:
            log.warning("%s: the bytes of %s are gone and are fetched anew", self.name, file.filename)
            return None

    async def open_metadata(self, project: ProjectName, wanted: File) -> Content | None:
        file = await self._same(project, wanted)
        if file is None or not isinstance(file.core_metadata, Mapping):
            return None
        try:
            return await self._store.read(f"{_blob_key(self.name, file)}.metadata")
        except NotFound:
            return None

    # Keeping.

    async def size(self, wanted: Wanted) -> int | None:
        """Of the kept file; None if it is not kept."""
        file = await self._same(wanted.project, wanted.file)
        return file.size if file is not None else None

    async def keep(self, wanted: Wanted, staged: Staged) -> None:
        """Bytes first, record last, as everywhere."""
        found = await finished(_metadata, staged, wanted.file)
        if isinstance(found, Invalid):
            await self._refused(wanted.project, wanted.file.filename, f"{found.at}: {found.message}")
            found = None
        file = replace(
            wanted.file,
            size=staged.size,
            hashes={**wanted.file.hashes, "sha256": staged.sha256},
            core_metadata={"sha256": hashlib.sha256(found).hexdigest()} if found is not None else False,
            origin="",
        )
        key = _blob_key(self.name, file)
        bodies: dict[str, bytes | Staged] = {key: staged}
        if found is not None:
            bodies[f"{key}.metadata"] = found
        await self._store.write_all(bodies)
        await self._records.change(
            record_key(self.name, wanted.project), lambda record: _with(record, wanted.project, file)
        )
        self.grown += staged.size
        self.growth.set()
        self._touched[f"{wanted.project}/{file.filename}"] = _now()
        if wanted.file.size is None or "sha256" not in wanted.file.hashes or not wanted.file.core_metadata:
            self._changed(wanted.project)

    async def pin(self, project: ProjectName, names: frozenset[str]) -> None:
        """These files stay, however long ago they were asked for."""
        pins = {f"{project}/{name}" for name in names}

        def pinned(used: Used | None) -> Used:
            before = used or Used()
            if pins <= set(before.pinned):
                return before
            return replace(before, pinned=tuple(sorted(pins | set(before.pinned))))

        await self._used.change(self._used_key, pinned)

    # Taking out.

    async def note_used(self) -> None:
        """Write down what was asked for since the last time."""
        touched, self._touched = self._touched, {}
        if not touched:
            return

        def noted(used: Used | None) -> Used:
            before = used or Used()
            return replace(before, used={**before.used, **touched})

        await self._used.change(self._used_key, noted)

    async def evict(self, most: int) -> int:
        """Take out what was asked for longest ago until nine tenths of `most` bytes are left; how many files went."""
        await self.note_used()
        used = await self._used.load(self._used_key) or Used()
        pinned = frozenset(used.pinned)
        held: list[tuple[float, ProjectName, File]] = []
        async for name in self.projects():
            files = (await self.files(name)).values()
            held += [(used.used.get(f"{name}/{file.filename}", 0), name, file) for file in files]
        total = sum(file.size or 0 for _, _, file in held)
        gone: list[str] = []
        for _, name, file in sorted(held, key=lambda each: each[0]) if total > most else []:
            if total <= most * _FREE:
                break
            if f"{name}/{file.filename}" not in pinned:
                await self._take_out(name, file)
                total -= file.size or 0
                gone.append(f"{name}/{file.filename}")
        if gone:
            await self._used.change(self._used_key, lambda now: _without(now or Used(), frozenset(gone)))
        return len(gone)

    async def _take_out(self, project: ProjectName, file: File) -> None:
        """Record first: nothing ever names bytes that are gone. One of no file goes: its name is not listed."""
        record = record_key(self.name, project)
        left = await self._records.change(record, lambda record: _less(record, project, file))
        if not left.files and (etag := await self._records.etag(record)) is not None:
            with suppress(Conflict):  # a file came meanwhile
                await self._store.delete(record, expect=etag)
        key = _blob_key(self.name, file)
        await self._store.delete(key, expect=ANY)
        await self._store.delete(f"{key}.metadata", expect=ANY)

    @property
    def _used_key(self) -> str:
        return f"{self.name}/used.json"

    async def _record(self, name: ProjectName) -> Record | None:
        return await self._records.load(record_key(self.name, name))

    async def _same(self, project: ProjectName, wanted: File) -> File | None:
        """The kept file of this name, if its bytes may be those that are meant."""
        kept = (await self.files(project)).get(wanted.filename)
        return kept if kept is not None and agree(kept, wanted) else None


async def documented(store: Store, prefix: str) -> list[ProjectName]:
    """The projects of which there is a document below the prefix, in order: that of keys is "a-b.json", "a.json"."""
    return sorted([ProjectName(entry.key[len(prefix) :].removesuffix(".json")) async for entry in store.list(prefix)])


async def documented_revision(store: Store, prefix: str) -> Revision:
    """Changes with that list, whichever worker changes it."""
    beat = getattr(store, "pulse", None)
    if beat is not None:
        return Revision(f"at-{beat()}")
    names = "\n".join(await documented(store, prefix))
    return Revision(hashlib.blake2b(names.encode(), digest_size=16).hexdigest())


def is_bare(file: File) -> bool:
    """Whether it is kept and is a wheel that has no metadata which pip and uv could use."""
    return file.is_wheel and not file.core_metadata


def _now() -> float:
    return round(time.time(), 3)


def agree(kept: File, wanted: File) -> bool:
    """Whether no hash says that these are other bytes: upstream may have new ones under an old name."""
    common = kept.hashes.keys() & wanted.hashes.keys()
    return all(kept.hashes[name] == wanted.hashes[name] for name in common)


def _blob_key(index: str, file: File) -> str:
    return blob_key(index, file.hashes["sha256"], file.filename)


def _with(record: Record | None, project: ProjectName, file: File) -> Record:
    """With the file, in place of other bytes that upstream had under its name before."""
    before = record or Record(name=project)
    if before.file(file.filename) == file:
        return before
    others = tuple(known for known in before.files if known.filename != file.filename)
    return replace(before, files=filenames.inserted(others, file))


def _less(record: Record | None, project: ProjectName, file: File) -> Record:
    before = record or Record(name=project)
    if before.file(file.filename) != file:
        return before
    return replace(before, files=tuple(known for known in before.files if known != file))


def _without(used: Used, gone: frozenset[str]) -> Used:
    return replace(used, used={key: moment for key, moment in used.used.items() if key not in gone})


def _metadata(staged: Staged, file: File) -> bytes | Invalid | None:
    """The METADATA of a wheel, or why it has none; the PKG-INFO of an sdist that binds its wheels, or None."""
    if file.is_egg:
        return None
    from entrepot import distributions  # noqa: PLC0415 - for those who keep files, not for every command

    try:
        data = distributions.read_metadata(staged.path, file.filename)
    except Invalid as error:
        return error if file.is_wheel else None
    return data if file.is_wheel or metadata.is_static(data) else None


def _encode(used: Used) -> bytes:
    return msgspec.json.format(msgspec.json.encode(used), indent=1) + b"\n"


def _decode(data: bytes, key: str) -> Used:
    try:
        return msgspec.json.decode(data, type=Used)
    except msgspec.MsgspecError as error:
        log.warning("%s cannot be read and begins anew: %s", key, error)
        return Used()
