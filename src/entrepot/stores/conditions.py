"""What a bucket does with conditional writes: found out by a few tiny ones, since many servers say nothing.

Found: S3 itself, moto and Azure honour them; Ceph's gateway does if the etag comes without its quotes; Swift answers
501; some servers ignore the headers and let everybody win, which would lose uploads in silence.
"""

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import obstore

from entrepot.errors import Conflict, NotFound
from entrepot.index import ABSENT, Expect
from entrepot.stores import refusals, uniqueness
from entrepot.stores.buckets import Bucket

if TYPE_CHECKING:
    from obstore import PutMode, UpdateVersion

log = logging.getLogger(__name__)

_PATIENCE = 10.0  # seconds


class Conditions:
    """Whether they are honoured, and how an etag is to be sent."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._probing = asyncio.Lock()
        self._quoted = True
        self._honoured = False
        self.known = False

    def mode(self, expect: Expect) -> "PutMode":
        """What obstore is told for a write that expects the etag, or nothing to be there."""
        if expect is ABSENT:
            return "create"
        tag, _, version = str(expect).partition("@")
        sent: UpdateVersion = {"e_tag": f'"{tag}"' if self._quoted else tag}
        if version:
            sent["version"] = version
        return sent

    async def probe(self) -> bool:
        """Whether creating and swapping are honoured. Writes one key a few times, once; raises `Unavailable`."""
        async with self._probing:
            if not self.known:
                self._honoured = await self._probe(f"locks/probe-{uniqueness.name()}")
                self.known = True
        return self._honoured

    async def _probe(self, key: str) -> bool:
        try:
            return await self._creates(key) and await self._swaps(key)
        finally:
            await self._remove(key)

    async def _creates(self, key: str) -> bool:
        try:
            await self._put(key, b"1", "create")
        except _Unsupported:
            return False
        return await self._is_refused(key, b"2", "create")

    async def _swaps(self, key: str) -> bool:
        first = await self._put(key, b"first", "overwrite")
        second = await self._put(key, b"second", "overwrite")
        if not await self._is_refused(key, b"third", first):
            return False
        for quoted in (True, False):
            tag = second["e_tag"] or ""
            second["e_tag"] = f'"{tag.strip(chr(34))}"' if quoted else tag.strip('"')
            if not await self._is_refused(key, b"fourth", second):
                self._quoted = quoted
                return True
        return False

    async def _is_refused(self, key: str, body: bytes, mode: "PutMode") -> bool:
        try:
            await self._put(key, body, mode)
        except Conflict:
            return True
        except _Unsupported:
            return False
        return False

    async def _put(self, key: str, body: bytes, mode: "PutMode") -> "UpdateVersion":
        try:
            async with asyncio.timeout(_PATIENCE):
                written = await obstore.put_async(self._bucket.once, key, body, mode=mode, use_multipart=False)
        except TimeoutError as error:
            raise refusals.too_slow(self._bucket.url) from error
        except refusals.RAISED as error:
            if mode != "overwrite" and refusals.is_unsupported(error):
                raise _Unsupported from error
            meant = refusals.meant(error, key, self._bucket.url)
            raise refusals.no_bucket(self._bucket.url) if isinstance(meant, NotFound) else meant from error
        known: dict[str, Any] = {name: text for name, text in written.items() if text is not None}
        return known  # type: ignore[return-value]  # obstore refuses None, which its answers hold

    async def _remove(self, key: str) -> None:
        try:
            async with asyncio.timeout(_PATIENCE):
                await obstore.delete_async(self._bucket.quick, key)
        except (TimeoutError, *refusals.RAISED) as error:
            log.warning("the probe %s stays in %s: %s", key, self._bucket.url, type(error).__name__)


class _Unsupported(Exception):
    """The store does not know such conditions."""
