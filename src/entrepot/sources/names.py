"""The names that an index ever served and did not release: `<index>/names.json`, changed by compare-and-swap.

A name is entered before its record is written, so that no project is ever missing from the list; one
whose upload was cut in between is listed without a page, which clients take as "no files".
"""

import asyncio
import bisect

import msgspec
from msgspec import Struct

from entrepot.errors import Unavailable
from entrepot.index import Etag, Store
from entrepot.model import ProjectName
from entrepot.sources.record import refuse_later, schema_of
from entrepot.stores.documents import Documents


class _Names(Struct, frozen=True, kw_only=True):
    schema: int = 1
    names: tuple[ProjectName, ...] = ()  # in order


class Names:
    """The names of one index. Entering one costs O(names) bytes written; names that come together share a write."""

    def __init__(self, store: Store, index: str) -> None:
        self._key = f"{index}/names.json"
        self._documents = Documents[_Names](store, encode=_encode, decode=_decode)
        self._wanted: set[ProjectName] = set()
        self._writing = asyncio.Lock()

    async def all(self) -> tuple[ProjectName, ...]:
        """In order."""
        held = await self._documents.load(self._key)
        return held.names if held else ()

    async def etag(self) -> Etag | None:
        """Changes when a name is entered or taken out. Costs one stat."""
        return await self._documents.etag(self._key)

    async def knows(self, name: ProjectName) -> bool:
        """Costs one stat."""
        return self._has(await self.all(), name)

    async def enter(self, *names: ProjectName) -> None:
        """Durable when it returns; cheap if the names are known."""
        held = await self._documents.latest(self._key)
        known = held.names if held else ()
        missing = {name for name in names if not self._has(known, name)}
        if not missing:
            return
        self._wanted |= missing
        async with self._writing:
            if missing & self._wanted:  # else the one before took them along
                wanted = frozenset(self._wanted)
                await self._documents.change(self._key, lambda held: _with(held or _Names(), wanted))
                self._wanted -= wanted

    async def release(self, name: ProjectName) -> None:
        """Take the name out; nothing happens if it is not there. Durable when it returns."""
        await self._documents.change(self._key, lambda held: _without(held or _Names(), name))

    @staticmethod
    def _has(names: tuple[ProjectName, ...], name: ProjectName) -> bool:
        place = bisect.bisect_left(names, name)
        return place < len(names) and names[place] == name


def _with(held: _Names, wanted: frozenset[ProjectName]) -> _Names:
    missing = wanted.difference(held.names)
    return _Names(names=tuple(sorted((*held.names, *missing)))) if missing else held


def _without(held: _Names, name: ProjectName) -> _Names:
    return _Names(names=tuple(known for known in held.names if known != name)) if name in held.names else held


def _encode(held: _Names) -> bytes:
    lines = msgspec.json.encode(held.names).replace(b'","', b'",\n"')
    return b'{"schema":%d,"names":%s}\n' % (held.schema, lines)


def _decode(data: bytes, key: str) -> _Names:
    try:
        held = msgspec.json.decode(data, type=_Names)
    except msgspec.MsgspecError as error:
        refuse_later(schema_of(data), key)
        raise Unavailable(f"cannot be read: {error}", at=key, hint="bring it back from a backup") from error
    refuse_later(held.schema, key)
    return held
