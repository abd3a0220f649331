"""A store copied into another: complete, verified, sound at every moment, and nothing of the destination is lost."""

import asyncio
import hashlib
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta

import msgspec
import pytest

from entrepot.access import Tokens
from entrepot.errors import EntrepotError, NotFound, Unavailable
from entrepot.index import ABSENT, ANY, Body, Content, Etag, Expect, Span, Store
from entrepot.model import Status, normalise
from entrepot.moving.copying import copy, size
from entrepot.moving.objects import Options
from entrepot.sources.hosted import Hosted, blob_key, record_key
from entrepot.sources.upkeep import collect
from entrepot.stores.documents import read_bytes
from entrepot.stores.memory import Memory
from tests.moving.samples import SDIST, WHEEL, copied, held, troubles
from tests.sources.interrupted import Interrupted
from tests.sources.samples import DEMO, NOON, add, bytes_of, faults, grave, shown

DAY = timedelta(days=1)


def blob_of(filename: str, index: str = "main", data: bytes | None = None) -> str:
    return blob_key(index, hashlib.sha256(filename.encode() if data is None else data).hexdigest(), filename)


async def rot(store: Store, key: str) -> None:
    """Other bytes of the same length, as a disk that decays gives."""
    before = await read_bytes(store, key)
    await store.write(key, bytes(len(before)), expect=ANY)


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


# What the destination has is not lost


async def yank(hosted: Hosted) -> None:
    await hosted.amend(DEMO, lambda file: msgspec.structs.replace(file, yanked="bad"))


async def upload(hosted: Hosted) -> None:
    await add(hosted, "demo-9.0.tar.gz")


async def upload_something_else(hosted: Hosted) -> None:
    await add(hosted, SDIST, data=b"other bytes")


async def delete(hosted: Hosted) -> None:
    await hosted.remove(DEMO, frozenset({WHEEL}), by="x", now=NOON)


async def quarantine(hosted: Hosted) -> None:
    await hosted.mark(DEMO, Status(status="quarantined"))


@pytest.mark.parametrize("change", [yank, upload, upload_something_else, delete, quarantine])
async def test_a_record_that_has_what_the_source_has_not_is_a_conflict_and_stays(
    main: Hosted, source: Store, target: Store, change: Callable[[Hosted], object]
) -> None:
    await add(main, WHEEL)
    await copied(source, target)
    await change(Hosted("main", target))  # type: ignore[misc]
    await add(main, SDIST)
    await add(main, "other-1.0.tar.gz")
    before = await held(target)
    assert await troubles(source, target) == [("conflict", record_key("main", DEMO))]
    after = await held(target)
    assert {key: after[key] for key in before if not key.endswith("names.json")} == {
        key: data for key, data in before.items() if not key.endswith("names.json")
    }
    assert await shown(Hosted("main", target), normalise("other")) == ["other-1.0.tar.gz"]
    assert await grave(target) == []


async def test_tokens_of_the_destination_alone_are_a_conflict_and_stay(source: Store, target: Store) -> None:
    await Tokens(source).create("ours", can=("read",), now=NOON)
    await copied(source, target)
    await Tokens(source).create("new", can=("read",), now=NOON)
    await copied(source, target)
    assert [token.name for token in await Tokens(target).list()] == ["ours", "new"]
    await Tokens(source).revoke("ours")
    before = await held(target)
    tally = await copy(source, target, Options())
    [trouble] = tally.troubles
    assert (trouble.kind, trouble.at) == ("conflict", "access/tokens.json")
    assert trouble.why.startswith("token ours (")
    assert "`entrepot token revoke` it there too" in trouble.why
    assert await held(target) == before


async def test_names_of_both_stores_are_kept(main: Hosted, source: Store, target: Store) -> None:
    await add(Hosted("main", target), "there-1.0.tar.gz")
    await add(main, WHEEL)
    await copied(source, target)
    assert [name async for name in Hosted("main", target).projects()] == ["demo", "there"]
    assert await faults(target) == []


async def test_other_bytes_of_unknown_kind_are_a_conflict_and_stay(source: Store, target: Store) -> None:
    for store, data in ((source, b"one"), (target, b"two")):
        await store.write("main/archives/x", data, expect=ABSENT)
        await store.write("main/archives/y.json", msgspec.json.encode({"channel": data.decode()}), expect=ABSENT)
    before = await held(target)
    assert await troubles(source, target) == [("conflict", "main/archives/x"), ("conflict", "main/archives/y.json")]
    assert await held(target) == before


async def test_a_document_of_unknown_kind_may_grow(source: Store, target: Store) -> None:
    await source.write("main/archives/y.json", b'{"versions": [{"v": 1}], "a": {"b": 1}}', expect=ABSENT)
    await copied(source, target)
    grown = b'{"versions": [{"v": 2}, {"v": 1}], "a": {"b": 1, "c": 2}}'
    await source.write("main/archives/y.json", grown, expect=ANY)
    await copied(source, target)
    assert await read_bytes(target, "main/archives/y.json") == grown


# What is wrong is told, and the rest goes on


async def test_wrong_bytes_are_told_and_not_copied_and_the_rest_is(main: Hosted, source: Store, target: Store) -> None:
    await add(main, WHEEL)
    await add(main, SDIST)
    await add(main, "other-1.0.tar.gz")
    await rot(source, blob_of(SDIST))
    tally = await copy(source, target, Options())
    [trouble] = tally.troubles
    assert (trouble.kind, trouble.at) == ("fault", blob_of(SDIST))
    assert trouble.why.startswith("its bytes have the sha256 ")
    assert await shown(Hosted("main", target)) == [WHEEL]
    assert await shown(Hosted("main", target), normalise("other")) == ["other-1.0.tar.gz"]
    assert await faults(target) == []


async def test_wrong_metadata_is_told_and_its_file_not_copied(main: Hosted, source: Store, target: Store) -> None:
    await add(main, WHEEL)
    await add(main, SDIST)
    await rot(source, blob_of(WHEEL) + ".metadata")
    assert await troubles(source, target) == [("fault", blob_of(WHEEL) + ".metadata")]
    assert await shown(Hosted("main", target)) == [SDIST]
    assert await grave(target) == []


async def test_missing_bytes_are_told_and_come_when_they_are_back(main: Hosted, source: Store, target: Store) -> None:
    await add(main, WHEEL)
    await add(main, SDIST)
    await source.delete(blob_of(SDIST), expect=ANY)
    tally = await copy(source, target, Options())
    assert [(one.at, one.why) for one in tally.troubles] == [
        (blob_of(SDIST), "is missing in the source, but its record lists it")
    ]
    await source.write(blob_of(SDIST), SDIST.encode(), expect=ABSENT)
    await copied(source, target)
    assert await held(target) == await held(source)


async def test_a_project_of_which_nothing_can_be_copied_gets_no_record(
    main: Hosted, source: Store, target: Store
) -> None:
    await add(main, SDIST)
    await source.delete(blob_of(SDIST), expect=ANY)
    assert await troubles(source, target) == [("fault", blob_of(SDIST))]
    assert list(await held(target)) == ["main/names.json"]


async def test_the_bytes_of_a_deleted_file_may_be_gone(main: Hosted, source: Store, target: Store) -> None:
    await add(main, SDIST)
    await main.remove(DEMO, frozenset({SDIST}), by="x", now=NOON)
    await source.delete(blob_of(SDIST), expect=ANY)
    await copied(source, target)
    assert [one.file.filename for one in await Hosted("main", target).removed(DEMO)] == [SDIST]
    assert await faults(target) == []


@pytest.mark.parametrize("record", [b"{}", b'{"schema": 2, "name": "demo"}', b"not JSON"])
async def test_a_record_that_cannot_be_read_is_told(main: Hosted, source: Store, target: Store, record: bytes) -> None:
    await add(main, WHEEL)
    await add(main, "other-1.0.tar.gz")
    await source.write(record_key("main", DEMO), record, expect=ANY)
    assert await troubles(source, target) == [("fault", record_key("main", DEMO))]
    assert await shown(Hosted("main", target), normalise("other")) == ["other-1.0.tar.gz"]


async def test_a_record_that_does_not_say_where_bytes_are_is_told(main: Hosted, source: Store, target: Store) -> None:
    await add(main, WHEEL)
    text = (await read_bytes(source, record_key("main", DEMO))).replace(b'"sha256":"', b'"sha256":"../', 1)
    await source.write(record_key("main", DEMO), text, expect=ANY)
    assert await troubles(source, target) == [("fault", record_key("main", DEMO))]
    assert not [key for key in await held(target) if "blobs" in key]


async def test_what_a_later_version_wrote_into_a_record_comes_along(main: Hosted, source: Store, target: Store) -> None:
    await add(main, WHEEL)
    text = (await read_bytes(source, record_key("main", DEMO))).replace(b'"schema":1', b'"schema":1,"new":[1]')
    await source.write(record_key("main", DEMO), text, expect=ANY)
    await copied(source, target)
    assert await read_bytes(target, record_key("main", DEMO)) == text


class Full(Memory):
    """A store whose disk is full."""

    async def write(self, key: str, body: Body, *, expect: Expect) -> Etag:  # noqa: ARG002
        raise Unavailable("the disk is full", status=507)


class Gone(Memory):
    """A store that does not answer."""

    async def write(self, key: str, body: Body, *, expect: Expect) -> Etag:  # noqa: ARG002
        raise Unavailable("nobody answers")


@pytest.mark.parametrize("broken", [Full, Gone])
async def test_a_destination_that_takes_nothing_ends_the_copy(broken: type[Memory]) -> None:
    source = Memory()
    for number in range(40):
        await add(Hosted("main", source), f"p{number}-1.0.tar.gz")
    with pytest.raises(Unavailable, match=r"full|nobody"):
        await copy(source, broken(), Options(jobs=2))


# --verify


async def test_wrong_bytes_in_the_destination_are_found_only_when_they_are_looked_at(
    main: Hosted, source: Store, target: Store
) -> None:
    await add(main, WHEEL)
    await copied(source, target)
    await rot(target, blob_of(WHEEL))
    assert (await copied(source, target)).copied == 0
    verified = await copied(source, target, verify=True)
    assert (verified.copied, verified.repaired) == (1, 1)
    assert await faults(target) == []


async def test_bytes_of_another_length_are_replaced(main: Hosted, source: Store, target: Store) -> None:
    await add(main, SDIST)
    await copied(source, target)
    await target.write(blob_of(SDIST), b"cut", expect=ANY)
    assert (await copied(source, target)).repaired == 1
    assert await faults(target) == []


# Beside others


class Cut(Exception):
    """What ends a copy at any moment."""


async def test_a_copy_may_be_cut_before_any_call_and_goes_on() -> None:
    """The destination is sound whenever it is looked at."""
    source = Memory()
    await add(Hosted("main", source), WHEEL)
    await add(Hosted("main", source), SDIST)
    for at in range(1, 60):

        async def cut() -> None:
            raise Cut

        fresh = Memory()
        interrupted = Interrupted(fresh, at, cut)
        with suppress(Cut):
            await copy(source, interrupted, Options(jobs=1))
        assert await grave(fresh) == []
        await copied(source, fresh)
        assert await held(fresh) == await held(source)
        if not interrupted.happened:
            return
    pytest.fail("it never came to its end")


async def test_whatever_happens_in_the_source_meanwhile_the_copy_is_sound() -> None:
    """An upload, a delete and a `gc` between any two calls; what was missed comes with the next run."""
    for at in range(1, 40):
        source = Memory()
        main = Hosted("main", source)
        await add(main, WHEEL)
        await add(main, SDIST)

        async def meanwhile(main: Hosted = main, source: Store = source) -> None:
            await add(main, "demo-2.0.tar.gz")
            await main.remove(DEMO, frozenset({SDIST}), by="x", now=NOON - 30 * DAY)
            await collect(source, now=NOON)
            await collect(source, now=NOON + 2 * DAY)

        fresh = Memory()
        interrupted = Interrupted(source, at, meanwhile)
        tally = await copy(interrupted, fresh, Options(jobs=1))
        assert tally.troubles == []
        assert await grave(fresh) == []
        await copied(source, fresh)
        assert await shown(Hosted("main", fresh)) == await shown(main)
        if not interrupted.happened:
            return
    pytest.fail("it never came to its end")


async def test_uploads_to_the_destination_between_any_two_calls_are_not_lost() -> None:
    source = Memory()
    await add(Hosted("main", source), WHEEL)
    for at in range(1, 40):
        fresh = Memory()

        async def meanwhile(fresh: Memory = fresh) -> None:
            await add(Hosted("main", fresh), "demo-2.0.tar.gz")

        interrupted = Interrupted(fresh, at, meanwhile)
        tally = await copy(source, interrupted, Options(jobs=1))
        if interrupted.happened:
            assert "demo-2.0.tar.gz" in await shown(Hosted("main", fresh))
        assert await grave(fresh) == []
        assert {one.kind for one in tally.troubles} <= {"conflict"}
        if not interrupted.happened:
            return
    pytest.fail("it never came to its end")


async def test_two_copies_at_once_do_no_harm(source: Store, target: Store) -> None:
    main = Hosted("main", source)
    for number in range(12):
        await add(main, f"demo-{number}.tar.gz")
        await add(main, f"p{number}-1.0-py3-none-any.whl")
    both = await asyncio.gather(*(copy(source, target, Options(jobs=4)) for _ in range(2)))
    assert [tally.troubles for tally in both] == [[], []]
    assert await held(target) == await held(source)


async def test_a_later_copy_that_comes_first_is_no_conflict() -> None:
    """Between any two calls of one copy the source goes on, and another copy of it comes to its end."""
    for at in range(1, 40):
        source, target = Memory(), Memory()
        main = Hosted("main", source)
        await add(main, WHEEL)
        await add(main, SDIST)
        await Tokens(source).create("one", can=("read",), now=NOON)

        async def meanwhile(main: Hosted = main, source: Store = source, target: Store = target) -> None:
            await add(main, "demo-2.0.tar.gz")
            await main.remove(DEMO, frozenset({SDIST}), by="x", now=NOON)
            await Tokens(source).create("two", can=("read",), now=NOON)
            await copied(source, target)

        interrupted = Interrupted(target, at, meanwhile)
        await copied(source, interrupted, jobs=1)
        if not interrupted.happened:
            return
        assert await held(target) == await held(source)
    pytest.fail("it never came to its end")


async def test_old_leftovers_in_the_destination_are_written_anew_before_they_count(
    source: Store, target: Store, main: Hosted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A `gc` of the destination may have marked them, and be about to delete them."""
    await add(main, SDIST)
    await target.write(blob_of(SDIST), SDIST.encode(), expect=ABSENT)
    entry = await target.stat(blob_of(SDIST))
    assert (await copied(source, Memory(), dry_run=True)).copied == 1
    assert (await copied(source, target, dry_run=True)).copied == 0
    monkeypatch.setattr("time.time", lambda: entry.modified + 24 * 3600)
    assert (await copied(source, target)).copied == 1
    assert (await target.stat(blob_of(SDIST))).etag != entry.etag


async def test_no_more_than_the_jobs_are_under_way_at_once() -> None:
    source, running, most = Memory(), 0, 0
    for number in range(30):
        await add(Hosted("main", source), f"demo-{number}.tar.gz")

    class Counting(Memory):
        async def write(self, key: str, body: Body, *, expect: Expect) -> Etag:
            nonlocal running, most
            running += 1
            most = max(most, running)
            await asyncio.sleep(0)
            try:
                return await super().write(key, body, expect=expect)
            finally:
                running -= 1

    await copied(source, Counting(), jobs=3)
    assert most == 3


async def test_errors_of_the_source_are_told_with_their_place(main: Hosted, source: Store, target: Store) -> None:
    class Unreadable(Interrupted):
        async def read(self, key: str, span: Span | None = None) -> Content:
            if key.endswith(SDIST):
                raise Unavailable("the disk does not read", at="/dev/disk")
            return await super().read(key, span)

    await add(main, SDIST)
    await add(main, WHEEL)
    tally = await copy(Unreadable(source, 0, _never), target, Options())
    assert [(one.at, one.why) for one in tally.troubles] == [(blob_of(SDIST), "/dev/disk: the disk does not read")]
    assert await shown(Hosted("main", target)) == [WHEEL]


async def _never() -> None:
    raise EntrepotError("this does not happen")
