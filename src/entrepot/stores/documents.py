"""Small JSON documents in a store: parsed once per etag, changed only by compare-and-swap."""

import asyncio
import random
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Generic, TypeVar

from entrepot.errors import Conflict, NotFound, Unavailable
from entrepot.index import ABSENT, Content, Elsewhere, Etag, OnDisk, Store, Stream
from entrepot.threads import finished

T = TypeVar("T")

# With jitter up to 0.64 s between the later ones, dozens of writers get through; more is a broken store.
_ATTEMPTS = 40
# Of a write whose answer was lost: it may have taken effect, or may yet. Ceph also answers 500 where two race.
_LOST = 8


class Documents(Generic[T]):
    """The documents of one kind. `decode` raises `Unavailable` for bytes that it cannot read.

    The last `remember` documents read or written are kept, each as long as its etag holds.
    """

    def __init__(
        self,
        store: Store,
        *,
        encode: Callable[[T], bytes],
        decode: Callable[[bytes, str], T],
        remember: int = 1,
    ) -> None:
        self._store = store
        self._encode = encode
        self._decode = decode
        self._remember = remember
        self._known: OrderedDict[str, tuple[Etag, T]] = OrderedDict()
        self._changing: dict[str, _Turn] = {}

    async def etag(self, key: str) -> Etag | None:
        """None if there is no such document. Costs one stat."""
        try:
            return (await self._store.stat(key)).etag
        except NotFound:
            return None

    async def load(self, key: str) -> T | None:
        """The document as it is now, None if there is none; of a store elsewhere as it was a moment ago."""
        return (await self._load(key))[1]

    async def latest(self, key: str) -> T | None:
        """The document as it is now, whatever the store remembers: for what a change depends on."""
        recheck(self._store, key)
        return await self.load(key)

    async def change(self, key: str, change: Callable[[T | None], T]) -> T:
        """Swap in what `change` makes of the document; the result is durable when this returns.

        `change` may run several times and so must be a function of its argument. Returning that very
        argument means that there is nothing to do: that is how a change recognises its own effect.
        """
        async with self._turn(key):
            lost = 0
            for attempt in range(_ATTEMPTS):
                recheck(self._store, key)
                etag, before = await self._load(key)
                after = change(before)
                if after is before:
                    return after
                try:
                    written = await self._store.write(key, self._encode(after), expect=etag or ABSENT)
                except Conflict:
                    await jitter(attempt)
                    continue
                except Unavailable:
                    # A lost answer to a swap that succeeded is a success: what is there now tells.
                    lost += 1
                    if lost > _LOST or not self._store.traits.tagged_reads:
                        raise
                    await jitter(attempt)
                    continue
                self._keep(key, written, after)
                return after
        raise Unavailable(f"{_ATTEMPTS} attempts to change it lost to other writers", at=key)

    async def _load(self, key: str) -> tuple[Etag | None, T | None]:
        if self._store.traits.tagged_reads and key not in self._known:
            return await self._read_tagged(key)
        # The etag first: bytes that are newer than it make the swap fail, never the other way round.
        etag = await self.etag(key)
        if etag is None:
            return None, None
        known = self._known.get(key)
        if known is not None and known[0] == etag:
            self._known.move_to_end(key)
            return known
        try:
            document = self._decode(await read_bytes(self._store, key), key)
        except NotFound:
            return None, None
        self._keep(key, etag, document)
        return etag, document

    async def _read_tagged(self, key: str) -> tuple[Etag | None, T | None]:
        """One request, where a stat would be a second."""
        try:
            content = await self._store.read(key)
            etag = content.etag if isinstance(content, Stream) else None
            document = self._decode(await gathered(content), key)
        except NotFound:
            return None, None
        if etag is not None:
            self._keep(key, etag, document)
        return etag, document

    def _keep(self, key: str, etag: Etag, document: T) -> None:
        self._known[key] = (etag, document)
        self._known.move_to_end(key)
        while len(self._known) > self._remember:
            self._known.popitem(last=False)

    @asynccontextmanager
    async def _turn(self, key: str) -> AsyncIterator[None]:
        """Changes of one key take turns within the process: losing swaps to oneself wastes fsyncs."""
        turn = self._changing.setdefault(key, _Turn())
        turn.waiting += 1
        try:
            async with turn.lock:
                yield
        finally:
            turn.waiting -= 1
            if not turn.waiting:
                self._changing.pop(key, None)


async def jitter(attempt: int) -> None:
    """A pause before another attempt, the longer the more there were, so that those who race part."""
    await asyncio.sleep(random.uniform(0, 0.005 * 2 ** min(attempt, 7)))  # noqa: S311 - no secret


class _Turn:
    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.waiting = 0


def recheck(store: Store, key: str) -> None:
    """Have a store that remembers what it was told elsewhere ask anew."""
    forget: Callable[[str], None] | None = getattr(store, "recheck", None)
    if forget is not None:
        forget(key)


async def read_bytes(store: Store, key: str) -> bytes:
    """The whole of a small object. Raises `NotFound`, `Unavailable`."""
    return await gathered(await store.read(key))


async def gathered(content: Content) -> bytes:
    """All bytes of a content that is known to be small."""
    match content:
        case OnDisk(path=path):
            try:
                return await finished(path.read_bytes)
            except FileNotFoundError as error:
                raise NotFound("was removed a moment ago", at=path.name) from error
            except OSError as error:
                raise Unavailable(f"cannot be read: {error.strerror}", at=str(path)) from error
        case Stream(body=body):
            return b"".join([bytes(piece) async for piece in body])
        case Elsewhere():
            raise Unavailable("the store answers a small read with a redirect")
