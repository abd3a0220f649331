"""What becomes of a document that both stores have: the source's, if nothing of the destination's is lost by that.

Pure functions `(there, ours) → bytes`, to be used as a change of `Documents[bytes]`: they return `there` itself where
there is nothing to do, and raise `Conflict` where something would be lost. The source's bytes are taken as they are,
with what a later version may have put into them.
"""

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import msgspec
from msgspec.structs import replace

from entrepot.access import tokens as access
from entrepot.errors import Conflict, Unavailable
from entrepot.model import File
from entrepot.sources import record as records
from entrepot.sources.record import Record
from entrepot.wire import filenames

_TOLD = 3  # differences that a message names


def record(there: bytes | None, ours: bytes, *, key: str) -> bytes:
    """A project's record. Files, tombstones, yanks and a status of the destination that the source has not: `Conflict`.

    A file that the source deleted meanwhile is deleted in the destination too.
    """
    if there is None or there == ours:
        return ours if there is None else there
    lost = list(_lost(records.decode(there, key), records.decode(ours, key)))
    if lost:
        raise _conflict(lost, key, "compare the two by `entrepot show`; nothing of this project was copied")
    return ours


def cached(there: bytes | None, ours: bytes, *, key: str) -> bytes:
    """The record of a mirror: what either keeps. Of two files with one name the destination's stays."""
    if there is None:
        return ours
    known, coming = records.decode(there, key), records.decode(ours, key)
    names = {file.filename for file in known.files}
    fresh = tuple(file for file in coming.files if file.filename not in names)
    if not fresh:
        return there
    return records.encode(replace(known, files=filenames.ordered((*known.files, *fresh))))


def _lost(known: Record, coming: Record) -> Iterator[str]:
    """What the destination has and the source has not."""
    files = {file.filename: file for file in coming.files}
    gone = {removed.file.filename: removed.file for removed in coming.removed}
    for file in known.files:
        name = file.filename
        same = files.get(name) or gone.get(name)
        if same is None:
            yield f"{name} is not in the source"
        elif not _are_equal(file, same):
            yield f"{name} has other bytes in the source"
        elif file.yanked is not None and name in files and same.yanked is None:
            yield f"{name} is yanked, and not in the source"
    for removed in known.removed:
        name = removed.file.filename
        if name not in gone or not _are_equal(removed.file, gone[name]):
            yield f"{name} was deleted, and not in the source"
    status = known.status.status
    if status not in {"active", coming.status.status}:
        yield f"the project is {status}, and not in the source"


def _are_equal(one: File, other: File) -> bool:
    return one.hashes.get("sha256") == other.hashes.get("sha256")


def tokens(there: bytes | None, ours: bytes, *, key: str) -> bytes:
    """All tokens of the source. One of the destination alone was made there, or revoked in the source: `Conflict`."""
    coming = access.decode(ours, key).by_id()
    if there is None or there == ours:
        return ours if there is None else there
    strange = [
        f"token {token.name} ({token.id}) is not in the source"
        for token in access.decode(there, key).tokens
        if token.id not in coming or coming[token.id].sha256 != token.sha256
    ]
    if strange:
        raise _conflict(strange, key, "if it was revoked, `entrepot token revoke` it there too; no token was copied")
    return ours


def seen(there: bytes | None, ours: bytes, *, key: str) -> bytes:
    """First sights: those of either. Two different ones of a file: `Conflict`."""
    coming = _loaded(ours, key)
    if there is None:
        return ours
    known, new = _loaded(there, key).get("files", {}), coming.get("files", {})
    differing = [
        f"{name} was first seen at another time" for name in known if new.get(name, known[name]) != known[name]
    ]
    if differing:
        raise _conflict(differing, key, "the destination's times stay")
    if new.keys() <= known.keys():
        return there
    return _dumped({**coming, "files": {**new, **known}})


def used(there: bytes | None, ours: bytes, *, key: str) -> bytes:
    """When files were last asked for, and which must stay: the later times, and what either says of the rest."""
    coming = _loaded(ours, key)
    if there is None:
        return ours
    known = _loaded(there, key)
    times = dict(known.get("used", {}))
    for name, moment in coming.get("used", {}).items():
        times[name] = max(moment, times.get(name, 0.0))
    pinned = sorted({*known.get("pinned", ()), *coming.get("pinned", ())})
    if times == known.get("used", {}) and pinned == sorted(known.get("pinned", ())):
        return there
    return _dumped({**coming, "used": times, "pinned": pinned})


def archive(there: bytes | None, ours: bytes, *, key: str) -> bytes:
    """An archive's record. Versions or tombstones of the destination alone: `Conflict`. Channels are the source's."""
    if there is None or there == ours:
        return ours if there is None else there
    known, coming = _loaded(there, key), _loaded(ours, key)
    gone = {_version(one) for one in coming.get("removed", ())}
    has = {_version(one) for one in coming.get("versions", ())} | gone
    lost = [
        f"version {one[0]} is not in the source" for one in map(_version, known.get("versions", ())) if one not in has
    ]
    removed = map(_version, known.get("removed", ()))
    lost += [f"version {one[0]} was removed, and not in the source" for one in removed if one not in gone]
    if lost:
        raise _conflict(lost, key, "nothing of its record was copied")
    return ours


def _version(one: dict[str, Any]) -> tuple[str, str]:
    return one.get("version", ""), one.get("sha256", "")


def tycho(there: bytes | None, ours: bytes, *, key: str) -> bytes:
    """The record of an archive in the older layout: as `grown`, but what its channels point to is the source's."""
    if there is None or there == ours:
        return ours if there is None else there
    known, coming = _loaded(there, key), _loaded(ours, key)
    if not _contains(_pointless(coming), _pointless(known)):
        raise _conflict(["it has what the source has not"], key, "the destination's stays")
    return ours


def _pointless(document: dict[str, Any]) -> dict[str, Any]:
    """Without the channels."""
    rest = {name: value for name, value in document.items() if name != "latest"}
    if isinstance(inner := rest.get("entrepot"), dict):
        rest["entrepot"] = {name: value for name, value in inner.items() if name != "channels"}
    return rest


def grown(there: bytes | None, ours: bytes, *, key: str) -> bytes:
    """A JSON document of an unknown kind: the one that has all of the other. `Conflict` if neither does."""
    if there is None or there == ours:
        return ours if there is None else there
    with suppress(msgspec.DecodeError):
        known, coming = msgspec.json.decode(there), msgspec.json.decode(ours)
        if _contains(coming, known):
            return ours
        if _contains(known, coming):
            return there
    raise Conflict("both stores have it, with different content", at=key, hint="the destination's stays")


def _contains(whole: object, part: object) -> bool:
    """Whether all that is in `part` is in `whole`: keys of objects, items of lists, and equal values."""
    if isinstance(whole, dict) and isinstance(part, dict):
        return all(key in whole and _contains(whole[key], value) for key, value in part.items())
    if isinstance(whole, list) and isinstance(part, list):
        items = {msgspec.json.encode(item, order="sorted") for item in whole}
        return all(msgspec.json.encode(item, order="sorted") in items for item in part)
    return whole == part


def _loaded(data: bytes, key: str) -> dict[str, Any]:
    try:
        return msgspec.json.decode(data, type=dict[str, Any])
    except msgspec.MsgspecError as error:
        raise Unavailable(f"cannot be read: {error}", at=key, hint="bring it back from a backup") from error


def _dumped(document: dict[str, Any]) -> bytes:
    return msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n"


def _conflict(differences: list[str], key: str, hint: str) -> Conflict:
    more = f", and {len(differences) - _TOLD} more" if len(differences) > _TOLD else ""
    return Conflict("; ".join(differences[:_TOLD]) + more, at=key, hint=hint)
