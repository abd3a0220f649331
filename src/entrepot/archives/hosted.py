"""Archives in our own layout: `<index>/archives/<name>/`, a record for each, bytes under their sha256.

Bytes first, record last: a crash anywhere leaves bytes that nothing names (`gc` finds them), never a record that
names missing bytes. Of two who push one version, the one whose record is swapped in first wins.
"""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime

from entrepot.archives import record as records
from entrepot.archives.listing import folder_of, folders
from entrepot.archives.model import (
    Archive,
    Offer,
    Summary,
    Version,
    check_channel,
    check_localname,
    check_name,
    check_version,
    missing,
    unknown,
)
from entrepot.archives.record import Record
from entrepot.errors import Conflict, NotFound
from entrepot.index import ANY, Content, Span, Store
from entrepot.stores.documents import Documents

_REMEMBERED = 256  # records kept parsed
_AT_ONCE = 16  # records that are read at once for a list
RECORD = "archive.json"


def blob_key(index: str, name: str, sha256: str) -> str:
    return f"{index}/archives/{name}/blobs/{sha256[:2]}/{sha256}"


def record_key(index: str, name: str) -> str:
    return f"{index}/archives/{name}/{RECORD}"


class HostedArchives:
    """The archives of one index, over any store that has compare-and-swap."""

    def __init__(self, store: Store, index: str) -> None:
        self.store = store
        self.index = index
        self._prefix = f"{index}/archives/"
        self._records = Documents[Record](store, encode=records.encode, decode=records.decode, remember=_REMEMBERED)

    async def summaries(self) -> AsyncIterator[Summary]:
        waiting: list[str] = []
        async for entry in folders(self.store, self._prefix):
            # The record's key is the smallest of its folder; without one, a push was cut.
            if entry.key == f"{self._prefix}{folder_of(entry, self._prefix)}/{RECORD}":
                waiting.append(entry.key)
            if len(waiting) == _AT_ONCE:
                for record in await self._all(waiting):
                    yield record.summary()
                waiting.clear()
        for record in await self._all(waiting):
            yield record.summary()

    async def archive(self, name: str) -> Archive:
        return (await self._record(name)).archive()

    async def init(self, name: str, localname: str) -> bool:
        check_name(name)
        check_localname(localname)
        begun = Record(name=name, localname=localname)

        def made(record: Record | None) -> Record:
            if record is not None and record.localname != localname:
                raise Conflict(f"Already Initialized: {name}", hint=f"its local name is {record.localname}")
            return record or begun

        return await self._records.change(record_key(self.index, name), made) is begun

    async def push(self, name: str, version: str, offer: Offer, *, channel: str | None = None) -> bool:
        check_name(name)
        check_version(version)
        check_localname(offer.filename)
        if channel is not None:
            check_channel(channel)
        at = record_key(self.index, name)
        begun = Record(name=name, localname=offer.filename)
        before = await self._records.load(at) or begun
        before.pushing(version, offer, channel)  # refused before any byte is written; the swap below asks again
        there = before.version(version) is not None
        if not there:
            await self._write(name, offer)
        added = False

        def pushed(record: Record | None) -> Record:
            nonlocal added
            known = record or begun
            after = known.pushing(version, offer, channel)
            present = known.version(version)
            # A lost answer to our own swap is a success and still an addition: our name and time are in it.
            added = present is None or (not there and (present.uploaded, present.by) == (offer.now, offer.by))
            return after

        await self._records.change(at, pushed)
        if added:
            await self._write_again_if_collected(name, offer)
        return added

    async def promote(self, name: str, channel: str, version: str) -> None:
        check_channel(channel)
        await self._change(name, lambda record: record.promoting(channel, version))

    async def remove(self, name: str, version: str, *, by: str | None, now: datetime) -> None:
        before = await self._record(name)
        if version not in before.channels and before.version(version) is None:
            raise missing(name, version)
        await self._change(name, lambda record: record.removing(version, by=by, at=now))

    async def open(self, name: str, version: Version, span: Span | None = None) -> Content:
        return await self.store.read(blob_key(self.index, name, version.sha256 or ""), span)

    async def _record(self, name: str) -> Record:
        check_name(name)
        record = await self._records.load(record_key(self.index, name))
        if record is None:
            raise unknown(name)
        return record

    async def _change(self, name: str, change: records.Change) -> None:
        check_name(name)

        def changed(record: Record | None) -> Record:
            if record is None:
                raise unknown(name)
            return change(record)

        await self._records.change(record_key(self.index, name), changed)

    async def _all(self, keys: list[str]) -> list[Record]:
        loaded = await asyncio.gather(*map(self._records.load, keys))
        return [record for record in loaded if record is not None]

    async def _write(self, name: str, offer: Offer) -> None:
        """The bytes, also if they exist: that renews their time, so that `gc` waits again."""
        await self.store.write(blob_key(self.index, name, offer.sha256), offer.body(), expect=ANY)

    async def _write_again_if_collected(self, name: str, offer: Offer) -> None:
        """A `gc` that marked these bytes as orphans may have removed them just before the record named them."""
        try:
            await self.store.stat(blob_key(self.index, name, offer.sha256))
        except NotFound:
            await self._write(name, offer)
