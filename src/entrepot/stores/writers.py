"""The one writer of a bucket without compare-and-swap, and how a second one is noticed.

Whoever may write says so in `locks/writers/`, at most five seconds before each write, and looks who else did. Two that
did within half a minute both stop. The bucket's own clock decides, so nodes need not agree on the time.
"""

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import obstore
from msgspec import Struct

from entrepot.errors import NotFound, Unavailable
from entrepot.stores import refusals, stripes, uniqueness
from entrepot.stores.buckets import Bucket
from entrepot.stores.remote import Remote
from entrepot.threads import finished

if TYPE_CHECKING:
    from obstore import ObjectMeta

log = logging.getLogger(__name__)

_PREFIX = "locks/writers"
_VALID = 5.0  # seconds for which a look at the others is believed
_ALIVE = 30.0  # seconds after which a silent writer is taken for gone; much more than _VALID
_PATIENCE = 10.0  # seconds


class Beat(Struct, frozen=True, kw_only=True):
    """What a writer says of itself."""

    schema: int = 1
    node: str


class Writers:
    """Whether this node may write to a bucket. Workers and commands of a node share its folder, and are one writer."""

    def __init__(self, bucket: Bucket, remote: Remote) -> None:
        self._bucket = bucket
        self._remote = remote
        self._looking = asyncio.Lock()
        self._looked = float("-inf")
        self._refusal: Unavailable | None = None

    async def begin(self) -> None:
        """Called once where the bucket has no compare-and-swap. Raises `Unavailable` if there is another writer."""
        if not self._remote.writer:
            log.warning("%s has no compare-and-swap: this node only reads it", self._bucket.url)
            return
        log.warning("%s has no compare-and-swap: this node must be the only one that writes", self._bucket.url)
        await self._require_alone()

    @asynccontextmanager
    async def allowed(self, *, exact: bool) -> AsyncIterator[None]:
        """Raises `Unavailable` if this node may not write. `exact`: the bucket itself keeps writers apart."""
        if not exact:
            if not self._remote.writer:
                raise await self._elsewhere()
            await self._require_alone()
        yield

    @asynccontextmanager
    async def alone(self, key: str) -> AsyncIterator[None]:
        """No other process of this node is in such a block with this key."""
        root = str(self._remote.place("locks").parent)
        lock = stripes.locked(root, key, os.stat(root))
        await finished(lock.__enter__)
        try:
            yield
        finally:
            lock.__exit__(None, None, None)

    async def _require_alone(self) -> None:
        async with self._looking:
            now = asyncio.get_running_loop().time()
            if now - self._looked >= _VALID:
                self._refusal = await self._beat()
                self._looked = now
        if self._refusal is not None:
            raise self._refusal

    async def _beat(self) -> Unavailable | None:
        """Say that we write, then look who else does: of two who begin at once, one at least sees the other."""
        ours = f"{_PREFIX}/{await finished(_node_id, self._remote.folder)}.json"
        beat = msgspec.json.encode(Beat(node=self._remote.node))
        try:
            async with asyncio.timeout(_PATIENCE):
                await obstore.put_async(self._bucket.once, ours, beat)
        except TimeoutError as error:
            raise refusals.too_slow(self._bucket.url) from error
        except refusals.RAISED as error:
            meant = refusals.meant(error, ours, self._bucket.url)
            raise refusals.no_bucket(self._bucket.url) if isinstance(meant, NotFound) else meant from error
        found = await self._listed()
        moment = next((each["last_modified"] for each in found if each["path"] == ours), None)
        if moment is None:
            return Unavailable("our own sign in locks/writers vanished", at=self._bucket.url)
        for each in found:
            if each["path"] != ours and (moment - each["last_modified"]).total_seconds() < _ALIVE:
                other = await self._name(each["path"])
                log.error("%s has two writers: this node and %s", self._bucket.url, other)
                return Unavailable(
                    f"two nodes want to be the only writer, {self._remote.node} and {other}, so neither writes",
                    at=self._bucket.url,
                    hint="leave `writer = true` in the configuration of one; it goes on half a minute later",
                    retry_after=30,
                )
        return None

    async def _elsewhere(self) -> Unavailable:
        found = await self._listed()
        newest = max(found, key=lambda each: each["last_modified"], default=None)
        writer = await self._name(newest["path"]) if newest is not None else "nobody yet"
        return Unavailable(
            f"this bucket has no compare-and-swap, so one node alone writes to it: {writer}",
            at=self._bucket.url,
            hint=f"publish there, or set `writer = true` in [store.{self._remote.name}] of exactly one node",
        )

    async def _listed(self) -> "list[ObjectMeta]":
        try:
            async with asyncio.timeout(_PATIENCE):
                return list(await obstore.list(self._bucket.quick, _PREFIX).collect_async())
        except TimeoutError as error:
            raise refusals.too_slow(self._bucket.url) from error
        except refusals.RAISED as error:
            raise refusals.meant(error, _PREFIX, self._bucket.url) from error

    async def _name(self, key: str) -> str:
        try:
            async with asyncio.timeout(_PATIENCE):
                found = await obstore.get_async(self._bucket.quick, key)
                return msgspec.json.decode(bytes(await found.bytes_async()), type=Beat).node
        except (TimeoutError, msgspec.MsgspecError, *refusals.RAISED):
            return key  # the name is for people; the key says it too


def _node_id(folder: Path) -> str:
    """The one of this node, for as long as its folder lives. Blocking."""
    path = folder / "node"
    if not path.exists():
        draft = folder / f"node-{uniqueness.name()}"
        draft.write_text(uniqueness.name())
        with suppress(FileExistsError):
            os.link(draft, path)
        draft.unlink()
    return path.read_text()
