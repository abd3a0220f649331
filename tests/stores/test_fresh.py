"""How old an answer about a store elsewhere may be, who learns at once, and what happens while it is silent."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from entrepot.errors import Conflict, NotFound, Unavailable
from entrepot.index import ABSENT, ANY, Entry
from entrepot.stores import fresh
from entrepot.stores.documents import Documents
from entrepot.stores.fresh import Fresh
from entrepot.stores.memory import Memory

KEY = "private/projects/numpy.json"


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Silent(Memory):
    """A store that counts what it is asked, and can be told to fail or to keep silent."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0
        self.error: Unavailable | None = None
        self.gate = asyncio.Event()
        self.gate.set()

    async def stat(self, key: str) -> Entry:
        self.asked += 1
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        return await super().stat(key)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("entrepot.stores.fresh.time.monotonic", clock)
    return clock


@pytest.fixture
async def inner() -> AsyncIterator[Silent]:
    store = Silent()
    yield store
    await store.close()


@pytest.fixture
async def near(inner: Silent, tmp_path: Path) -> AsyncIterator[Fresh]:
    store = Fresh(inner, tmp_path / "node", revalidate=1.0, stale_for=60.0)
    yield store
    await store.close()


@pytest.fixture
async def worker(inner: Silent, tmp_path: Path) -> AsyncIterator[Fresh]:
    """Another process of the same node."""
    store = Fresh(inner, tmp_path / "node")
    yield store
    await store.close()


async def background(store: Fresh) -> None:
    """Until nothing is being asked."""
    while store._asking:
        await asyncio.gather(*(task for task, _ in store._asking.values()), return_exceptions=True)


# Age.


async def test_within_half_a_second_nobody_is_asked(near: Fresh, inner: Silent, clock: Clock) -> None:
    await inner.write(KEY, b"1", expect=ANY)
    first = await near.stat(KEY)
    clock.now += 0.49
    assert await near.stat(KEY) == first
    await background(near)
    assert inner.asked == 1


async def test_from_half_of_revalidate_it_is_asked_behind_the_answer(near: Fresh, inner: Silent, clock: Clock) -> None:
    first = await inner.write(KEY, b"1", expect=ANY)
    await near.stat(KEY)
    second = await inner.write(KEY, b"2", expect=ANY)
    clock.now += 0.6
    assert (await near.stat(KEY)).etag == first
    await background(near)
    assert (await near.stat(KEY)).etag == second
    assert inner.asked == 2


async def test_what_is_older_is_asked_before_the_answer(near: Fresh, inner: Silent, clock: Clock) -> None:
    await inner.write(KEY, b"1", expect=ANY)
    await near.stat(KEY)
    second = await inner.write(KEY, b"2", expect=ANY)
    clock.now += 0.75
    assert (await near.stat(KEY)).etag == second
    # What a caller may believe on top of it makes up the whole second.
    assert 0.75 + near.believed <= 1.0


async def test_absence_is_remembered_and_ends_as_everything_else(near: Fresh, inner: Silent, clock: Clock) -> None:
    for _ in range(3):
        with pytest.raises(NotFound):
            await near.stat(KEY)
    assert inner.asked == 1
    await inner.write(KEY, b"1", expect=ANY)
    clock.now += 0.75
    assert (await near.stat(KEY)).size == 1


async def test_many_who_ask_at_once_share_one_question(near: Fresh, inner: Silent, clock: Clock) -> None:
    await inner.write(KEY, b"1", expect=ANY)
    inner.gate.clear()
    asking = [asyncio.create_task(near.stat(KEY)) for _ in range(50)]
    await asyncio.sleep(0)
    inner.gate.set()
    assert len(set(await asyncio.gather(*asking))) == 1
    assert inner.asked == 1


# Writes on this node.


async def test_all_workers_of_the_node_see_a_write_at_once(near: Fresh, worker: Fresh, clock: Clock) -> None:
    with pytest.raises(NotFound):
        await worker.stat(KEY)
    for body in (b"1", b"2"):
        pulse = worker.pulse()
        etag = await near.write(KEY, body, expect=ANY)
        assert worker.pulse() != pulse
        assert (await worker.stat(KEY)).etag == etag == (await near.stat(KEY)).etag
    await near.delete(KEY, expect=ANY)
    with pytest.raises(NotFound):
        await worker.stat(KEY)


async def test_an_answer_that_a_write_overtook_is_not_taken(
    near: Fresh, worker: Fresh, inner: Silent, clock: Clock
) -> None:
    await inner.write(KEY, b"1", expect=ANY)
    inner.gate.clear()
    asking = asyncio.create_task(near.stat(KEY))
    await asyncio.sleep(0)
    etag = await worker.write(KEY, b"2", expect=ANY)
    inner.gate.set()
    assert (await asking).etag == etag


async def test_a_change_never_rests_on_what_is_remembered(near: Fresh, inner: Silent, clock: Clock) -> None:
    documents = Documents[bytes](near, encode=bytes, decode=lambda data, _: data)
    await documents.change("a", lambda _: b"mine")
    await inner.write("a", b"theirs", expect=ANY)  # by another node, a moment ago
    seen = []

    def changed(held: bytes | None) -> bytes:
        seen.append(held)
        return b"both"

    await documents.change("a", changed)
    assert seen == [b"theirs"]


# While it is silent.


async def test_while_the_store_fails_what_it_said_stands_for_a_minute(near: Fresh, inner: Silent, clock: Clock) -> None:
    etag = await inner.write(KEY, b"1", expect=ANY)
    await near.stat(KEY)
    inner.error = Unavailable("down")
    for seconds in (2.0, 20.0, 37.9):
        clock.now += seconds
        assert (await near.stat(KEY)).etag == etag
        await background(near)
    clock.now += 0.2
    with pytest.raises(Unavailable, match="down"):
        await near.stat(KEY)


async def test_nobody_waits_twice_within_a_second_for_a_store_that_failed(
    near: Fresh, inner: Silent, clock: Clock
) -> None:
    await inner.write(KEY, b"1", expect=ANY)
    await near.stat(KEY)
    inner.error = Unavailable("down")
    clock.now += 2
    for _ in range(20):
        await near.stat(KEY)
    assert inner.asked == 2


async def test_a_store_that_hangs_is_not_waited_for(inner: Silent, tmp_path: Path) -> None:
    near = Fresh(inner, tmp_path / "node", revalidate=0.02, stale_for=60)
    etag = await inner.write(KEY, b"1", expect=ANY)
    await near.stat(KEY)
    inner.gate.clear()
    seen = near._seen[KEY]
    seen.asked -= 1.0
    began = time.monotonic()
    assert (await near.stat(KEY)).etag == etag
    assert time.monotonic() - began < 5
    await near.close()


async def test_when_it_answers_again_the_truth_is_back(near: Fresh, inner: Silent, clock: Clock) -> None:
    await inner.write(KEY, b"1", expect=ANY)
    await near.stat(KEY)
    inner.error = Unavailable("down")
    clock.now += 5
    await near.stat(KEY)
    inner.error = None
    etag = await inner.write(KEY, b"2", expect=ANY)
    clock.now += 1.1
    assert (await near.stat(KEY)).etag == etag


async def test_what_was_never_known_is_not_invented(near: Fresh, inner: Silent, clock: Clock) -> None:
    inner.error = Unavailable("down")
    with pytest.raises(Unavailable):
        await near.stat(KEY)


async def test_conditions_are_those_of_the_store(near: Fresh, inner: Silent) -> None:
    await near.write(KEY, b"1", expect=ABSENT)
    with pytest.raises(Conflict):
        await near.write(KEY, b"2", expect=ABSENT)


# Long listings.


async def test_a_long_listing_is_read_again_behind_those_who_ask(
    near: Fresh, inner: Silent, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fresh, "_LONG", 3)

    async def listed() -> list[str]:
        return [entry.key async for entry in near.list("a/")]

    for name in ("a/1", "a/2", "a/3"):
        await inner.write(name, b"", expect=ANY)
    assert await listed() == ["a/1", "a/2", "a/3"]
    await inner.write("a/4", b"", expect=ANY)
    clock.now += 0.5
    assert len(await listed()) == 3
    clock.now += 0.5
    assert len(await listed()) == 3  # and behind this answer it is read again
    await background(near)
    assert len(await listed()) == 4


async def test_a_short_listing_is_always_read(near: Fresh, inner: Silent, clock: Clock) -> None:
    """Whether a node is ready is asked by one."""
    for number in range(3):
        await inner.write(f"a/{number}", b"", expect=ANY)
        assert len([entry async for entry in near.list("a/")]) == number + 1


async def test_a_long_listing_that_nobody_asked_for_in_a_while_is_waited_for(
    near: Fresh, inner: Silent, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fresh, "_LONG", 3)
    for name in ("a/1", "a/2", "a/3"):
        await inner.write(name, b"", expect=ANY)
    assert len([entry async for entry in near.list("a/")]) == 3
    await inner.write("a/4", b"", expect=ANY)
    clock.now += 61
    assert len([entry async for entry in near.list("a/")]) == 4
