"""`type = "hosted"`: files that were uploaded here. A record for each project, a blob for each file.

Bytes first, record last: a crash anywhere leaves bytes that nothing names (`gc` finds them), never a
record that names missing bytes.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import datetime
from typing import Protocol

from msgspec.structs import replace

from entrepot.errors import Invalid, NotFound, Unavailable
from entrepot.index import (
    ANY,
    Addition,
    Body,
    Content,
    Elsewhere,
    OnDisk,
    Revision,
    Span,
    Staged,
    Store,
    Stream,
    absent,
)
from entrepot.model import File, Project, ProjectName, Removed, Status
from entrepot.sources import record as records
from entrepot.sources.names import Names
from entrepot.sources.record import Record
from entrepot.stores.collecting import brought_back
from entrepot.stores.documents import Documents, recheck

_SIGNED_FOR = 60.0  # seconds
_REMEMBERED = 32  # records kept parsed for the next upload to the same project


def record_key(index: str, project: ProjectName) -> str:
    return f"{index}/projects/{project}.json"


def blob_key(index: str, sha256: str, filename: str) -> str:
    return f"{index}/blobs/{sha256[:2]}/{sha256}/{filename}"


class Nearby(Protocol):
    """A cache of blobs on this node."""

    async def open(self, key: str, sha256: str, span: Span | None = None) -> Content: ...


class Hosted:
    """A source and a sink over any store that has compare-and-swap."""

    def __init__(self, name: str, store: Store, *, redirects: bool = False, nearby: Nearby | None = None) -> None:
        self.name = name
        self._nearby = nearby
        self._sign = getattr(store, "sign", None) if redirects else None
        self.staging = store.traits.staging
        self.streams = store.traits.tagged_reads  # no file of it can be sent by path
        self._store = store
        self._names = Names(store, name)
        self._records = Documents[Record](store, encode=records.encode, decode=records.decode, remember=_REMEMBERED)

    async def projects(self) -> AsyncIterator[ProjectName]:
        for name in await self._names.all():
            yield name

    async def project(self, name: ProjectName) -> Project:
        return (await self._record(name)).page(self.name)

    async def revision(self, name: ProjectName | None) -> Revision:
        if name is None:
            etag = await self._names.etag()
            return Revision(etag) if etag is not None else absent()
        try:
            return Revision((await self._store.stat(record_key(self.name, name))).etag)
        except NotFound:
            return absent()

    async def open(self, project: ProjectName, file: File, span: Span | None = None) -> Content:  # noqa: ARG002
        if self._sign is not None:
            return Elsewhere(url=await self._sign(self._blob(file), seconds=_SIGNED_FOR))
        if self._nearby is not None:
            return await self._nearby.open(self._blob(file), file.hashes["sha256"], span)
        return await self._store.read(self._blob(file), span)

    async def open_metadata(self, project: ProjectName, file: File) -> Content:
        if not file.core_metadata:
            raise NotFound(f"{file.filename} of {project} has no metadata file")
        return await self._store.read(f"{self._blob(file)}.metadata")

    async def add(self, addition: Addition) -> bool:
        name, file = addition.project, addition.file
        before = await self._records.latest(record_key(self.name, name))
        # Refused before any byte is written; the swap below asks again.
        if before is not None and before.adding(file) is before:
            return False
        added = False

        def adding(record: Record | None) -> Record:
            nonlocal added
            known = record or Record(name=name)
            after = known.adding(file)
            # A lost answer to our own swap is a success and still an addition: our name and time are in it.
            added = after is not known or known.file(file.filename) == file
            return after

        await asyncio.gather(self._write_bytes(addition), self._names.enter(name))
        await self._records.change(record_key(self.name, name), adding)
        await self._write_again_if_collected(addition)
        return added

    async def amend(self, project: ProjectName, change: Callable[[File], File]) -> tuple[File, ...]:
        changed: dict[str, File] = {}

        def amended(record: Record | None) -> Record:
            before = _present(record, project)
            after = tuple(change(file) for file in before.files)
            differing = {new.filename: new for old, new in zip(before.files, after, strict=True) if new != old}
            # Kept from a first round: after a lost answer the second finds nothing to do.
            changed.update(differing)
            return replace(before, files=after) if differing else before

        record = await self._records.change(record_key(self.name, project), amended)
        return tuple(file for file in changed.values() if file in record.files)

    async def mark(self, project: ProjectName, status: Status) -> None:
        def marked(record: Record | None) -> Record:
            before = _present(record, project)
            return before if before.status == status else replace(before, status=status)

        await self._records.change(record_key(self.name, project), marked)

    async def remove(self, project: ProjectName, filenames: frozenset[str], *, by: str, now: datetime) -> None:
        await self._records.change(
            record_key(self.name, project),
            lambda record: _present(record, project).removing(filenames, by=by, at=now),
        )

    async def restore(self, project: ProjectName, filenames: frozenset[str]) -> None:
        record = await self._record(project)
        for file in record.restoring(filenames).files:
            if file.filename in filenames:
                await self._renew(file)
        restored = await self._records.change(
            record_key(self.name, project), lambda record: _present(record, project).restoring(filenames)
        )
        for file in restored.files:
            if file.filename in filenames:
                await self._bring_back_if_collected(file)

    async def files(self, project: ProjectName) -> tuple[File, ...]:
        return (await self._record(project)).files

    async def removed(self, project: ProjectName) -> tuple[Removed, ...]:
        record = await self._records.load(record_key(self.name, project))
        return record.removed if record is not None else ()

    async def _record(self, name: ProjectName) -> Record:
        return _present(await self._records.load(record_key(self.name, name)), name)

    def _blob(self, file: File) -> str:
        return blob_key(self.name, file.hashes["sha256"], file.filename)

    async def _bring_back_if_collected(self, file: File) -> None:
        """Where no delete looks while it deletes, a `gc` may have taken the bytes after their renewal."""
        if not self._store.traits.etags_of_content:
            return
        with_metadata = [".metadata"] if isinstance(file.core_metadata, Mapping) else []
        for key in (f"{self._blob(file)}{suffix}" for suffix in ("", *with_metadata)):
            if not await _is_there(self._store, key):
                await brought_back(self._store, key)

    async def _renew(self, file: File) -> None:
        """Write the bytes over themselves: a new etag, so that a `gc` that is about to delete them is refused."""
        try:
            await self._rewrite(self._blob(file), file.hashes["sha256"])
            if isinstance(file.core_metadata, Mapping):
                await self._rewrite(f"{self._blob(file)}.metadata", file.core_metadata["sha256"])
        except NotFound:
            raise NotFound(f"the bytes of {file.filename} are gone: it was deleted too long ago") from None

    async def _rewrite(self, key: str, sha256: str) -> None:
        content = await self._store.read(key)
        match content:
            case OnDisk(path=path, size=size):
                body: Body = Staged(path=path, size=size, sha256=sha256)
            case Stream(body=stream):
                body = stream
            case Elsewhere():
                raise Unavailable("the store answers with a redirect", at=key)
        try:
            await self._store.write(key, body, expect=ANY)
        except Invalid:
            await self._store.stat(key)  # collected since it was found: that is what is to be said
            raise

    async def _write_bytes(self, addition: Addition) -> None:
        """The blob and its companion, also if they exist: that renews their time, so that `gc` waits again."""
        key = self._blob(addition.file)
        bodies: dict[str, bytes | Staged] = {key: addition.staged}
        if addition.metadata is not None:
            bodies[f"{key}.metadata"] = addition.metadata
        await self._store.write_all(bodies)

    async def _write_again_if_collected(self, addition: Addition) -> None:
        """A `gc` that marked these bytes as orphans may have removed them just before the record named them."""
        key = self._blob(addition.file)
        for each in (key, f"{key}.metadata") if addition.metadata is not None else (key,):
            if not await _is_there(self._store, each):
                await self._write_bytes(addition)
                return


async def _is_there(store: Store, key: str) -> bool:
    recheck(store, key)
    try:
        await store.stat(key)
    except NotFound:
        return False
    return True


def _present(record: Record | None, name: ProjectName) -> Record:
    if record is None:
        raise NotFound(f"no project {name}")
    return record
