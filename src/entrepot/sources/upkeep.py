"""Looking after a store: `check` verifies every record and blob, `gc` removes bytes that nothing names.

Both find what there is by listing the store, never from the configuration: an index that somebody took out of
the configuration keeps its bytes.
"""

import re
from collections.abc import AsyncIterator, Mapping
from datetime import datetime, timedelta

from msgspec import Struct

from entrepot.errors import EntrepotError, Invalid, NotFound, Unavailable
from entrepot.index import Entry, Store
from entrepot.model import File
from entrepot.sources import record as records
from entrepot.sources.hosted import blob_key, record_key
from entrepot.sources.names import Names
from entrepot.sources.record import Record
from entrepot.stores import collecting, keys
from entrepot.stores.collecting import Collected, Fault, fault_of, is_there, wrong
from entrepot.stores.documents import read_bytes
from entrepot.wire import filenames

KEPT_AFTER_REMOVAL = timedelta(days=7)
_MARKS = "gc/marks.json"


class _Survey(Struct):
    """What a store holds: the records that can be read, the blobs, the bytes that records name."""

    records: dict[str, tuple[str, Record]]  # key → (index, record)
    unreadable: list[Fault]
    blobs: dict[str, Entry]
    indexes: set[str]  # those that keep a list of their names

    def named(self, *, removed_after: datetime | None) -> set[str]:
        """The keys of all bytes that records name; those of files removed before then are left out."""
        named: set[str] = set()
        for index, record in self.records.values():
            gone = [r.file for r in record.removed if removed_after is None or r.at > removed_after]
            for file in (*record.files, *gone):
                named.update(_keys(index, file))
        return named


def _keys(index: str, file: File) -> tuple[str, ...]:
    key = blob_key(index, file.hashes.get("sha256", ""), file.filename)
    return (key, f"{key}.metadata") if file.core_metadata else (key,)


async def _survey(store: Store) -> _Survey:
    found = _Survey(records={}, unreadable=[], blobs={}, indexes=set())
    mirrors = set()  # their names are upstream's
    async for entry in store.list(""):
        index, _, rest = entry.key.partition("/")
        if rest.startswith("upstream/"):
            mirrors.add(index)
        elif rest.startswith("projects/") and rest.endswith(".json"):
            found.indexes.add(index)
            try:
                record = records.decode(await read_bytes(store, entry.key), entry.key)
            except NotFound:
                continue  # removed since it was listed
            except EntrepotError as error:
                found.unreadable.append(fault_of(error, entry.key))
                continue
            if nameless := [file for file in _all_files(record) if not _names_its_bytes(file)]:
                what = f"it does not say where the bytes of {nameless[0].filename!r} are: it has no true sha256"
                found.unreadable.append(Fault(key=entry.key, what=what))
            else:
                found.records[entry.key] = (index, record)
        elif rest.startswith("blobs/"):
            found.blobs[entry.key] = entry
        elif rest == "names.json":
            found.indexes.add(index)
    found.indexes -= mirrors
    return found


_SHA256 = re.compile(r"[0-9a-f]{64}\Z")


def _names_its_bytes(file: File) -> bool:
    """Whether the key of its bytes is one: a record that somebody edited may hold anything."""
    sha256 = file.hashes.get("sha256", "")
    return _SHA256.match(sha256) is not None and "/" not in file.filename and keys.is_key(f"{sha256}/{file.filename}")


def _all_files(record: Record) -> tuple[File, ...]:
    return (*record.files, *(removed.file for removed in record.removed))


async def check(store: Store) -> AsyncIterator[Fault]:
    """Everything that is wrong, as it is found. Reads every byte that the store holds, with bounded memory."""
    survey = await _survey(store)
    for fault in survey.unreadable:
        yield fault
    try:
        await collecting.marks_of(store).load(_MARKS)
    except EntrepotError as error:
        yield fault_of(error, _MARKS)
    async for fault in _check_records(store, survey):
        yield fault
    for key in sorted(survey.blobs.keys() - survey.named(removed_after=None)):
        if (orphan := await _orphan(store, key)) is not None:
            yield orphan


async def _check_records(store: Store, survey: _Survey) -> AsyncIterator[Fault]:
    listed: dict[str, frozenset[str]] = {}
    for index in sorted(survey.indexes):
        try:
            listed[index] = frozenset(await Names(store, index).all())
        except EntrepotError as error:
            yield fault_of(error, f"{index}/names.json")
    for key, (index, record) in survey.records.items():
        name = key.removeprefix(f"{index}/projects/").removesuffix(".json")
        if record.name != name:
            yield Fault(key=key, what=f"the record calls its project {record.name!r}")
        if index in listed and name not in listed[index]:
            yield Fault(key=key, what=f"{name} is not in {index}/names.json, so the index does not list it")
        for filename in _doubles(record):
            yield Fault(key=key, what=f"{filename} is listed twice")
        for file in record.files:
            async for fault in _check_file(store, index, file, survey.blobs):
                yield fault
        for removed in record.removed:
            # Bytes of removed files may be gone; those that are there must be right.
            if _keys(index, removed.file)[0] in survey.blobs:
                async for fault in _check_file(store, index, removed.file, survey.blobs):
                    if await is_there(store, fault.key):
                        yield fault


def _doubles(record: Record) -> list[str]:
    names = [file.filename for file in _all_files(record)]
    return sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []


async def _check_file(store: Store, index: str, file: File, blobs: Mapping[str, Entry]) -> AsyncIterator[Fault]:
    blob = _keys(index, file)[0]
    expected = {blob: file.hashes.get("sha256", "")}
    if isinstance(file.core_metadata, Mapping):
        expected[f"{blob}.metadata"] = file.core_metadata.get("sha256", "")
    for key, sha256 in expected.items():
        entry = blobs.get(key)
        if entry is None and not await is_there(store, key):  # it may be newer than the listing
            yield Fault(key=key, what="is missing, but its record lists it")
        elif entry is not None and key == blob and entry.size != file.size:
            yield Fault(key=key, what=f"has {entry.size} bytes, its record says {file.size}")
        elif (problem := await wrong(store, key, sha256)) is not None:
            yield Fault(key=key, what=problem)


async def _orphan(store: Store, key: str) -> Fault | None:
    """Bytes that no record names: a crash may leave them, wrong ones it may not. None if they are gone by now."""
    named = key.split("/")[3] if key.count("/") >= 4 else ""
    if not key.endswith(".metadata") and (problem := await wrong(store, key, named)) is not None:
        return Fault(key=key, what=f"no record names it, and {problem}") if await is_there(store, key) else None
    return Fault(key=key, what="no record names it; `entrepot gc` removes it in time", grave=False)


async def collect(store: Store, *, now: datetime, dry_run: bool = False) -> Collected:
    """Delete what an earlier run, a day ago or more, marked and what is unchanged; mark the rest of the orphans.

    Safe beside uploads: every upload renews its bytes, also those that are there, so that the etag in the mark
    does not hold any more and the delete is refused.
    """
    survey = await _survey(store)
    if survey.unreadable:
        fault = survey.unreadable[0]
        raise Unavailable(
            f"{fault.what}; what it names is not known, so nothing is collected", at=fault.key, hint=_SEE_CHECK
        )
    await _refuse_missing(store, survey)
    named = survey.named(removed_after=now - KEPT_AFTER_REMOVAL)
    orphans = {key: entry for key, entry in survey.blobs.items() if key not in named}
    return await collecting.collect(
        store, _MARKS, orphans, named=lambda key: _is_named(store, key), now=now, dry_run=dry_run
    )


async def _refuse_missing(store: Store, survey: _Survey) -> None:
    """Where a record names bytes that are not there, it may be the name that is wrong, and the bytes an orphan."""
    for key, (index, record) in survey.records.items():
        for file in record.files:
            for blob in _keys(index, file):
                if blob not in survey.blobs and not await is_there(store, blob):
                    raise Unavailable(f"names {blob}, which is missing; nothing is collected", at=key, hint=_SEE_CHECK)


_SEE_CHECK = "`entrepot check` tells all that is wrong"


async def _is_named(store: Store, key: str) -> bool:
    """Whether its project's record names the bytes now."""
    index, _, _, _, filename = key.split("/", 4)
    try:
        project = filenames.parse(filename.removesuffix(".metadata")).project
        record = records.decode(await read_bytes(store, record_key(index, project)), key)
    except (Invalid, NotFound):  # what has no distribution's name stands in no record
        return False
    return any(key in _keys(index, file) for file in record.files)
