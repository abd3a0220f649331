"""A store in a bucket of S3, Google or Azure, or of any server that speaks S3's protocol, by obstore.

An object's key is its key below the URL. Small objects can be written on a condition; large ones are streamed in parts
with bounded memory, and what is acknowledged is as durable as the bucket is.
"""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterable, AsyncIterator, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Self, cast

import obstore
from msgspec.structs import replace

from entrepot.errors import EntrepotError, Invalid, NotFound, Unavailable
from entrepot.index import ABSENT, ANY, Body, Content, Entry, Etag, Expect, Span, Staged, Stream, Traits
from entrepot.stores import buckets, keys, refusals, staging
from entrepot.stores import remote as remotes
from entrepot.stores.buckets import Bucket
from entrepot.stores.conditions import Conditions
from entrepot.stores.entries import require_expected
from entrepot.stores.remote import Remote
from entrepot.stores.writers import Writers
from entrepot.threads import finished

if TYPE_CHECKING:
    from obstore import GetOptions, ObjectMeta

_SMALL = 8 << 20  # bytes: written in one request, and only such bodies can have a condition
_PART = 5 << 20  # bytes, of which _AT_ONCE are on their way for one upload
_AT_ONCE = 3
_MOST_PARTS = 9_000  # S3 takes 10,000
_PIECE = 1 << 20  # bytes that a reader is given at once
_LISTED = 1_000
_PATIENCE = 10.0  # seconds for an answer to begin
_DELETES = 4  # times that a delete is tried
_TRASH = "trash"
_TRASH_FOR = 3600.0  # seconds
_PROVEN = 2.0  # seconds for which we believe that the store is there


def from_url(url: str, remote: Remote | None = None, *, create: bool) -> "Objects":
    """The store of an `s3://`, `gs://` or `az://` URL. Reads `entrepot.json`, or makes it. Blocking."""
    return Objects.open(url, remote or remotes.nameless(url), create=create)


class Objects:
    """The `Store` in a bucket. Not to be taken over a fork: obstore's threads stay behind."""

    traits: Traits

    def __init__(self, bucket: Bucket, remote: Remote, identity: str) -> None:
        self.url = bucket.url
        self._bucket = bucket
        folder = remote.place("staging")
        self.traits = Traits(
            compare_and_swap=True, staging=folder, id=identity, etags_of_content=True, folders=False, tagged_reads=True
        )
        self._conditions = Conditions(bucket)
        self._writers = Writers(bucket, remote)
        self._proven = 0.0  # when the store was last known to be there
        self._parts = asyncio.Semaphore(8)  # large uploads at once

    @classmethod
    def open(cls, url: str, remote: Remote, *, create: bool) -> Self:
        """Raises `Unavailable` if there is no bucket, no store in it and `create` is false, or no way to it."""
        bucket = buckets.open_bucket(url, remote)
        return cls(bucket, remote, buckets.identified(bucket, create=create))

    async def prepare(self) -> None:
        """Find out what the bucket honours, before the first write does. Raises `Unavailable` for two writers."""
        await self._swaps()

    async def stat(self, key: str) -> Entry:
        keys.check(key)
        try:
            async with asyncio.timeout(_PATIENCE):
                found = await obstore.head_async(self._bucket.quick, key)
        except TimeoutError as error:
            raise refusals.too_slow(self.url) from error
        except refusals.RAISED as error:
            raise await self._missed(error, key) from error
        self._prove()
        return self._entry(key, found)

    async def read(self, key: str, span: Span | None = None) -> Content:
        keys.check(key)
        if span is not None and (span.stop <= span.start or span.start < 0):
            span = Span(max(0, span.start), span.stop)
            if span.stop <= span.start:
                return self._nothing(await self.stat(key))
        options: GetOptions = {"range": (span.start, span.stop)} if span is not None else {}
        try:
            async with asyncio.timeout(_PATIENCE):
                found = await obstore.get_async(self._bucket.bulk, key, options=options)
        except TimeoutError as error:
            raise refusals.too_slow(self.url) from error
        except refusals.RAISED as error:
            meant = await self._missed(error, key)
            if span is not None and isinstance(meant, Unavailable):
                entry = await self.stat(key)
                if span.start >= entry.size:
                    return self._nothing(entry)
            raise meant from error
        self._prove()
        start, stop = found.range
        entry = self._entry(key, found.meta)
        body = _pieces(found.stream(min_chunk_size=_PIECE), key, self.url, stop - start)
        return Stream(body=body, size=stop - start, etag=entry.etag)

    async def write(self, key: str, body: Body, *, expect: Expect) -> Etag:
        """Of a body over 8 MiB the condition is looked at before it is written, and not while."""
        keys.check(key)
        self._refuse_long(key)
        if isinstance(body, Staged):
            body = await finished(_verified, body, key)
        elif not isinstance(body, bytes):
            body = await _gathered(body)
        if isinstance(body, bytes):
            return await self._write_small(key, body, expect)
        if expect is not ANY:
            require_expected(key, expect, await self._present(key))
        async with self._writers.allowed(exact=await self._swaps()), self._parts:
            if isinstance(body, Staged):
                return await self._put_file(key, body)
            return await self._put_stream(key, body)

    async def write_all(self, bodies: Mapping[str, bytes | Staged]) -> None:
        for key in bodies:
            keys.check(key)
        writing = (self.write(key, body, expect=ANY) for key, body in bodies.items())
        # All are over before anybody is told: who stages a file removes it then.
        for outcome in await asyncio.gather(*writing, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome

    async def delete(self, key: str, *, expect: Expect) -> None:
        """No bucket deletes on a condition: an etag is compared a moment before.

        So what is deleted on one lies in `trash/` for an hour, from where `bring_back` has it.
        """
        keys.check(key)
        if expect is ABSENT:
            raise ValueError("nothing is to be deleted where nothing is expected")
        async with self._writers.allowed(exact=await self._swaps()):
            if expect is not ANY:
                require_expected(key, expect, buckets.in_form_of(expect, await self._present(key)))
                if not self._bucket.bare:  # to the tool whose bucket it is, `trash` would be one of its own names
                    await self._copy(key, _trashed(key))
            await self._remove(key)

    async def bring_back(self, key: str) -> bool:
        """Undo a delete on a condition; False if it is too long ago."""
        keys.check(key)
        async with self._writers.allowed(exact=await self._swaps()):
            return await self._copy(_trashed(key), key)

    async def list(self, prefix: str, *, after: str = "") -> AsyncIterator[Entry]:
        if not keys.check_prefix(prefix):
            return
        folder, _, rest = prefix.rpartition("/")
        # Entries after a name are asked for; of those that begin as the prefix does, none comes before its beginning.
        offset = _key_before(max(after, prefix[:-1]) if rest else after)
        listing = obstore.list(self._bucket.quick, folder or None, offset=offset or None, chunk_size=_LISTED)
        before = ""
        try:
            async for found in listing:
                for meta in found:
                    key = meta["path"]
                    if not key.startswith(prefix) or key <= after or not keys.is_key(key):
                        continue
                    if key < before:
                        raise Unavailable("the bucket lists its keys in no order", at=self.url)
                    before = key
                    yield self._entry(key, meta)
        except refusals.RAISED as error:
            meant = refusals.meant(error, prefix, self.url)
            raise Unavailable(meant.message, at=self.url) if isinstance(meant, NotFound) else meant from error
        if not before:
            await self._require_store()

    async def sign(self, key: str, *, seconds: float) -> str:
        """A URL from which anybody may read the object for so long. Asks nobody, once there are credentials."""
        keys.check(key)
        try:
            store = cast("Any", self._bucket.quick)  # every scheme of ours can sign
            return str(await obstore.sign_async(store, "GET", key, timedelta(seconds=seconds)))
        except refusals.RAISED as error:
            raise refusals.meant(error, key, self.url) from error

    async def sweep(self, now: float) -> None:
        """Remove what uploads that died left on this node an hour ago, and what was deleted an hour ago."""
        await finished(staging.sweep, str(self.traits.staging), now)
        try:
            async for found in obstore.list(self._bucket.quick, _TRASH, chunk_size=_LISTED):
                for meta in found:
                    if now - meta["last_modified"].timestamp() > _TRASH_FOR:
                        await self._remove(meta["path"])
        except refusals.RAISED as error:
            raise refusals.meant(error, _TRASH, self.url) from error

    async def _copy(self, source: str, target: str) -> bool:
        """Within the bucket; False if there is nothing to copy."""
        try:
            await obstore.copy_async(self._bucket.bulk, source, target)
        except refusals.RAISED as error:
            meant = refusals.meant(error, source, self.url)
            if isinstance(meant, NotFound):
                return False
            raise meant from error
        return True

    async def _remove(self, key: str) -> None:
        for left in reversed(range(_DELETES)):
            try:
                async with asyncio.timeout(_PATIENCE):
                    await obstore.delete_async(self._bucket.quick, key)
                return
            except TimeoutError as error:
                raise refusals.too_slow(self.url) from error
            except refusals.RAISED as error:
                meant = refusals.meant(error, key, self.url)
                if isinstance(meant, NotFound):  # Azure says so where S3 is silent
                    return
                # Ceph answers 200 with an "UnknownError" in it when somebody writes the key at that moment.
                if not left:
                    raise meant from error

    # Writing.

    async def _swaps(self) -> bool:
        """Whether the bucket has compare-and-swap. Asked for once."""
        if not self._conditions.known:
            honoured = await self._conditions.probe()
            self.traits = replace(self.traits, compare_and_swap=honoured)
            if not honoured:
                await self._writers.begin()
        return self.traits.compare_and_swap

    async def _write_small(self, key: str, body: bytes, expect: Expect) -> Etag:
        exact = await self._swaps()
        async with self._writers.allowed(exact=exact):
            if expect is ANY:
                return await self._put(key, body, retried=True)
            if exact:
                return await self._put(key, body, mode=self._conditions.mode(expect))
            async with self._writers.alone(key):
                require_expected(key, expect, await self._present(key))
                return await self._put(key, body)

    async def _put(self, key: str, body: bytes, *, mode: Any = "overwrite", retried: bool = False) -> Etag:
        # What has a condition is not sent twice behind our back: the second would be refused because of the first.
        store = self._bucket.quick if retried else self._bucket.once
        try:
            async with asyncio.timeout(_PATIENCE):
                result = await obstore.put_async(store, key, body, mode=mode, use_multipart=False)
        except TimeoutError as error:
            raise refusals.too_slow(self.url) from error
        except refusals.RAISED as error:
            if retried and refusals.is_superseded(error):
                return (await self.stat(key)).etag
            raise self._written(error, key) from error
        return self._bucket.etag(result["e_tag"], result["version"])

    async def _put_file(self, key: str, body: Staged) -> Etag:
        part = max(_PART, body.size // _MOST_PARTS)
        try:
            result = await obstore.put_async(
                self._bucket.bulk, key, body.path, chunk_size=part, max_concurrency=_AT_ONCE
            )
        except refusals.RAISED as error:
            raise self._written(error, key) from error
        return self._bucket.etag(result["e_tag"], result["version"])

    async def _put_stream(self, key: str, body: AsyncIterable[bytes]) -> Etag:
        """Never finished if the body fails: then there is no object, and parts that the bucket's rules remove."""
        writer = obstore.open_writer_async(self._bucket.bulk, key, buffer_size=_PART, max_concurrency=_AT_ONCE)
        async for piece in body:
            try:
                await writer.write(piece)
            except refusals.RAISED as error:
                raise self._written(error, key) from error
        try:
            await writer.close()
        except refusals.RAISED as error:
            raise self._written(error, key) from error
        return (await self.stat(key)).etag

    def _written(self, error: Exception, key: str) -> EntrepotError:
        meant = refusals.meant(error, key, self.url)
        # Nothing that is written can be absent: it is the bucket that is.
        return refusals.no_bucket(self.url) if isinstance(meant, NotFound) else meant

    async def _present(self, key: str) -> Etag | None:
        try:
            return (await self.stat(key)).etag
        except NotFound:
            return None

    # Reading.

    def _entry(self, key: str, meta: "ObjectMeta") -> Entry:
        etag = self._bucket.etag(meta["e_tag"], meta["version"])
        # Whole seconds: that is all that a HEAD tells, where a listing may know more.
        return Entry(key=key, size=meta["size"], etag=etag, modified=float(int(meta["last_modified"].timestamp())))

    def _nothing(self, entry: Entry) -> Stream:
        return Stream(body=_no_pieces(), size=0, etag=entry.etag)

    async def _missed(self, error: Exception, key: str) -> EntrepotError:
        meant = refusals.meant(error, key, self.url)
        if isinstance(meant, NotFound):
            await self._require_store()  # where no store is, nothing is known to be absent
        return meant

    def _prove(self) -> None:
        self._proven = asyncio.get_running_loop().time()

    async def _require_store(self) -> None:
        if asyncio.get_running_loop().time() - self._proven < _PROVEN:
            return
        await finished(buckets.identified, self._bucket, create=False)
        self._prove()

    def _refuse_long(self, key: str) -> None:
        if len(key.encode()) + self._bucket.taken > keys.LONGEST_KEY:
            raise Invalid(f"with the prefix of the store it is longer than {keys.LONGEST_KEY} bytes", at=key)


def _trashed(key: str) -> str:
    """Where a deleted object lies. A name of its own length would make some keys too long."""
    return f"{_TRASH}/{hashlib.sha256(key.encode()).hexdigest()}"


def _key_before(mark: str) -> str:
    """The longest beginning of the mark that obstore takes for a key; "" if there is none."""
    while mark and not keys.is_key(mark):
        mark = mark[:-1]
    return mark


async def _pieces(stream: AsyncIterable[bytes], key: str, where: str, size: int) -> AsyncIterator[bytes]:
    came = 0
    try:
        async for piece in stream:
            came += len(piece)
            yield piece
    except refusals.RAISED as error:
        meant = refusals.meant(error, key, where)
        raise Unavailable(meant.message, at=where, status=502) if isinstance(meant, NotFound) else meant from error
    if came != size:
        raise Unavailable(f"{came} bytes came in place of {size}", at=f"{where}/{key}", status=502)


async def _no_pieces() -> AsyncIterator[bytes]:
    return
    yield b""


def _verified(body: Staged, key: str) -> bytes | Staged:
    """The bytes of a small file, a large one as it is; of the size that was said. Blocking."""
    if body.held is not None:
        return body.held
    try:
        size = os.stat(body.path).st_size
        if size != body.size:
            raise Invalid(f"the staged file has {size} bytes and not {body.size}", at=key)
        return body.path.read_bytes() if size <= _SMALL else body
    except FileNotFoundError as error:
        raise Invalid(f"the staged file {body.path} is gone", at=key) from error
    except OSError as error:
        raise Unavailable(f"cannot be read: {error.strerror}", at=str(body.path)) from error


async def _gathered(body: AsyncIterable[bytes]) -> bytes | AsyncIterator[bytes]:
    """A small body in one piece, a large one with what was read of it in front."""
    pieces: list[bytes] = []
    size = 0
    rest = aiter(body)
    async for piece in rest:
        pieces.append(piece)
        size += len(piece)
        if size > _SMALL:
            return _again(pieces, rest)
    return b"".join(pieces)


async def _again(pieces: "list[bytes]", rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece
    pieces.clear()
    async for piece in rest:
        yield piece
