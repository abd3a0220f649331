"""What `check` and `gc` do the same for all kinds of bytes: faults, digests, marking, and deleting in a later run."""

import hashlib
from collections.abc import Mapping
from datetime import datetime, timedelta

import msgspec
from msgspec import Struct

from entrepot.errors import Conflict, EntrepotError, NotFound, Unavailable
from entrepot.index import Content, Entry, Etag, OnDisk, Store, Stream
from entrepot.stores.documents import Documents
from entrepot.threads import finished

_MARKED_FOR = timedelta(days=1)


class Fault(Struct, frozen=True, kw_only=True):
    """Something that is not as it must be. `grave` is False for what a crash may leave and `gc` removes."""

    key: str
    what: str
    grave: bool = True


class Mark(Struct, frozen=True, kw_only=True):
    """Bytes that nothing named at `since`, as they were then."""

    etag: Etag
    since: datetime
    modified: float | None = None  # seconds since 1970; tells writes apart where etags are of the content


class Marks(Struct, frozen=True, kw_only=True):
    """The document in which a run leaves its marks for the next one."""

    schema: int = 1
    marks: dict[str, Mark] = {}


class Collected(Struct, frozen=True, kw_only=True):
    """What a run of `gc` did, or would do. Sizes in bytes."""

    deleted: tuple[str, ...] = ()
    deleted_size: int = 0
    marked: tuple[str, ...] = ()
    marked_size: int = 0

    def __add__(self, other: "Collected") -> "Collected":
        return Collected(
            deleted=self.deleted + other.deleted,
            deleted_size=self.deleted_size + other.deleted_size,
            marked=self.marked + other.marked,
            marked_size=self.marked_size + other.marked_size,
        )


def fault_of(error: EntrepotError, key: str) -> Fault:
    return Fault(key=key, what=f"{error.message} ({error.hint})" if error.hint else error.message)


async def is_there(store: Store, key: str) -> bool:
    try:
        await store.stat(key)
    except NotFound:
        return False
    return True


async def wrong(store: Store, key: str, sha256: str) -> str | None:
    """What is wrong with the bytes at the key, which should have this sha256; None if nothing is. Reads all of them."""
    try:
        digest = await digest_of(await store.read(key))
    except NotFound:
        return "went away while it was checked"
    except Unavailable as error:
        return f"cannot be read: {error.message}"
    return None if digest == sha256 else f"its bytes have the sha256 {digest}, not {sha256 or 'any that is recorded'}"


async def digest_of(content: Content) -> str:
    """The sha256 of the bytes, with bounded memory. Raises `NotFound`, `Unavailable`."""
    match content:
        case OnDisk(path=path):

            def whole() -> str:
                with open(path, "rb") as file:
                    return hashlib.file_digest(file, "sha256").hexdigest()

            try:
                return await finished(whole)
            except FileNotFoundError as error:
                raise NotFound("is gone", at=str(path)) from error
            except OSError as error:
                raise Unavailable(error.strerror or repr(error), at=str(path)) from error
        case Stream(body=body):
            running = hashlib.sha256()
            async for piece in body:
                running.update(piece)
            return running.hexdigest()
        case _:
            raise Unavailable("the store answers with a redirect")


async def collect(
    store: Store, marks_key: str, orphans: Mapping[str, Entry], *, now: datetime, dry_run: bool
) -> Collected:
    """Delete the orphans that an earlier run, a day ago or more, marked and that are unchanged; mark the rest.

    Safe beside writers who renew bytes before they name them: what the mark says does not hold any more then.
    """
    documents = marks_of(store)
    before = await documents.load(marks_key) or Marks()
    ripe, marks = [], {}
    for key, entry in orphans.items():
        mark = before.marks.get(key)
        if mark is None or mark.etag != entry.etag or mark.modified not in {None, entry.modified}:
            marks[key] = Mark(etag=entry.etag, since=now, modified=entry.modified)
        elif now - mark.since >= _MARKED_FOR:
            ripe.append(key)
        else:
            marks[key] = mark
    deleted = ripe if dry_run else await _delete(store, ripe, orphans)
    if not dry_run and marks != before.marks:
        await documents.change(marks_key, lambda _: Marks(marks=marks))
    return Collected(
        deleted=tuple(deleted),
        deleted_size=sum(orphans[key].size for key in deleted),
        marked=tuple(marks),
        marked_size=sum(orphans[key].size for key in marks),
    )


async def _delete(store: Store, ripe: list[str], entries: Mapping[str, Entry]) -> list[str]:
    deleted = []
    for key in ripe:
        try:
            if (await store.stat(key)).modified != entries[key].modified:
                continue  # the same bytes were written again, which the etags of some stores do not tell
            await store.delete(key, expect=entries[key].etag)
        except (Conflict, NotFound):
            continue  # written again since it was listed, or gone
        deleted.append(key)
    return deleted


def marks_of(store: Store) -> Documents[Marks]:
    return Documents[Marks](store, encode=_encode, decode=_decode)


def _encode(marks: Marks) -> bytes:
    return msgspec.json.format(msgspec.json.encode(marks), indent=1) + b"\n"


def _decode(data: bytes, key: str) -> Marks:
    try:
        return msgspec.json.decode(data, type=Marks)
    except msgspec.MsgspecError as error:
        raise Unavailable(f"cannot be read: {error}", at=key, hint="delete it: marking starts anew") from error
