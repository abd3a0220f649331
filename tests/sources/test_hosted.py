"""What is particular to hosted indexes: their bytes are written before anything names them."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from itertools import count

import pytest

from entrepot.errors import NotFound, Unavailable
from entrepot.index import ANY, Body, Content, Elsewhere, Etag, Expect, Span, Store
from entrepot.sources.hosted import Hosted, blob_key, record_key
from entrepot.stores.documents import read_bytes
from entrepot.stores.memory import Memory
from tests.sources.interrupted import Interrupted
from tests.sources.samples import DEMO, NOON, add, addition, bytes_of, everything, grave, shown

WHEEL = "demo-1.0-py3-none-any.whl"

Ask = Callable[[], Awaitable[object]]


async def test_the_layout_is_the_one_that_is_documented(store: Store, hosted: Hosted) -> None:
    made = addition(store.traits.staging, WHEEL)
    await hosted.add(made)
    sha256 = made.staged.sha256
    assert [entry.key async for entry in store.list("")] == [
        f"main/blobs/{sha256[:2]}/{sha256}/{WHEEL}",
        f"main/blobs/{sha256[:2]}/{sha256}/{WHEEL}.metadata",
        "main/names.json",
        "main/projects/demo.json",
    ]


async def test_nothing_is_written_where_nothing_is_to_be_added() -> None:
    class Watched(Memory):
        writes = 0

        async def write(self, key: str, body: Body, *, expect: Expect) -> Etag:
            self.writes += 1
            return await super().write(key, body, expect=expect)

    store = Watched()
    hosted = Hosted("main", store)
    await add(hosted, WHEEL)
    before = store.writes
    await add(hosted, WHEEL)
    with suppress(Exception):
        await add(hosted, WHEEL, data=b"other")
    assert store.writes == before
    await store.close()


async def test_bytes_that_vanish_before_the_record_names_them_are_written_again() -> None:
    """A store may be unable to delete only what is unchanged; then a `gc` beside an upload can do this."""
    noticed = 0
    for at in count(1):
        memory = Memory()

        async def vanish(memory: Memory = memory) -> None:
            nonlocal noticed
            with suppress(NotFound):
                await memory.stat(record_key("main", DEMO))
                return  # too late: gc does not touch what a record names
            async for entry in memory.list("main/blobs/"):
                noticed += 1
                await memory.delete(entry.key, expect=ANY)

        store = Interrupted(memory, at, vanish)
        assert await add(Hosted("main", store), WHEEL)
        assert await bytes_of(Hosted("main", memory), WHEEL) == WHEEL.encode()
        assert await grave(memory) == []
        await memory.close()
        if not store.happened:
            break
    assert noticed > 0


async def test_an_upload_that_fails_at_any_step_leaves_no_record_that_names_missing_bytes() -> None:
    for at in count(1):
        memory = Memory()

        async def fail() -> None:
            raise Unavailable("the disk is full", status=507)

        store = Interrupted(memory, at, fail)
        with suppress(Unavailable):
            await add(Hosted("main", store), WHEEL)
        assert await grave(memory) == []
        await add(Hosted("main", memory), WHEEL)
        assert await bytes_of(Hosted("main", memory), WHEEL) == WHEEL.encode()
        await memory.close()
        if not store.happened:
            break


async def test_a_damaged_record_is_unavailable_and_never_absent(store: Store, hosted: Hosted) -> None:
    """Else the next index, perhaps the public one, would answer for the name."""
    await add(hosted, WHEEL)
    await store.write(record_key("main", DEMO), b"{", expect=ANY)
    asking: list[Ask] = [
        lambda: hosted.project(DEMO),
        lambda: hosted.files(DEMO),
        lambda: hosted.removed(DEMO),
        lambda: add(hosted, "demo-2.0.tar.gz"),
        lambda: hosted.remove(DEMO, frozenset({WHEEL}), by="x", now=NOON),
        lambda: hosted.restore(DEMO, frozenset({WHEEL})),
    ]
    for ask in asking:
        with pytest.raises(Unavailable, match=r"^main/projects/demo\.json: the record cannot be read"):
            await ask()
    assert await read_bytes(store, record_key("main", DEMO)) == b"{"


async def test_two_indexes_of_one_store_know_nothing_of_each_other(store: Store, hosted: Hosted) -> None:
    other = Hosted("other", store)
    await add(hosted, WHEEL)
    with pytest.raises(NotFound):
        await other.project(DEMO)
    assert [name async for name in other.projects()] == []
    assert await add(other, WHEEL, data=b"other bytes")
    assert await bytes_of(hosted, WHEEL) == WHEEL.encode()
    assert await bytes_of(other, WHEEL) == b"other bytes"


async def test_a_restoration_over_a_store_that_redirects_says_what_is_wrong() -> None:
    class Redirecting(Memory):
        async def read(self, key: str, span: Span | None = None) -> Content:
            return Elsewhere(url="https://elsewhere.example") if "/blobs/" in key else await super().read(key, span)

    store = Redirecting()
    hosted = Hosted("main", store)
    await add(hosted, WHEEL)
    await hosted.remove(DEMO, frozenset({WHEEL}), by="x", now=NOON)
    with pytest.raises(Unavailable, match="redirect"):
        await hosted.restore(DEMO, frozenset({WHEEL}))
    await store.close()


async def test_bytes_that_are_gone_are_not_found(store: Store, hosted: Hosted) -> None:
    made = addition(store.traits.staging, WHEEL)
    await hosted.add(made)
    key = blob_key("main", made.staged.sha256, WHEEL)
    for gone in (key, f"{key}.metadata"):
        await store.delete(gone, expect=ANY)
    file = (await hosted.project(DEMO)).file(WHEEL)
    with pytest.raises(NotFound):
        await hosted.open(DEMO, file)
    with pytest.raises(NotFound):
        await hosted.open_metadata(DEMO, file)


async def test_a_download_that_runs_is_not_cut_by_a_removal(store: Store, hosted: Hosted) -> None:
    await add(hosted, WHEEL)
    content = await hosted.open(DEMO, (await hosted.project(DEMO)).file(WHEEL), Span(0, 10**6))
    await hosted.remove(DEMO, frozenset({WHEEL}), by="x", now=NOON)
    assert await shown(hosted) == []
    assert await everything(content) == WHEEL.encode()
