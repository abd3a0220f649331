"""Copies that are cut, and copies beside uploads, deletes, `gc` and other copies."""

import asyncio
from contextlib import suppress
from datetime import timedelta

import pytest

from entrepot.access import Tokens
from entrepot.errors import EntrepotError, Unavailable
from entrepot.index import ABSENT, Body, Content, Etag, Expect, Span, Store
from entrepot.moving.copying import copy
from entrepot.moving.objects import Options
from entrepot.sources.hosted import Hosted
from entrepot.sources.upkeep import collect
from entrepot.stores.memory import Memory
from tests.moving.samples import SDIST, WHEEL, blob_of, copied, held
from tests.sources.interrupted import Interrupted
from tests.sources.samples import DEMO, NOON, add, grave, shown

DAY = timedelta(days=1)


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
    if not target.traits.etags_of_content:
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
