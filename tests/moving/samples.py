"""What the tests of copies look at."""

import hashlib

from entrepot.index import ANY, Store
from entrepot.moving.copying import copy
from entrepot.moving.objects import Options, Tally
from entrepot.sources.hosted import blob_key
from entrepot.stores.documents import read_bytes

WHEEL, SDIST = "demo-1.0-py3-none-any.whl", "demo-1.0.tar.gz"


async def held(store: Store) -> dict[str, bytes]:
    """Everything that is in the store."""
    return {entry.key: await read_bytes(store, entry.key) async for entry in store.list("")}


async def copied(source: Store, target: Store, **options: object) -> Tally:
    """A copy that must go well."""
    tally = await copy(source, target, Options(**options))  # type: ignore[arg-type]
    assert tally.troubles == []
    return tally


async def troubles(source: Store, target: Store, **options: object) -> list[tuple[str, str]]:
    """What a copy could not do: the kind and the place, in order."""
    tally = await copy(source, target, Options(**options))  # type: ignore[arg-type]
    return sorted((one.kind, one.at) for one in tally.troubles)


def blob_of(filename: str, index: str = "main", data: bytes | None = None) -> str:
    return blob_key(index, hashlib.sha256(filename.encode() if data is None else data).hexdigest(), filename)


async def rot(store: Store, key: str) -> None:
    """Other bytes of the same length, as a disk that decays gives."""
    before = await read_bytes(store, key)
    await store.write(key, bytes(len(before)), expect=ANY)
