"""What every store promises, whatever it lies in. See the protocol `Store` in entrepot.index."""

import asyncio
import hashlib
import os
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from entrepot.errors import Conflict, Invalid, NotFound
from entrepot.index import ABSENT, ANY, Content, Elsewhere, Etag, OnDisk, Span, Staged, Store, Stream
from entrepot.stores.keys import RESERVED
from entrepot.stores.staging import open_staging
from tests.servers.buckets import SERVERS

KEY = "private/projects/numpy.json"

NASTY_KEYS = (
    "",
    "/",
    "/etc/passwd",
    "a/",
    "a//b",
    ".",
    "..",
    "../a",
    "a/..",
    "a/../../b",
    "a/./b",
    "a\\b",
    "a/..\\..\\b",
    "a\0b",
    "a\nb",
    "a\x7f",
    "a\x9bb",
    "a/\ud800",
    "\udcff",
    "a" * 256,
    "a/" + "é" * 128,
    "/".join(["a" * 250] * 5),
    *(f"{name}{rest}" for name in sorted(RESERVED) for rest in ("", "/a", "/../a")),
)
UNUSUAL_KEYS = (
    "...",
    "a/..b",
    ".hidden/.a",
    "a b/c%20d",
    "locksmith/staging",
    "a/locks/entrepot.json",
    "ünïcödé/日本語/🐍",
    "~root",
    "-rf",
    "a:b?c*d|e",
    "x" * 255,
    "/".join(["d" * 203] * 5),
    "/".join("d" * 500),
)


async def content(store: Store, key: str, span: Span | None = None) -> bytes:
    return await all_of(await store.read(key, span))


async def all_of(opened: Content) -> bytes:
    match opened:
        case OnDisk(path=path, size=size):
            found = path.read_bytes()
        case Stream(body=body, size=size):
            found = b"".join([piece async for piece in body])
        case Elsewhere():
            raise AssertionError("the contract suite has no client to follow this")
    assert size in (None, len(found))
    return found


async def keys(store: Store, prefix: str = "", after: str = "") -> list[str]:
    return [entry.key async for entry in store.list(prefix, after=after)]


async def pieces(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


def stage(store: Store, data: bytes) -> Staged:
    path = store.traits.staging / "upload"
    path.write_bytes(data)
    return Staged(path=path, size=len(data), sha256=hashlib.sha256(data).hexdigest())


def left_in_staging(store: Store) -> list[Path]:
    return list(store.traits.staging.iterdir())


# Reading and writing


async def test_what_was_written_is_read(store: Store) -> None:
    await store.write(KEY, b"one", expect=ANY)
    assert await content(store, KEY) == b"one"


async def test_what_was_overwritten_is_read_anew(store: Store) -> None:
    await store.write(KEY, b"one", expect=ANY)
    await store.write(KEY, b"another", expect=ANY)
    assert await content(store, KEY) == b"another"


async def test_an_empty_object_is_an_object(store: Store) -> None:
    await store.write(KEY, b"", expect=ABSENT)
    assert await content(store, KEY) == b""
    assert (await store.stat(KEY)).size == 0


async def test_a_streamed_body_is_read_whole(store: Store) -> None:
    parts = [bytes([number]) * 300_000 for number in range(9)]
    await store.write(KEY, pieces(*parts), expect=ANY)
    assert await content(store, KEY) == b"".join(parts)
    assert left_in_staging(store) == []


async def test_a_staged_file_is_read_whole_and_its_owner_removes_it(store: Store) -> None:
    staged = stage(store, b"wheel")
    await store.write(KEY, staged, expect=ABSENT)
    assert left_in_staging(store) == [staged.path]
    staged.path.unlink()
    assert await content(store, KEY) == b"wheel"


async def test_a_staged_file_that_is_held_in_memory_needs_no_path(store: Store) -> None:
    data = b"wheel"
    nowhere = store.traits.staging / "never written"
    staged = Staged(path=nowhere, size=len(data), sha256=hashlib.sha256(data).hexdigest(), held=data)
    await store.write(KEY, staged, expect=ABSENT)
    await store.write_all({KEY: staged, f"{KEY}.metadata": b"m"})
    assert await content(store, KEY) == data
    assert left_in_staging(store) == []


async def test_a_staging_file_that_is_still_open_can_be_handed_over(store: Store) -> None:
    with open_staging(store.traits.staging) as staging:
        staging.write(b"whe")
        staging.write(b"el")
        staged = Staged(path=staging.path, size=5, sha256=hashlib.sha256(b"wheel").hexdigest())
        await store.write(KEY, staged, expect=ABSENT)
    assert await content(store, KEY) == b"wheel"
    assert left_in_staging(store) == []


async def test_a_staged_file_can_be_written_to_the_same_key_again(store: Store) -> None:
    staged = stage(store, b"wheel")
    first = await store.write(KEY, staged, expect=ANY)
    second = await store.write(KEY, staged, expect=ANY)
    assert first != second or store.traits.etags_of_content
    assert (await store.stat(KEY)).etag == second
    assert await content(store, KEY) == b"wheel"
    assert left_in_staging(store) == [staged.path]


async def test_a_staged_file_replaces_what_was_there(store: Store) -> None:
    before = await store.write(KEY, b"old", expect=ANY)
    after = await store.write(KEY, stage(store, b"new"), expect=before)
    assert await content(store, KEY) == b"new"
    assert (await store.stat(KEY)).etag == after


async def test_several_objects_are_written_together_whatever_is_there(store: Store) -> None:
    before = await store.write(KEY, b"old", expect=ANY)
    staged = stage(store, b"new")
    await store.write_all({KEY: staged, f"{KEY}.metadata": b"Name: numpy", "elsewhere/it": b""})
    assert [await content(store, key) for key in (KEY, f"{KEY}.metadata", "elsewhere/it")] == [
        b"new",
        b"Name: numpy",
        b"",
    ]
    assert (await store.stat(KEY)).etag != before
    assert left_in_staging(store) == [staged.path]


async def test_of_several_objects_none_is_written_under_a_nasty_key(store: Store) -> None:
    with pytest.raises(Invalid):
        await store.write_all({KEY: b"wheel", "../outside": b"x"})
    assert await keys(store) in ([], [KEY])


async def test_stat_tells_size_time_and_the_etag_that_write_returned(store: Store) -> None:
    etag = await store.write(KEY, b"12345", expect=ANY)
    entry = await store.stat(KEY)
    assert (entry.key, entry.size, entry.etag) == (KEY, 5, etag)
    assert 1_700_000_000 < entry.modified < 5_000_000_000


async def test_what_is_not_there_is_not_found(store: Store) -> None:
    with pytest.raises(NotFound):
        await store.stat(KEY)
    with pytest.raises(NotFound):
        await store.read(KEY)
    with pytest.raises(NotFound):
        await store.read(KEY, Span(0, 1))


@pytest.mark.parametrize(
    ("start", "stop", "expected"),
    [
        (0, 10, b"0123456789"),
        (2, 5, b"234"),
        (9, 10, b"9"),
        (8, 99, b"89"),
        (10, 20, b""),
        (50, 60, b""),
        (4, 4, b""),
    ],
)
async def test_a_span_is_cut_to_the_object(store: Store, start: int, stop: int, expected: bytes) -> None:
    await store.write(KEY, b"0123456789", expect=ANY)
    assert await content(store, KEY, Span(start, stop)) == expected


async def test_a_long_span_comes_whole(store: Store) -> None:
    data = bytes(range(256)) * 4000
    await store.write(KEY, data, expect=ANY)
    assert await content(store, KEY, Span(1, 900_000)) == data[1:900_000]


async def test_a_span_is_of_the_object_as_it_was_when_it_was_opened(store: Store) -> None:
    await store.write(KEY, b"before", expect=ANY)
    opened = await store.read(KEY, Span(0, 6))
    await store.write(KEY, b"afterwards", expect=ANY)
    assert await all_of(opened) == b"before"


# Bodies that fail


async def test_a_body_that_breaks_off_leaves_nothing(store: Store) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"x" * 3_000_000
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await store.write(KEY, broken(), expect=ANY)
    assert await keys(store) == []
    assert left_in_staging(store) == []


async def test_a_body_that_breaks_off_leaves_the_old_object(store: Store) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"x"
        raise ConnectionResetError

    before = await store.write(KEY, b"before", expect=ANY)
    with pytest.raises(ConnectionResetError):
        await store.write(KEY, broken(), expect=ANY)
    assert await content(store, KEY) == b"before"
    assert (await store.stat(KEY)).etag == before


async def test_a_cancelled_body_leaves_nothing(store: Store) -> None:
    waiting = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        yield b"x" * 3_000_000
        waiting.set()
        await asyncio.Event().wait()

    writing = asyncio.create_task(store.write(KEY, endless(), expect=ANY))
    await waiting.wait()
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    assert await keys(store) == []
    assert left_in_staging(store) == []


async def test_a_staged_file_of_another_size_is_invalid(store: Store) -> None:
    staged = stage(store, b"wheel")
    wrong = Staged(path=staged.path, size=4, sha256=staged.sha256)
    with pytest.raises(Invalid):
        await store.write(KEY, wrong, expect=ANY)
    assert await keys(store) == []
    assert left_in_staging(store) == [staged.path]


async def test_a_staged_file_that_is_gone_is_invalid(store: Store) -> None:
    staged = stage(store, b"wheel")
    staged.path.unlink()
    with pytest.raises(Invalid):
        await store.write(KEY, staged, expect=ANY)
    assert left_in_staging(store) == []


# Conditions


async def test_absent_means_that_only_the_first_write_succeeds(store: Store) -> None:
    await store.write(KEY, b"first", expect=ABSENT)
    for body in (b"second", pieces(b"sec", b"ond"), stage(store, b"second")):
        with pytest.raises(Conflict):
            await store.write(KEY, body, expect=ABSENT)
    assert await content(store, KEY) == b"first"
    assert [path.name for path in left_in_staging(store)] == ["upload"]


async def test_the_right_etag_swaps_and_a_stale_one_conflicts(store: Store) -> None:
    first = await store.write(KEY, b"1", expect=ABSENT)
    second = await store.write(KEY, b"2", expect=first)
    with pytest.raises(Conflict):
        await store.write(KEY, b"3", expect=first)
    assert await content(store, KEY) == b"2"
    await store.write(KEY, b"4", expect=second)
    assert await content(store, KEY) == b"4"


async def test_an_etag_conflicts_where_nothing_is(store: Store) -> None:
    etag = await store.write(KEY, b"1", expect=ABSENT)
    await store.delete(KEY, expect=ANY)
    with pytest.raises(Conflict):
        await store.write(KEY, b"2", expect=etag)
    with pytest.raises(Conflict):
        await store.write("other", b"2", expect=Etag("never"))
    assert await keys(store) == []


async def test_of_many_writers_that_expect_nothing_one_wins(store: Store) -> None:
    bodies = [f"{number}".encode() for number in range(16)]
    outcomes = await asyncio.gather(*(store.write(KEY, body, expect=ABSENT) for body in bodies), return_exceptions=True)
    won = [body for body, outcome in zip(bodies, outcomes, strict=True) if not isinstance(outcome, Conflict)]
    assert won == [await content(store, KEY)]


async def test_no_etag_comes_back_when_a_key_is_deleted_and_written_again(store: Store) -> None:
    seen = set()
    for _ in range(50):
        seen.add(await store.write(KEY, b"same", expect=ABSENT))
        await store.delete(KEY, expect=ANY)
    assert len(seen) == (1 if store.traits.etags_of_content and len(seen) == 1 else 50)


# Deleting


async def test_a_deleted_object_is_gone(store: Store) -> None:
    etag = await store.write(KEY, b"1", expect=ANY)
    await store.delete(KEY, expect=etag)
    assert await keys(store) == []
    with pytest.raises(NotFound):
        await store.stat(KEY)


async def test_deleting_what_is_not_there_is_fine_unless_an_etag_is_expected(store: Store) -> None:
    await store.delete(KEY, expect=ANY)
    await store.write("a", b"1", expect=ANY)
    await store.delete("a/b", expect=ANY)
    with pytest.raises(Conflict):
        await store.delete(KEY, expect=Etag("never"))


async def test_a_stale_delete_conflicts(store: Store) -> None:
    stale = await store.write(KEY, b"1", expect=ANY)
    await store.write(KEY, b"2", expect=ANY)
    with pytest.raises(Conflict):
        await store.delete(KEY, expect=stale)
    assert await content(store, KEY) == b"2"


async def test_a_delete_cannot_expect_nothing(store: Store) -> None:
    with pytest.raises(ValueError, match="nothing"):
        await store.delete(KEY, expect=ABSENT)


async def test_deletes_and_writes_in_one_folder_do_not_disturb_each_other(store: Store) -> None:
    async def come_and_go(name: str) -> None:
        for _ in range(25):
            await store.write(f"a/b/c/{name}", b"x", expect=ABSENT)
            await store.delete(f"a/b/c/{name}", expect=ANY)

    await asyncio.gather(*(come_and_go(f"{number}") for number in range(6)))
    assert await keys(store) == []


# Keys


async def test_a_nasty_key_is_refused_by_every_verb(store: Store) -> None:
    for key in NASTY_KEYS:
        with pytest.raises(Invalid):
            await store.stat(key)
        with pytest.raises(Invalid):
            await store.read(key)
        for body in (b"x", pieces(b"x"), stage(store, b"x")):
            with pytest.raises(Invalid):
                await store.write(key, body, expect=ANY)
        with pytest.raises(Invalid):
            await store.delete(key, expect=ANY)
    assert await keys(store) == []


@pytest.mark.parametrize("key", UNUSUAL_KEYS)
async def test_an_unusual_key_is_a_key(store: Store, key: str) -> None:
    etag = await store.write(key, b"x", expect=ABSENT)
    assert (await store.stat(key)).etag == etag
    assert await content(store, key) == b"x"
    assert await keys(store) == [key]
    assert await keys(store, key) == [key]
    await store.delete(key, expect=etag)
    assert await keys(store) == []


async def test_a_folder_is_no_object(store: Store) -> None:
    await store.write("a/b/c", b"1", expect=ANY)
    for key in ("a", "a/b", "a/b/c/d"):
        with pytest.raises(NotFound):
            await store.stat(key)
        with pytest.raises(NotFound):
            await store.read(key)
        await store.delete(key, expect=ANY)
    assert await keys(store) == ["a/b/c"]


async def test_no_key_is_both_an_object_and_a_folder_where_there_are_folders(store: Store) -> None:
    await store.write("a/b", b"1", expect=ANY)
    if not store.traits.folders:
        await store.write("a/b/c", b"2", expect=ABSENT)
        assert await keys(store) == ["a/b", "a/b/c"]
        return
    for key in ("a", "a/b/c", "a/b/c/d"):
        for body in (b"2", pieces(b"2"), stage(store, b"2")):
            for expect in (ANY, ABSENT):
                with pytest.raises(Conflict):
                    await store.write(key, body, expect=expect)
    assert await keys(store) == ["a/b"]
    assert await content(store, "a/b") == b"1"


# Listing


async def test_a_list_is_in_the_order_of_the_keys_and_not_of_the_folders(store: Store) -> None:
    in_order = ["a!", "a-b/c", "a.txt", "a/b", "a/b0", "a0", "é"]
    for key in reversed(in_order):
        await store.write(key, b"", expect=ANY)
    assert await keys(store) == in_order
    assert await keys(store, "a/") == ["a/b", "a/b0"]
    assert await keys(store, "a-") == ["a-b/c"]
    assert await keys(store, "", after="a.txt") == ["a/b", "a/b0", "a0", "é"]
    assert await keys(store, "", after="a/b") == ["a/b0", "a0", "é"]
    assert await keys(store, "a/b", after="a/b") == ["a/b0"]


async def test_a_list_holds_what_stat_tells(store: Store) -> None:
    for number in range(40):
        await store.write(f"x/{number:02}", b"y" * number, expect=ANY)
    listed = [entry async for entry in store.list("x/")]
    assert listed == [await store.stat(f"x/{number:02}") for number in range(40)]


async def test_a_list_of_a_prefix_without_keys_is_empty(store: Store) -> None:
    await store.write("a/b", b"", expect=ANY)
    for prefix in ("b", "a/b/", "a/b/c/d", "a/c", "nowhere/at/all/", "locks/", "staging/x", "trash", "a\nb"):
        assert await keys(store, prefix) == []


@pytest.mark.parametrize("prefix", ["/", "//", "../", "../x", "a/../", "a/./b", "a//", "a\0/", "\udcff/"])
async def test_a_list_of_a_nasty_prefix_is_refused(store: Store, prefix: str) -> None:
    with pytest.raises(Invalid):
        await keys(store, prefix)


async def test_a_list_can_be_left_early(store: Store) -> None:
    for number in range(30):
        await store.write(f"{number:02}", b"", expect=ANY)
    entries = store.list("")
    assert (await anext(entries)).key == "00"


async def test_a_list_survives_that_everything_is_deleted_meanwhile(store: Store) -> None:
    names = [f"{number:02}/x" for number in range(40)]
    for name in names:
        await store.write(name, b"", expect=ANY)
    listed = []
    async for entry in store.list(""):
        listed.append(entry.key)
        for name in names if len(listed) == 1 else ():
            await store.delete(name, expect=ANY)
    assert listed == names[: len(listed)]


Factory = Callable[[Path], AbstractAsyncContextManager[Store]]
_segments = st.sampled_from(["a", "b", "a-", "a.b", "a0", "é", "..", "a~"])
_keys = st.lists(_segments, min_size=1, max_size=3).map("/".join)
_marks = st.tuples(st.integers(0, 11), st.integers(0, 11), st.text(alphabet="ab-./0~é", max_size=2))


Mark = tuple[int, int, str]


def near(wanted: list[str], mark: Mark) -> str:
    """The beginning of one of the keys, and perhaps something more: what makes a difference."""
    which, length, more = mark
    return (wanted[which % len(wanted)] if wanted else "")[:length] + more


@pytest.mark.parametrize("driver", ["memory", "disk"], indirect=True)
@given(wanted=st.lists(_keys, max_size=12), prefix=_marks, after=_marks)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_a_list_is_the_sorted_keys_with_the_prefix_after_the_mark(
    driver: Factory, monkeypatch: pytest.MonkeyPatch, wanted: list[str], prefix: Mark, after: Mark
) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)  # thousands of them, and nothing here is about them
    await list_is_right(driver, wanted, near(wanted, prefix), near(wanted, after))


@pytest.mark.parametrize("driver", SERVERS, indirect=True)
@given(wanted=st.lists(_keys, max_size=12), prefix=_marks, after=_marks)
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_a_list_of_a_bucket_is_too(driver: Factory, wanted: list[str], prefix: Mark, after: Mark) -> None:
    await list_is_right(driver, wanted, near(wanted, prefix), near(wanted, after))


async def list_is_right(driver: Factory, wanted: list[str], start: str, mark: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with driver(Path(folder)) as store:
            there = set()
            for key in wanted:
                try:
                    await store.write(key, b"", expect=ANY)
                except (Invalid, Conflict):
                    continue  # not a key, or the folder of one
                there.add(key)
            expected = sorted(key for key in there if key.startswith(start) and key > mark)
            try:
                assert await keys(store, start, mark) == expected
            except Invalid:
                assert expected == []
