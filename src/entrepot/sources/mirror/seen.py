"""When files of which upstream tells no time were first seen here: `<index>/seen/<project>.json`, by compare-and-swap.

What was there already when a project was first fetched is of unknown time; what appears later has the time of its
first sight, the same on all nodes.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime

import msgspec
from msgspec import Struct

from entrepot.errors import Unavailable
from entrepot.index import Store
from entrepot.model import ProjectName
from entrepot.stores.documents import Documents

_REMEMBERED = 256


class Times(Struct, frozen=True, kw_only=True):
    """The first sight of files by filename; None: they were there before us."""

    schema: int = 1
    files: Mapping[str, datetime | None] = {}


class Seen:
    """First sights of one mirror."""

    def __init__(self, index: str, store: Store, clock: Callable[[], datetime]) -> None:
        self._index = index
        self._clock = clock
        self._documents = Documents[Times](store, encode=_encode, decode=_decode, remember=_REMEMBERED)

    async def times(self, project: ProjectName, filenames: Iterable[str]) -> Mapping[str, datetime | None]:
        """When each of the files was first seen. Writes if one is new."""
        key = f"{self._index}/seen/{project}.json"
        names = frozenset(filenames)
        known = await self._documents.load(key)
        if known is not None and names <= known.files.keys():
            return known.files
        now = self._clock()
        return (await self._documents.change(key, lambda times: _with(times, names, now))).files


def _with(times: Times | None, names: frozenset[str], now: datetime) -> Times:
    known = times.files if times is not None else {}
    moment = now if times is not None else None
    missing = sorted(names - known.keys())
    return Times(files={**known, **dict.fromkeys(missing, moment)}) if missing or times is None else times


def _encode(times: Times) -> bytes:
    return msgspec.json.format(msgspec.json.encode(times), indent=1) + b"\n"


def _decode(data: bytes, key: str) -> Times:
    try:
        return msgspec.json.decode(data, type=Times)
    except msgspec.MsgspecError as error:
        raise Unavailable(f"cannot be read: {error}", at=key, hint="bring it back from a backup") from error
