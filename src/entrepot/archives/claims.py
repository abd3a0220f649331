"""One writer for each version, where a large file cannot be created only if it is absent.

Buckets know create-only for what goes in one request, and not for a large file in parts. So whoever pushes first
creates a small object that says which bytes will come. Others with the same bytes may join, which does no harm;
others with other bytes are refused, until the claim has not been renewed for an hour.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from entrepot.archives.model import Offer, exists
from entrepot.errors import Conflict, EntrepotError, NotFound, Unavailable
from entrepot.index import ABSENT, Etag, Expect, Store
from entrepot.stores.documents import jitter, read_bytes

_HOLDS_FOR = timedelta(hours=1)
_RENEWED_EVERY = 600.0  # seconds
_ATTEMPTS = 20
_LOST = 8  # attempts at which an answer may be lost


class Claim(Struct, frozen=True, kw_only=True):
    """Who is about to write what. `at`: when that was last said."""

    version: str
    sha256: str
    by: str | None
    at: datetime


@asynccontextmanager
async def claimed(store: Store, key: str, name: str, version: str, offer: Offer) -> AsyncIterator[None]:
    """The right to write these bytes, for the block. Raises `Conflict` if somebody is writing others."""
    holder = _Holder(store, key, Claim(version=version, sha256=offer.sha256, by=offer.by, at=offer.now))
    await holder.take(name)
    over = asyncio.Event()
    renewing = asyncio.create_task(holder.renew(over))
    try:
        yield
    finally:
        # Not cancelled: a renewal that is on its way would leave a claim of which we do not know.
        over.set()
        await asyncio.gather(renewing, return_exceptions=True)
        await holder.release()


class _Holder:
    """One who writes, and the claim as it was last said."""

    def __init__(self, store: Store, key: str, claim: Claim) -> None:
        self._store = store
        self._key = key
        self._claim = claim
        self._etag = Etag("")

    async def take(self, name: str) -> None:
        claim = self._claim
        for attempt in range(_ATTEMPTS):
            held = await _read(self._store, self._key)
            if held is not None and held[0].sha256 != claim.sha256 and claim.at - held[0].at < _HOLDS_FOR:
                raise exists(name, claim.version, hint=_told(held[0]))
            try:
                await self._say(claim, held[1] if held is not None else ABSENT)
            except Conflict:
                await jitter(attempt)
                continue
            except Unavailable:
                # The answer was lost, or two raced, which Ceph answers with 500: what is there now tells.
                if attempt >= _LOST or not self._store.traits.tagged_reads:
                    raise
                await jitter(attempt)
                continue
            return
        raise Unavailable(f"{_ATTEMPTS} attempts to claim version {claim.version} of {name} lost", at=self._key)

    async def renew(self, over: asyncio.Event) -> None:
        """Until it is over, say again that we are at work. One that fails is tried again: the claim holds for six."""
        began = asyncio.get_running_loop().time()
        while not await _comes(over, within=_RENEWED_EVERY):
            passed = timedelta(seconds=asyncio.get_running_loop().time() - began)
            with suppress(EntrepotError):
                held = await _read(self._store, self._key)
                if held is not None and held[0].sha256 == self._claim.sha256:
                    await self._say(replace(self._claim, at=self._claim.at + passed), held[1])

    async def release(self) -> None:
        """Only what we said ourselves: whoever joined us may still be writing, and removes it later."""
        with suppress(EntrepotError):
            await self._store.delete(self._key, expect=self._etag)

    async def _say(self, claim: Claim, expect: Expect) -> None:
        self._etag = await self._store.write(self._key, msgspec.json.encode(claim), expect=expect)


async def _comes(event: asyncio.Event, *, within: float) -> bool:
    try:
        async with asyncio.timeout(within):
            await event.wait()
    except TimeoutError:
        return False
    return True


def _told(claim: Claim) -> str:
    since = f"{claim.by or 'somebody'} has been pushing other bytes since {claim.at:%Y-%m-%d %H:%M} UTC"
    return f"{since}; if that was cut, it can be pushed from {claim.at + _HOLDS_FOR:%H:%M} UTC on"


async def _read(store: Store, key: str) -> tuple[Claim, Etag] | None:
    """The claim and its etag; None if there is none."""
    try:
        etag = (await store.stat(key)).etag
        return msgspec.json.decode(await read_bytes(store, key), type=Claim), etag
    except NotFound:
        return None
    except msgspec.MsgspecError as error:
        raise Unavailable(f"the claim cannot be read: {error}", at=key, hint="delete it") from error
