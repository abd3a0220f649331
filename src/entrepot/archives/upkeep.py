"""Looking after the archives of a store: `check` verifies every record and byte, `gc` removes what nothing names."""

from collections.abc import AsyncIterator
from datetime import datetime

from msgspec import Struct

from entrepot.archives import record as records
from entrepot.archives.hosted import RECORD, blob_key
from entrepot.archives.listing import folder_of, folders
from entrepot.archives.record import Record
from entrepot.errors import EntrepotError, NotFound, Unavailable
from entrepot.index import Entry, Store
from entrepot.stores import collecting
from entrepot.stores.collecting import Collected, Fault, fault_of, is_there, wrong
from entrepot.stores.documents import read_bytes

_MARKS = "gc/archives.json"


class _Survey(Struct):
    """The archives of all indexes: their records, their bytes, and the keys of bytes that a record names."""

    records: dict[str, tuple[str, Record]]  # key → (index, record)
    unreadable: list[Fault]
    blobs: dict[str, Entry]

    def named(self) -> dict[str, str]:
        """The sha256 by key."""
        return {
            blob_key(index, record.name, one.sha256): one.sha256
            for index, record in self.records.values()
            for one in record.versions
        }


async def _survey(store: Store) -> _Survey:
    found = _Survey(records={}, unreadable=[], blobs={})
    async for top in folders(store, ""):
        index = folder_of(top, "")
        prefix = f"{index}/archives/"
        async for entry in store.list(prefix):
            name, _, rest = entry.key.removeprefix(prefix).partition("/")
            if rest.startswith("blobs/"):
                found.blobs[entry.key] = entry
            elif rest == RECORD:
                await _read(store, found, entry.key, index, name)
    return found


async def _read(store: Store, found: _Survey, key: str, index: str, name: str) -> None:
    try:
        record = records.decode(await read_bytes(store, key), key)
    except NotFound:
        return  # removed since it was listed
    except EntrepotError as error:
        found.unreadable.append(fault_of(error, key))
        return
    if record.name != name:
        found.unreadable.append(Fault(key=key, what=f"the record calls its archive {record.name!r}"))
        return
    found.records[key] = (index, record)


async def check(store: Store) -> AsyncIterator[Fault]:
    """Everything that is wrong, as it is found. Reads every byte of every archive, with bounded memory."""
    survey = await _survey(store)
    for fault in survey.unreadable:
        yield fault
    try:
        await collecting.marks_of(store).load(_MARKS)
    except EntrepotError as error:
        yield fault_of(error, _MARKS)
    for key, (index, record) in survey.records.items():
        known = {one.version for one in record.versions}
        for channel, version in record.channels.items():
            if version not in known:
                yield Fault(key=key, what=f"channel {channel} points to version {version}, which is not there")
        for one in record.versions:
            blob = blob_key(index, record.name, one.sha256)
            entry = survey.blobs.get(blob)
            if entry is None and not await is_there(store, blob):  # it may be newer than the listing
                yield Fault(key=blob, what=f"is missing, but version {one.version} of {record.name} is made of it")
            elif entry is not None and entry.size != one.size:
                yield Fault(key=blob, what=f"has {entry.size} bytes, its record says {one.size}")
            elif (problem := await wrong(store, blob, one.sha256)) is not None:
                yield Fault(key=blob, what=problem)
    for key in sorted(survey.blobs.keys() - survey.named().keys()):
        yield Fault(key=key, what="no record names it; `entrepot gc` removes it in time", grave=False)


async def collect(store: Store, *, now: datetime, dry_run: bool = False) -> Collected:
    """As `gc` of packages: mark in one run, delete in another at least a day later. Safe beside pushes.

    Raises `Unavailable` if a record cannot be read: what it names is not known then.
    """
    survey = await _survey(store)
    if survey.unreadable:
        fault = survey.unreadable[0]
        hint = "`entrepot check` tells all that is wrong"
        raise Unavailable(f"{fault.what}; what it names is not known, so nothing is collected", at=fault.key, hint=hint)
    named = survey.named()
    orphans = {key: entry for key, entry in survey.blobs.items() if key not in named}
    return await collecting.collect(store, _MARKS, orphans, now=now, dry_run=dry_run)
