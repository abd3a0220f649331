"""Files of a bucket on the node's disk: asked for once, never wrong, and no more of them than there is room for."""

import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from entrepot.errors import NotFound
from entrepot.index import ANY, Content, OnDisk, Span, Stream
from entrepot.stores.eviction import oldest
from entrepot.stores.memory import Memory
from entrepot.stores.nearby import Nearby
from tests.stores.test_contract import all_of


class Counting(Memory):
    """A store that counts reads."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = 0

    async def read(self, key: str, span: Span | None = None) -> Content:
        self.reads += 1
        return await super().read(key, span)


@pytest.fixture
async def store() -> AsyncIterator[Counting]:
    store = Counting()
    yield store
    await store.close()


def near(store: Counting, folder: Path, most: int = 1_000_000) -> Nearby:
    return Nearby(store, folder / "cache", most)


async def put(store: Counting, data: bytes) -> tuple[str, str]:
    """Its key and its sha256."""
    sha256 = hashlib.sha256(data).hexdigest()
    await store.write(f"main/blobs/{sha256}/file", data, expect=ANY)
    return f"main/blobs/{sha256}/file", sha256


async def test_a_file_is_fetched_once_and_then_leaves_by_path(store: Counting, tmp_path: Path) -> None:
    cache, (key, sha256) = near(store, tmp_path), await put(store, b"wheel")
    assert await all_of(await cache.open(key, sha256)) == b"wheel"
    again = await cache.open(key, sha256)
    assert isinstance(again, OnDisk)
    assert await all_of(again) == b"wheel"
    assert store.reads == 1
    assert list(store.traits.staging.iterdir()) == []


async def test_the_next_start_and_other_workers_have_it_too(store: Counting, tmp_path: Path) -> None:
    key, sha256 = await put(store, b"wheel")
    await all_of(await near(store, tmp_path).open(key, sha256))
    assert isinstance(await near(store, tmp_path).open(key, sha256), OnDisk)


async def test_a_part_is_not_kept_for_the_whole(store: Counting, tmp_path: Path) -> None:
    cache, (key, sha256) = near(store, tmp_path), await put(store, b"wheel")
    assert await all_of(await cache.open(key, sha256, Span(1, 3))) == b"he"
    assert isinstance(await cache.open(key, sha256), Stream)


async def test_wrong_bytes_are_not_kept(store: Counting, tmp_path: Path) -> None:
    cache, (key, sha256) = near(store, tmp_path), await put(store, b"wheel")
    await store.write(key, b"whirl", expect=ANY)
    await all_of(await cache.open(key, sha256))
    assert isinstance(await cache.open(key, sha256), Stream)
    assert list(store.traits.staging.iterdir()) == []


async def test_a_client_that_goes_away_leaves_nothing(store: Counting, tmp_path: Path) -> None:
    cache, (key, sha256) = near(store, tmp_path), await put(store, b"wheel")
    opened = await cache.open(key, sha256)
    assert isinstance(opened, Stream)
    await anext(opened.body)
    await opened.body.aclose()  # type: ignore[attr-defined]
    assert list(store.traits.staging.iterdir()) == []
    assert isinstance(await cache.open(key, sha256), Stream)


async def test_what_is_nowhere_is_not_found(store: Counting, tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        await near(store, tmp_path).open("main/blobs/a/file", "a")


async def test_what_was_asked_for_longest_ago_makes_room(store: Counting, tmp_path: Path) -> None:
    cache = near(store, tmp_path, most=1000)
    held = [await put(store, bytes([number]) * 300) for number in range(3)]
    for age, (key, sha256) in enumerate(held):
        await all_of(await cache.open(key, sha256))
        path = tmp_path / "cache" / hashlib.sha256(key.encode()).hexdigest()
        os.utime(path, (1_000_000 + age, os.stat(path).st_mtime))
    assert isinstance(await cache.open(*held[0]), OnDisk)  # used again: now it is the newest
    key, sha256 = await put(store, b"x" * 300)
    await all_of(await cache.open(key, sha256))
    here = [isinstance(await cache.open(*each), OnDisk) for each in [*held, (key, sha256)]]
    assert here == [True, False, True, True]


def test_nothing_goes_while_there_is_room_and_nothing_that_stays_goes() -> None:
    held = [(float(at), 100, name) for at, name in enumerate("abcd")]
    assert oldest(held, 400) == []
    assert oldest(held, 399) == ["a"]
    assert oldest(held, 399, lambda name: name in "ab") == ["c"]
    assert oldest(held, 0) == ["a", "b", "c", "d"]
