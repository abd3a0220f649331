"""A store copied into another: complete, verified, sound at every moment, and nothing of the destination is lost."""

from datetime import timedelta

import msgspec
import pytest

from entrepot.access import Tokens
from entrepot.errors import NotFound
from entrepot.index import ABSENT, ANY, Store
from entrepot.model import Status, normalise
from entrepot.moving.copying import copy, size
from entrepot.moving.objects import Options
from entrepot.sources.hosted import Hosted, record_key
from entrepot.sources.upkeep import collect
from entrepot.stores.memory import Memory
from tests.moving.samples import SDIST, WHEEL, blob_of, copied, held, troubles
from tests.sources.samples import DEMO, NOON, add, bytes_of, faults, shown

DAY = timedelta(days=1)


# What a copy is


async def test_everything_that_counts_is_copied_byte_by_byte(main: Hosted, source: Store, target: Store) -> None:
    await add(main, WHEEL)
    await add(main, SDIST)
    await add(Hosted("other", source), "else-1.0.tar.gz")
    await main.remove(DEMO, frozenset({SDIST}), by="x", now=NOON)
    await Tokens(source).create("ci", can=("upload",), now=NOON)
    await copied(source, target)
    assert await held(target) == await held(source)
    assert await faults(target) == []
    assert await bytes_of(Hosted("main", target), WHEEL) == WHEEL.encode()


async def test_times_are_kept_and_what_was_deleted_can_be_restored(main: Hosted, source: Store, target: Store) -> None:
    await add(main, WHEEL, now=NOON - 300 * DAY)
    await add(main, SDIST)
    await main.remove(DEMO, frozenset({SDIST}), by="x", now=NOON)
    await copied(source, target)
    there = Hosted("main", target)
    assert (await there.files(DEMO))[0].uploaded == NOON - 300 * DAY
    await there.restore(DEMO, frozenset({SDIST}))
    assert await bytes_of(there, SDIST) == SDIST.encode()


async def test_a_second_copy_finds_all_of_it_there(main: Hosted, source: Store, target: Store) -> None:
    await add(main, WHEEL)
    first = await copied(source, target)
    assert (first.copied, first.copied_size > 0, first.changed) == (2, True, 1)
    before = [entry async for entry in target.list("")]
    second = await copied(source, target)
    assert (second.copied, second.changed, second.present) == (0, 0, 3)
    assert [entry async for entry in target.list("")] == before


async def test_what_came_and_went_in_the_source_follows(main: Hosted, source: Store, target: Store) -> None:
    await add(main, WHEEL)
    await copied(source, target)
    await add(main, SDIST)
    await main.remove(DEMO, frozenset({WHEEL}), by="x", now=NOON)
    await main.mark(DEMO, Status(status="deprecated"))
    await copied(source, target)
    there = Hosted("main", target)
    assert await shown(there) == [SDIST]
    assert [one.file.filename for one in await there.removed(DEMO)] == [WHEEL]
    assert (await there.project(DEMO)).status.status == "deprecated"


async def test_a_store_without_anything_is_copied(source: Store, target: Store) -> None:
    await copied(source, target)
    assert await held(target) == {}


async def test_some_indexes_go_alone_and_without_tokens(main: Hosted, source: Store, target: Store) -> None:
    await add(main, WHEEL)
    await add(Hosted("other", source), "else-1.0.tar.gz")
    await Tokens(source).create("ci", can=("upload",), now=NOON)
    await copied(source, target, indexes=frozenset({"other"}))
    assert {key.partition("/")[0] for key in await held(target)} == {"other"}
    assert await faults(target) == []


async def test_an_index_that_is_not_there_is_named(main: Hosted, source: Store, target: Store) -> None:
    await add(main, WHEEL)
    with pytest.raises(NotFound, match="has no index mian") as raised:
        await copy(source, target, Options(indexes=frozenset({"mian"})))
    assert raised.value.hint == "it has: main"


async def test_a_dry_run_says_the_same_and_writes_nothing(main: Hosted, source: Store, target: Store) -> None:
    await add(main, WHEEL)
    await Tokens(source).create("ci", can=("upload",), now=NOON)
    would = await copied(source, target, dry_run=True)
    assert await held(target) == {}
    assert msgspec.structs.asdict(await copied(source, target)) == msgspec.structs.asdict(would)


async def test_progress_tells_of_every_byte(main: Hosted, source: Store, target: Store) -> None:
    await add(main, SDIST, data=bytes(3_000_000))
    told: list[int] = []
    await copy(source, target, Options(), told.append)
    assert (sum(told), await size(source, Options())) == (3_000_000, 3_000_000)
    assert len(told) > 1 or isinstance(source, Memory)


async def test_workplaces_marks_and_orphans_stay_behind(main: Hosted, source: Store, target: Store) -> None:
    await add(main, WHEEL)
    await add(main, "gone-1.0.tar.gz")
    await source.delete(record_key("main", normalise("gone")), expect=ANY)
    await collect(source, now=NOON)
    await copied(source, target)
    assert sorted(await held(target)) == [
        blob_of(WHEEL), blob_of(WHEEL) + ".metadata", "main/names.json", record_key("main", DEMO),
    ]  # fmt: skip


async def test_what_a_later_version_put_there_is_copied_as_it_is(source: Store, target: Store) -> None:
    strange = {
        "audit.json": b'{"a": 1}',
        "main/archives/data/blobs/x": b"\x00\xff" * 1000,
        "main/blobs/ab/" + "ab" * 32 + "/demo-1.0.tar.gz.provenance": b"{}",
        "main/projects/deep/er.json": b"[1]",
        "main/builds/abc/log": b"",
    }
    for key, data in strange.items():
        await source.write(key, data, expect=ABSENT)
    await copied(source, target)
    assert await held(target) == strange
    again = await copied(source, target, verify=True)
    assert (again.copied, again.changed, again.present) == (0, 0, len(strange))


# What a mirror keeps


async def mirrored(store: Store) -> Hosted:
    """An index as a mirror keeps it: records without a list of names."""
    await store.write("up/upstream/demo.json", b'{"url": "x"}', expect=ABSENT)
    up = Hosted("up", store)
    await add(up, WHEEL)
    await store.delete("up/names.json", expect=ANY)
    return up


async def test_a_mirror_is_copied_with_its_truth_and_its_cache(source: Store, target: Store) -> None:
    await mirrored(source)
    await source.write("up/seen/demo.json", b'{"schema": 1, "files": {"a": null}}', expect=ABSENT)
    await source.write("up/used.json", b'{"schema": 1, "used": {"a": 1.5}, "pinned": ["a"]}', expect=ABSENT)
    await copied(source, target)
    assert await held(target) == await held(source)
    assert await faults(target) == []


async def test_what_two_mirrors_keep_is_put_together(source: Store, target: Store) -> None:
    await mirrored(source)
    await mirrored(target)
    await add(Hosted("up", target), SDIST)
    await target.delete("up/names.json", expect=ANY)
    await target.write("up/upstream/demo.json", b'{"url": "newer"}', expect=ANY)
    for store, file, moment in ((source, "a", 2.5), (target, "b", 1.5)):
        await store.write("up/seen/demo.json", b'{"files": {"%s": null}}' % file.encode(), expect=ABSENT)
        used = {"used": {file: moment, "both": moment}, "pinned": [file]}
        await store.write("up/used.json", msgspec.json.encode(used), expect=ABSENT)
    await copied(source, target)
    now = await held(target)
    assert now["up/upstream/demo.json"] == b'{"url": "newer"}'
    assert msgspec.json.decode(now["up/seen/demo.json"]) == {"files": {"a": None, "b": None}}
    assert msgspec.json.decode(now["up/used.json"]) == {"used": {"a": 2.5, "b": 1.5, "both": 2.5}, "pinned": ["a", "b"]}
    assert await shown(Hosted("up", target)) == [WHEEL, SDIST]
    before = await held(target)
    await copied(source, target)
    assert await held(target) == before


async def test_two_first_sights_of_one_file_are_a_conflict(source: Store, target: Store) -> None:
    for store, day in ((source, 1), (target, 2)):
        await store.write("up/seen/demo.json", b'{"files": {"a": "2026-11-0%dT00:00:00Z"}}' % day, expect=ABSENT)
    before = await held(target)
    assert await troubles(source, target) == [("conflict", "up/seen/demo.json")]
    assert await held(target) == before
