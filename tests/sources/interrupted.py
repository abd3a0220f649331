"""A store to which something happens at a chosen moment."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

from entrepot.index import ANY, Body, Content, Entry, Etag, Expect, Span, Staged, Store
from entrepot.stores.collecting import brought_back


class Interrupted:
    """A store, and something that happens once, before the call number `at`."""

    def __init__(self, store: Store, at: int, happens: Callable[[], Awaitable[object]]) -> None:
        self.traits = store.traits
        self._store = store
        self._left = at
        self._happens = happens
        self.happened = False

    async def _count(self) -> None:
        self._left -= 1
        if self._left == 0:
            self.happened = True
            await self._happens()

    async def stat(self, key: str) -> Entry:
        await self._count()
        return await self._store.stat(key)

    async def read(self, key: str, span: Span | None = None) -> Content:
        await self._count()
        return await self._store.read(key, span)

    async def write(self, key: str, body: Body, *, expect: Expect) -> Etag:
        await self._count()
        return await self._store.write(key, body, expect=expect)

    async def write_all(self, bodies: Mapping[str, bytes | Staged]) -> None:
        for key, body in bodies.items():
            await self.write(key, body, expect=ANY)

    async def delete(self, key: str, *, expect: Expect) -> None:
        await self._count()
        await self._store.delete(key, expect=expect)

    async def bring_back(self, key: str) -> bool:
        await self._count()
        return await brought_back(self._store, key)

    async def list(self, prefix: str, *, after: str = "") -> AsyncIterator[Entry]:
        await self._count()
        async for entry in self._store.list(prefix, after=after):
            await self._count()
            yield entry
