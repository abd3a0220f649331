"""`gc`: bytes that nothing names go in two runs, a day apart, and never any that something names by then."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from itertools import count
from pathlib import Path

import pytest

from entrepot.errors import EntrepotError, NotFound, Unavailable
from entrepot.index import ANY, Staged, Store
from entrepot.model import ProjectName
from entrepot.sources.hosted import Hosted, blob_key, record_key
from entrepot.sources.upkeep import collect
from entrepot.stores.documents import read_bytes
from entrepot.stores.memory import Memory
from tests.sources.interrupted import Interrupted
from tests.sources.samples import DEMO, NOON, add, addition, bytes_of, faults, grave, shown
from tests.stores import conftest as stores

WHEEL = "demo-1.0-py3-none-any.whl"
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)


async def orphan(store: Store, filename: str = WHEEL, data: bytes | None = None) -> list[str]:
    """The bytes of an upload that was cut before its record was written; their keys."""
    made = addition(store.traits.staging, filename, data=data)
    key = blob_key("main", made.staged.sha256, filename)
    bodies: dict[str, bytes | Staged] = {key: made.staged}
    if made.metadata is not None:
        bodies[f"{key}.metadata"] = made.metadata
    await store.write_all(bodies)
    made.staged.path.unlink()
    return list(bodies)


async def held(store: Store) -> dict[str, bytes]:
    """Everything that is in the store."""
    return {entry.key: await read_bytes(store, entry.key) async for entry in store.list("")}


# One run marks, a later one deletes


async def test_the_first_run_marks_and_one_a_day_later_deletes(store: Store, hosted: Hosted) -> None:
    await add(hosted, "demo-2.0.tar.gz")
    orphans = await orphan(store)
    first = await collect(store, now=NOON)
    assert (first.deleted, first.marked) == ((), tuple(orphans))
    assert first.marked_size == sum([len(await read_bytes(store, key)) for key in orphans])
    second = await collect(store, now=NOON + DAY)
    assert (second.deleted, second.marked, second.deleted_size) == (tuple(orphans), (), first.marked_size)
    assert await faults(store) == []
    assert await bytes_of(hosted, "demo-2.0.tar.gz") == b"demo-2.0.tar.gz"


async def test_runs_less_than_a_day_apart_delete_nothing(store: Store) -> None:
    orphans = await orphan(store)
    await collect(store, now=NOON)
    for passed in (timedelta(), HOUR, DAY - timedelta(seconds=1)):
        again = await collect(store, now=NOON + passed)
        assert (again.deleted, again.marked) == ((), tuple(orphans))
    assert (await collect(store, now=NOON + DAY)).deleted == tuple(orphans)


async def test_a_clock_that_goes_back_deletes_nothing(store: Store) -> None:
    await orphan(store)
    await collect(store, now=NOON)
    assert (await collect(store, now=NOON - 10 * DAY)).deleted == ()


@pytest.mark.parametrize("store", stores.EXACT, indirect=True)
async def test_what_was_written_again_is_marked_anew(store: Store) -> None:
    """As an upload does that runs while the second run is on its way."""
    orphans = await orphan(store)
    await collect(store, now=NOON)
    await orphan(store)
    again = await collect(store, now=NOON + DAY)
    assert (again.deleted, again.marked) == ((), tuple(orphans))
    assert (await collect(store, now=NOON + 2 * DAY)).deleted == tuple(orphans)


async def test_what_was_published_after_all_is_kept(store: Store, hosted: Hosted) -> None:
    await orphan(store)
    await collect(store, now=NOON)
    await add(hosted, WHEEL)
    again = await collect(store, now=NOON + DAY)
    assert (again.deleted, again.marked) == ((), ())
    assert await bytes_of(hosted, WHEEL) == WHEEL.encode()


async def test_marks_of_what_is_gone_are_forgotten(store: Store) -> None:
    for key in await orphan(store):
        await collect(store, now=NOON)
        await store.delete(key, expect=ANY)
    await collect(store, now=NOON + HOUR)
    assert b"blobs" not in await read_bytes(store, "gc/marks.json")
    await orphan(store)
    assert (await collect(store, now=NOON + DAY)).deleted == ()


async def test_an_index_that_is_not_configured_any_more_keeps_what_it_names(store: Store) -> None:
    former = Hosted("former", store)
    await add(former, WHEEL)
    for day in range(3):
        assert (await collect(store, now=NOON + day * DAY)).deleted == ()
    assert await bytes_of(former, WHEEL) == WHEEL.encode()


async def test_equal_bytes_of_another_index_or_name_are_no_reason_to_keep_them(store: Store, hosted: Hosted) -> None:
    await add(hosted, "demo-2.0.tar.gz", data=b"same")
    await add(Hosted("another", store), "demo-1.0.tar.gz", data=b"same")
    orphans = await orphan(store, "demo-1.0.tar.gz", b"same")
    await collect(store, now=NOON)
    assert (await collect(store, now=NOON + DAY)).deleted == tuple(orphans)
    assert await bytes_of(hosted, "demo-2.0.tar.gz") == b"same"
    assert await grave(store) == []


async def test_a_dry_run_says_what_would_be_done_and_changes_nothing(store: Store, hosted: Hosted) -> None:
    await add(hosted, "demo-2.0.tar.gz")
    orphans = await orphan(store)
    before = await held(store)
    assert (await collect(store, now=NOON, dry_run=True)).marked == tuple(orphans)
    assert await held(store) == before
    await collect(store, now=NOON)
    before = await held(store)
    would = await collect(store, now=NOON + DAY, dry_run=True)
    assert would.deleted == tuple(orphans)
    assert await held(store) == before
    assert await collect(store, now=NOON + DAY) == would


# Removed files


async def test_bytes_of_a_removed_file_are_kept_seven_days_and_then_collected(store: Store, hosted: Hosted) -> None:
    await add(hosted, WHEEL)
    await hosted.remove(DEMO, frozenset({WHEEL}), by="x", now=NOON)
    for day in range(7):
        done = await collect(store, now=NOON + day * DAY)
        assert (done.deleted, done.marked) == ((), ())
    assert len((await collect(store, now=NOON + 7 * DAY)).marked) == 2
    assert len((await collect(store, now=NOON + 8 * DAY)).deleted) == 2
    assert await faults(store) == []
    with pytest.raises(NotFound, match="are gone: it was deleted too long ago"):
        await hosted.restore(DEMO, frozenset({WHEEL}))


async def test_a_file_restored_after_it_was_marked_is_kept(store: Store, hosted: Hosted) -> None:
    await add(hosted, WHEEL)
    await hosted.remove(DEMO, frozenset({WHEEL}), by="x", now=NOON)
    await collect(store, now=NOON + 8 * DAY)
    await hosted.restore(DEMO, frozenset({WHEEL}))
    for day in (9, 10, 11):
        assert (await collect(store, now=NOON + day * DAY)).deleted == ()
    assert await bytes_of(hosted, WHEEL) == WHEEL.encode()
    assert await faults(store) == []


# When in doubt, nothing is collected

Damage = Callable[[Store], Awaitable[object]]


async def write_record(store: Store, data: bytes) -> None:
    await store.write(record_key("main", ProjectName("other")), data, expect=ANY)


DOUBTS: dict[str, tuple[bytes, str]] = {
    "a record that is no JSON": (b"{", r"the record cannot be read: .* so nothing is collected"),
    "an empty record": (b"", r"the record cannot be read: .* so nothing is collected"),
    "a record of a later program": (
        b'{"schema":9,"name":"other","elsewhere":[]}',
        r"schema 9.*what it names is not known, so nothing is collected",
    ),
    "a file without a digest": (
        b'{"name":"other","files":[{"filename":"other-1.tar.gz","version":"1"}]}',
        r"it does not say where the bytes of 'other-1\.tar\.gz' are: it has no true sha256.* so nothing is collected",
    ),
    "a removed file without a digest": (
        b'{"name":"other","removed":[{"file":{"filename":"a-1.gz","version":"1"},"at":"2026-11-20T00:00:00Z","by":""}]}',
        r"it does not say where the bytes of 'a-1\.gz' are: it has no true sha256.* so nothing is collected",
    ),
    "a record whose bytes are elsewhere": (
        b'{"name":"other","files":[{"filename":"other-1.tar.gz","version":"1","hashes":{"sha256":"%s"}}]}'
        % (b"0" * 64),
        rf"names main/blobs/00/{'0' * 64}/other-1\.tar\.gz, which is missing; nothing is collected",
    ),
}


@pytest.mark.parametrize("doubt", DOUBTS)
async def test_what_a_damaged_record_names_is_not_known_so_nothing_is_collected(store: Store, doubt: str) -> None:
    await orphan(store)
    await collect(store, now=NOON)
    data, words = DOUBTS[doubt]
    await write_record(store, data)
    before = await held(store)
    with pytest.raises(Unavailable, match=rf"^main/projects/other\.json: .*{words} .*`entrepot check` tells all"):
        await collect(store, now=NOON + DAY)
    assert await held(store) == before


async def test_marks_that_cannot_be_read_are_named_with_a_way_out(store: Store) -> None:
    orphans = await orphan(store)
    await store.write("gc/marks.json", b"what?", expect=ANY)
    with pytest.raises(Unavailable, match=r"gc/marks\.json: cannot be read: .* \(delete it: marking starts anew\)"):
        await collect(store, now=NOON)
    await store.delete("gc/marks.json", expect=ANY)
    assert (await collect(store, now=NOON)).marked == tuple(orphans)


# Beside uploads, at every moment


Work = Callable[[Store], Awaitable[object]]


async def upload(store: Store) -> object:
    return await add(Hosted("main", store), WHEEL)


async def restore(store: Store) -> object:
    await Hosted("main", store).restore(DEMO, frozenset({WHEEL}))
    return True


async def second_run(store: Store) -> object:
    return await collect(store, now=NOON + 9 * DAY)


async def left_by_a_cut_upload(store: Store) -> None:
    await orphan(store)


async def left_by_a_removal(store: Store) -> None:
    hosted = Hosted("main", store)
    await add(hosted, WHEEL)
    await hosted.remove(DEMO, frozenset({WHEEL}), by="x", now=NOON)


@pytest.mark.parametrize(
    ("left", "work"),
    [(left_by_a_cut_upload, upload), (left_by_a_removal, restore)],
    ids=["an upload", "a restoration"],
)
@pytest.mark.parametrize("gc_comes_between", [True, False], ids=["gc between", "gc around"])
@pytest.mark.parametrize("driver", stores.FEW)
async def test_whatever_comes_between_what_nothing_acknowledged_is_lost(
    left: Work, work: Work, gc_comes_between: bool, driver: str, tmp_path: Path, unsynced: None
) -> None:
    """The whole of the one before each single step of the other. Marked bytes are ripe, so gc would take them."""
    inner, outer = (second_run, work) if gc_comes_between else (work, second_run)
    outcomes = set[bool]()
    for at in count(1):
        async with stores.DRIVERS[driver](tmp_path / f"{at}") as plain:
            await left(plain)
            await collect(plain, now=NOON + 8 * DAY)
            results: dict[Work, bool] = {}

            async def outcome(one: Work, store: Store, results: dict[Work, bool] = results) -> None:
                try:
                    await one(store)
                    results[one] = True
                except NotFound:  # the bytes were collected before they could be brought back
                    results[one] = False

            async def happens(store: Store = plain, outcome: Callable[..., Awaitable[None]] = outcome) -> None:
                await outcome(inner, store)

            interrupted = Interrupted(plain, at, happens)
            await outcome(outer, interrupted)
            assert await grave(plain) == []
            hosted = Hosted("main", plain)
            outcomes.add(results.get(work, True))
            if results.get(work):
                assert await shown(hosted) == [WHEEL]
                await collect(plain, now=NOON + 30 * DAY)
                await collect(plain, now=NOON + 40 * DAY)
                assert await bytes_of(hosted, WHEEL) == WHEEL.encode()
        if not interrupted.happened:
            break
    assert at > 8
    assert True in outcomes


async def test_gc_beside_uploads_of_the_bytes_that_it_is_about_to_delete(
    store: Store, hosted: Hosted, unsynced: None
) -> None:
    """Many rounds, all at once: bytes are orphaned and marked, then uploaded again while the second run deletes."""
    for round_ in range(8):
        filenames = [f"demo-{round_}.{number}-py3-none-any.whl" for number in range(8)]
        for filename in filenames:
            await orphan(store, filename)
        day = NOON + 2 * round_ * DAY
        await collect(store, now=day)
        uploads = (add(Hosted("main", store), filename) for filename in filenames)
        _, *added = await asyncio.gather(collect(store, now=day + DAY), *uploads)
        assert added == [True] * 8
    assert await faults(store) == []
    assert len(await shown(hosted)) == 64
    for filename in await shown(hosted):
        assert await bytes_of(hosted, filename) == filename.encode()


async def test_gc_beside_restorations_at_once(store: Store, hosted: Hosted, unsynced: None) -> None:
    filenames = [f"demo-{number}-py3-none-any.whl" for number in range(12)]
    for filename in filenames:
        await add(hosted, filename)
    await hosted.remove(DEMO, frozenset(filenames), by="x", now=NOON)
    await collect(store, now=NOON + 8 * DAY)

    async def brought_back(filename: str) -> bool:
        try:
            await hosted.restore(DEMO, frozenset({filename}))
        except NotFound:
            return False
        return True

    _, *back = await asyncio.gather(second_run(store), *map(brought_back, filenames))
    assert await shown(hosted) == [name for name, is_back in zip(filenames, back, strict=True) if is_back]
    for filename in await shown(hosted):
        assert await bytes_of(hosted, filename) == filename.encode()
    assert await faults(store) == []


async def test_two_runs_at_once_do_no_harm(store: Store, hosted: Hosted) -> None:
    await add(hosted, "demo-2.0.tar.gz")
    orphans = await orphan(store)
    await asyncio.gather(collect(store, now=NOON), collect(store, now=NOON))
    runs = await asyncio.gather(collect(store, now=NOON + DAY), collect(store, now=NOON + DAY))
    assert {key for run in runs for key in run.deleted} == set(orphans)
    assert await faults(store) == []


async def test_a_run_that_is_cut_is_gone_on_with_by_the_next(store: Store) -> None:
    """Cut after it deleted, before it wrote down what is left."""
    memory = Memory()
    orphans = await orphan(memory)
    await collect(memory, now=NOON)

    async def cut() -> None:
        raise Unavailable("the machine stopped")

    for at in range(1, 30):
        try:
            await collect(Interrupted(memory, at, cut), now=NOON + DAY)
        except EntrepotError:
            continue
        break
    await collect(memory, now=NOON + DAY)
    assert {key for key in await held(memory) if key in orphans} == set()
    await memory.close()
