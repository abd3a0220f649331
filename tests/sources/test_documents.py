"""Small documents in a store: parsed once, changed only by compare-and-swap."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from entrepot.errors import Conflict, Denied, NotFound, Unavailable
from entrepot.index import ABSENT, ANY, Body, Content, Elsewhere, Etag, Expect, Span, Store
from entrepot.stores.documents import Documents, gathered, read_bytes
from entrepot.stores.memory import Memory

KEY = "main/numbers.json"
Numbers = tuple[int, ...]


def encode(numbers: Numbers) -> bytes:
    return ",".join(map(str, numbers)).encode()


def decode(data: bytes, key: str) -> Numbers:
    try:
        return tuple(map(int, data.split(b","))) if data else ()
    except ValueError as error:
        raise Unavailable(f"cannot be read: {error}", at=key) from error


def documents(store: Store, *, remember: int = 1) -> Documents[Numbers]:
    return Documents[Numbers](store, encode=encode, decode=decode, remember=remember)


def with_number(number: int) -> Callable[[Numbers | None], Numbers]:
    """Adds it once; if it is there, there is nothing to do."""

    def change(before: Numbers | None) -> Numbers:
        return before if before is not None and number in before else (*(before or ()), number)

    return change


async def test_a_document_that_is_not_there_is_none(store: Store) -> None:
    held = documents(store)
    assert await held.load(KEY) is None
    assert await held.etag(KEY) is None


async def test_a_change_makes_the_document_and_changes_it(store: Store) -> None:
    held = documents(store)
    assert await held.change(KEY, with_number(1)) == (1,)
    assert await held.change(KEY, with_number(2)) == (1, 2)
    assert await held.load(KEY) == await documents(store).load(KEY) == (1, 2)
    assert await read_bytes(store, KEY) == b"1,2"


async def test_a_change_that_has_nothing_to_do_writes_nothing(store: Store) -> None:
    held = documents(store)
    await held.change(KEY, with_number(1))
    before = await held.etag(KEY)
    await held.change(KEY, with_number(1))
    assert await held.etag(KEY) == before


async def test_what_another_process_wrote_is_seen_at_once(store: Store) -> None:
    here, there = documents(store), documents(store)
    await here.change(KEY, with_number(1))
    await there.change(KEY, with_number(2))
    assert await here.load(KEY) == (1, 2)
    assert await here.change(KEY, with_number(3)) == (1, 2, 3)
    await store.delete(KEY, expect=ANY)
    assert await here.load(KEY) is None
    assert await here.change(KEY, with_number(4)) == (4,)


async def test_a_document_is_parsed_once_while_it_stays_the_same(store: Store) -> None:
    await documents(store).change(KEY, with_number(1))
    held = documents(store)
    assert await held.load(KEY) is await held.load(KEY)
    written = await held.change(KEY, with_number(2))
    assert await held.load(KEY) is written


async def test_only_so_many_documents_are_remembered(store: Store) -> None:
    held = documents(store, remember=2)
    for key in ("a", "b", "c"):
        await store.write(key, b"1", expect=ANY)
    first = {key: await held.load(key) for key in ("a", "b", "c")}
    assert await held.load("c") is first["c"]
    assert await held.load("b") is first["b"]
    assert await held.load("a") is not first["a"]


async def test_a_change_that_refuses_changes_nothing(store: Store) -> None:
    held = documents(store)
    await held.change(KEY, with_number(1))

    def refuse(_: Numbers | None) -> Numbers:
        raise Conflict("File already exists")

    with pytest.raises(Conflict, match="File already exists"):
        await held.change(KEY, refuse)
    assert await held.change(KEY, with_number(2)) == (1, 2)  # and nobody is left waiting for its turn


async def test_a_document_that_cannot_be_read_is_not_overwritten(store: Store) -> None:
    await store.write(KEY, b"what?", expect=ABSENT)
    held = documents(store)
    for asking in (held.load(KEY), held.change(KEY, with_number(1))):
        with pytest.raises(Unavailable, match=r"^main/numbers\.json: cannot be read"):
            await asking
    assert await read_bytes(store, KEY) == b"what?"


async def test_changes_at_once_in_one_process_are_all_kept(store: Store, unsynced: None) -> None:
    held = documents(store)
    await asyncio.gather(*(held.change(KEY, with_number(number)) for number in range(40)))
    assert sorted(await held.load(KEY) or ()) == list(range(40))


async def test_changes_at_once_in_several_processes_are_all_kept(store: Store, unsynced: None) -> None:
    """As many holders of the documents as there would be processes."""
    holders = [documents(store) for _ in range(4)]
    await asyncio.gather(*(holders[number % 4].change(KEY, with_number(number)) for number in range(40)))
    assert sorted(await holders[0].load(KEY) or ()) == list(range(40))


class Meddled(Memory):
    """Before or after each of the first writes something happens, as the test says."""

    def __init__(self, *, before: Callable[[], Awaitable[object]] | None = None, times: int = 1) -> None:
        super().__init__()
        self.before = before
        self.times = times
        self.answers_lost = 0
        self.writes = 0

    async def write(self, key: str, body: Body, *, expect: Expect) -> Etag:
        self.writes += 1
        if self.before is not None and self.times:
            self.times -= 1
            await self.before()
        etag = await super().write(key, body, expect=expect)
        if self.answers_lost:
            self.answers_lost -= 1
            raise Conflict("it was changed since it was read", at=key)
        return etag


async def test_a_lost_swap_is_tried_again_on_what_is_there_now() -> None:
    async def meddle() -> None:
        await Memory.write(store, KEY, b"7", expect=ANY)

    store = Meddled(before=meddle)
    assert await documents(store).change(KEY, with_number(1)) == (7, 1)
    await store.close()


async def test_a_lost_answer_to_a_swap_that_succeeded_is_a_success() -> None:
    store = Meddled()
    store.answers_lost = 1
    assert await documents(store).change(KEY, with_number(1)) == (1,)
    assert await read_bytes(store, KEY) == b"1"
    assert store.writes == 1
    await store.close()


async def test_whoever_always_loses_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    async def meddle() -> None:
        await Memory.write(store, KEY, b"7", expect=ANY)

    def no_jitter(_low: float, _high: float) -> float:
        return 0

    monkeypatch.setattr("random.uniform", no_jitter)
    store = Meddled(before=meddle, times=1000)
    with pytest.raises(Unavailable, match=r"main/numbers\.json: 40 attempts to change it lost to other writers"):
        await documents(store).change(KEY, with_number(1))
    await store.close()


async def test_one_that_is_cancelled_does_not_keep_the_others_waiting() -> None:
    waiting, going_on = asyncio.Event(), asyncio.Event()

    async def wait() -> None:
        waiting.set()
        await going_on.wait()

    store = Meddled(before=wait)
    held = documents(store)
    first = asyncio.create_task(held.change(KEY, with_number(1)))
    await waiting.wait()
    second = asyncio.create_task(held.change(KEY, with_number(2)))
    first.cancel()
    assert await second == (2,)
    with pytest.raises(asyncio.CancelledError):
        await first
    await store.close()


async def test_bytes_newer_than_their_etag_make_the_swap_fail_and_are_never_kept_as_older() -> None:
    """Between the stat and the read another writer comes."""

    class Racing(Memory):
        racing = True

        async def read(self, key: str, span: Span | None = None) -> Content:
            if self.racing:
                self.racing = False
                await self.write(key, b"1,2", expect=ANY)
            return await super().read(key, span)

    store = Racing()
    await store.write(KEY, b"1", expect=ABSENT)
    held = documents(store)
    assert await held.change(KEY, with_number(3)) == (1, 2, 3)
    assert await held.load(KEY) == (1, 2, 3)
    await store.close()


async def test_a_redirect_is_no_answer_to_a_small_read() -> None:
    with pytest.raises(Unavailable, match="redirect"):
        await gathered(Elsewhere(url="https://elsewhere.example/"))


async def test_reading_what_is_not_there_is_not_found(store: Store) -> None:
    with pytest.raises(NotFound):
        await read_bytes(store, KEY)


async def test_other_errors_than_conflicts_are_not_tried_again() -> None:
    async def refuse() -> None:
        raise Denied("read only")

    store = Meddled(before=refuse, times=5)
    with pytest.raises(Denied):
        await documents(store).change(KEY, with_number(1))
    assert store.writes == 1
    await store.close()
