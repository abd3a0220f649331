"""Indexes made of indexes: one owner for each name, and nothing remembered longer than it holds."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrepot.combine import Everything, First, Remembered
from entrepot.errors import Denied, EntrepotError, NotFound, Unavailable
from entrepot.index import Index, Names, Revision, Upstreamed, absent, is_absent
from entrepot.model import File, Project, ProjectName, normalise

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
DEMO, OTHER = normalise("demo"), normalise("other")
MINUTE = timedelta(minutes=1)


class Scripted:
    """An index that answers what it was told to, and counts how often it was asked for a page."""

    def __init__(self, answers: Mapping[ProjectName, Project | EntrepotError], *, version: str = "1") -> None:
        self.answers = dict(answers)
        self.version = version
        self.asked: list[ProjectName] = []

    async def projects(self) -> AsyncIterator[ProjectName]:
        for name in sorted(self.answers):
            answer = self.answers[name]
            if isinstance(answer, Denied | Unavailable):
                raise answer
            yield name

    async def project(self, name: ProjectName) -> Project:
        self.asked.append(name)
        answer = self.answers.get(name, NotFound(f"no project {name}"))
        if isinstance(answer, EntrepotError):
            raise answer
        return answer

    async def revision(self, name: ProjectName | None) -> Revision:
        if name is None:
            return Revision(",".join(sorted(self.answers)))
        return Revision(self.version) if name in self.answers else absent()


def page(name: ProjectName = DEMO, *versions: str, origin: str = "a", until: datetime | None = None) -> Project:
    files = tuple(
        File(filename=f"{name}-{version}.tar.gz", version=version, origin=origin) for version in versions or ("1",)
    )
    return Project(name=name, files=files, valid_until=until)


async def names_of(index: Index) -> list[ProjectName]:
    return [name async for name in index.projects()]


# Everything


class Listing(Scripted):
    """A mirror whose upstream has these names, which come in batches."""

    name = "mirror"

    def __init__(self, names: Sequence[str], size: int) -> None:
        super().__init__({})
        self._names = [ProjectName(name) for name in sorted(set(names))]
        self._size = size
        self.error: Unavailable | None = None

    async def everything(self) -> Names:
        if self.error is not None:
            raise self.error
        return Names(batches=self._batches())

    async def _batches(self) -> AsyncIterator[Sequence[ProjectName]]:
        for start in range(0, len(self._names) + 1, self._size):  # the last batch may be empty
            yield self._names[start : start + self._size]


some_names = st.lists(st.sampled_from("abcdefghijklmnop"), max_size=16)


@given(some_names, st.lists(st.tuples(some_names, st.integers(1, 5)), min_size=1, max_size=3), st.sampled_from("afp"))
def test_all_names_come_in_order_and_each_once(own: list[str], upstreams: list[tuple[list[str], int]], no: str) -> None:
    index = Scripted({normalise(name): page() for name in own})
    beyond = [(cast("Upstreamed", Listing(*upstream)), lambda name: name != no) for upstream in upstreams]

    async def found() -> list[ProjectName]:
        batches = (await Everything(index, beyond).names()).batches
        return [name async for batch in batches for name in batch]

    expected = {*own, *(name for names, _ in upstreams for name in names if name != no)}
    assert asyncio.run(found()) == sorted(expected)


async def test_a_mirror_that_cannot_tell_its_names_is_named() -> None:
    mirror = Listing(["a"], 1)
    mirror.error = Unavailable("upstream is silent", status=504, retry_after=7)
    with pytest.raises(Unavailable, match="index mirror cannot tell what its upstream has: upstream is silent") as told:
        await Everything(Scripted({}), [(cast("Upstreamed", mirror), lambda _: True)]).names()
    assert (told.value.status, told.value.retry_after) == (504, 7)


# First


async def test_the_first_index_that_knows_the_name_answers() -> None:
    private = Scripted({DEMO: page(origin="private")})
    public = Scripted({DEMO: page(DEMO, "1", "2", origin="public"), OTHER: page(OTHER, origin="public")})
    both = First([private, public])
    assert await both.project(DEMO) == page(origin="private")
    assert public.asked == []
    assert await both.project(OTHER) == page(OTHER, origin="public")


async def test_a_page_without_files_is_an_answer() -> None:
    """So a private name whose files were all deleted stays private."""
    private = Scripted({DEMO: Project(name=DEMO)})
    assert await First([private, Scripted({DEMO: page()})]).project(DEMO) == Project(name=DEMO)


async def test_a_name_that_nobody_knows_is_not_found() -> None:
    with pytest.raises(NotFound, match=r"^no project demo$"):
        await First([Scripted({}), Scripted({})]).project(DEMO)
    with pytest.raises(NotFound):
        await First([]).project(DEMO)


@pytest.mark.parametrize("refusal", [Denied("not for you"), Unavailable("the disk is gone")])
async def test_a_refusal_or_a_failure_stops_the_search(refusal: EntrepotError) -> None:
    public = Scripted({DEMO: page(origin="public")})
    with pytest.raises(type(refusal)) as raised:
        await First([Scripted({}), Scripted({DEMO: refusal}), public]).project(DEMO)
    assert raised.value is refusal
    assert public.asked == []


_names = st.sampled_from([DEMO, OTHER, normalise("third")])
_kinds = st.sampled_from(["page", "empty", "denied", "unavailable"])
_members = st.lists(st.dictionaries(_names, _kinds), max_size=4)


def members(drawn: list[dict[ProjectName, str]]) -> list[Scripted]:
    def answer(name: ProjectName, kind: str, origin: str) -> Project | EntrepotError:
        answers: dict[str, Project | EntrepotError] = {
            "page": page(name, "1", "2", origin=origin),
            "empty": Project(name=name),
            "denied": Denied(origin),
            "unavailable": Unavailable(origin),
        }
        return answers[kind]

    return [
        Scripted({name: answer(name, kind, f"index{number}") for name, kind in kinds.items()})
        for number, kinds in enumerate(drawn)
    ]


async def outcome(index: Index, name: ProjectName) -> object:
    """What the index says, in a form that can be compared."""
    try:
        return await index.project(name)
    except EntrepotError as error:
        return type(error), error.message


@given(_members, _names)
def test_an_answer_is_that_of_one_member_and_never_mixed(
    drawn: list[dict[ProjectName, str]], name: ProjectName
) -> None:
    async def compare() -> None:
        found = await outcome(First(members(drawn)), name)
        owner = next((number for number, kinds in enumerate(drawn) if name in kinds), None)
        if owner is None:
            assert found == (NotFound, f"no project {name}")
        else:
            assert found == await outcome(members(drawn)[owner], name)
        if isinstance(found, Project):
            assert len({file.origin for file in found.files}) <= 1

    asyncio.run(compare())


@given(_members)
def test_the_names_are_those_of_all_members_in_order_and_each_once(drawn: list[dict[ProjectName, str]]) -> None:
    pages = [dict.fromkeys(kinds, "page") for kinds in drawn]
    expected = sorted({name for kinds in pages for name in kinds})
    assert asyncio.run(names_of(First(members(pages)))) == expected


async def test_a_list_that_one_member_cannot_give_is_not_given_without_it() -> None:
    with pytest.raises(Unavailable):
        await names_of(First([Scripted({DEMO: page()}), Scripted({OTHER: Unavailable("down")})]))


async def test_a_list_may_be_read_in_part() -> None:
    first = First([Scripted({DEMO: page()}), Scripted({OTHER: page(OTHER)})])
    async for name in first.projects():
        assert name == DEMO
        break


async def test_the_revision_is_absent_exactly_if_all_members_are() -> None:
    assert is_absent(await First([Scripted({}), Scripted({OTHER: page()})]).revision(DEMO))
    assert is_absent(await First([First([Scripted({})])]).revision(DEMO))
    assert is_absent(await First([]).revision(DEMO))
    assert not is_absent(await First([Scripted({}), Scripted({DEMO: page()})]).revision(DEMO))
    assert not is_absent(await First([First([Scripted({})]), Scripted({DEMO: page()})]).revision(DEMO))


async def test_the_revision_changes_when_an_index_further_up_learns_the_name() -> None:
    private, public = Scripted({}), Scripted({DEMO: page()})
    both = First([private, public])
    before = await both.revision(DEMO)
    private.answers[DEMO] = page(origin="private")
    after = await both.revision(DEMO)
    assert before != after
    assert after == "1"  # what stands below the owner costs nothing and changes nothing
    public.version = "2"
    assert await both.revision(DEMO) == after


async def test_the_revision_changes_with_its_owner_and_with_every_absence_above() -> None:
    private, public = Scripted({}), Scripted({DEMO: page()})
    both = First([private, public])
    seen = {await both.revision(DEMO)}
    public.version = "2"
    seen.add(await both.revision(DEMO))
    del public.answers[DEMO]
    seen.add(await both.revision(DEMO))
    assert len(seen) == 3


async def test_the_revision_of_the_list_is_that_of_all_members() -> None:
    private, public = Scripted({}), Scripted({DEMO: page()})
    both = First([private, public])
    seen = {await both.revision(None)}
    public.answers[OTHER] = page(OTHER)
    seen.add(await both.revision(None))
    private.answers[DEMO] = page()
    seen.add(await both.revision(None))
    assert len(seen) == 3


# Remembered


class Clock:
    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now


async def test_a_page_is_asked_for_once_while_its_revision_holds() -> None:
    index = Scripted({DEMO: page()})
    remembered = Remembered(index, clock=Clock())
    assert await remembered.project(DEMO) is await remembered.project(DEMO)
    assert index.asked == [DEMO]


async def test_a_new_revision_means_a_new_page() -> None:
    index = Scripted({DEMO: page()})
    remembered = Remembered(index, clock=Clock())
    await remembered.project(DEMO)
    index.answers[DEMO], index.version = page(DEMO, "1", "2"), "2"
    assert await remembered.project(DEMO) == page(DEMO, "1", "2")


async def test_a_page_is_not_kept_beyond_its_time() -> None:
    index, clock = Scripted({DEMO: page(until=NOON + MINUTE)}), Clock()
    remembered = Remembered(index, clock=clock)
    await remembered.project(DEMO)
    clock.now = NOON + MINUTE - timedelta(microseconds=1)
    await remembered.project(DEMO)
    assert len(index.asked) == 1
    clock.now = NOON + MINUTE
    await remembered.project(DEMO)
    assert len(index.asked) == 2


async def test_failures_are_not_remembered_and_a_page_from_before_is_not_given_instead() -> None:
    index = Scripted({DEMO: page()})
    remembered = Remembered(index, clock=Clock())
    await remembered.project(DEMO)
    index.answers[DEMO], index.version = Unavailable("down"), "2"
    for _ in range(2):
        with pytest.raises(Unavailable):
            await remembered.project(DEMO)
    del index.answers[DEMO]
    with pytest.raises(NotFound):
        await remembered.project(DEMO)


async def test_a_page_that_changes_while_it_is_made_is_not_kept_under_the_new_revision() -> None:
    class Changing(Scripted):
        async def project(self, name: ProjectName) -> Project:
            before = await super().project(name)
            self.answers[DEMO], self.version = page(DEMO, "1", "2"), "2"
            return before

    remembered = Remembered(Changing({DEMO: page()}), clock=Clock())
    assert await remembered.project(DEMO) == page()
    assert await remembered.project(DEMO) == page(DEMO, "1", "2")


_steps = st.lists(
    st.tuples(st.just("write"), _names, st.integers(0, 3))
    | st.tuples(st.just("forget"), _names, st.just(0))
    | st.tuples(st.just("wait"), _names, st.integers(0, 3))
    | st.tuples(st.just("ask"), _names, st.just(0)),
    max_size=40,
)


class Ripening:
    """Its files appear one minute after another, as under a cooldown: its pages change by writes and by time."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.written: dict[ProjectName, list[datetime]] = {}
        self.writes = 0
        self.revisions: dict[ProjectName, int] = {}

    def write(self, name: ProjectName, minutes: int) -> None:
        self.writes += 1
        self.revisions[name] = self.writes
        self.written.setdefault(name, []).append(self.clock.now + minutes * MINUTE)

    async def projects(self) -> AsyncIterator[ProjectName]:
        for name in sorted(self.written):
            yield name

    async def project(self, name: ProjectName) -> Project:
        if name not in self.written:
            raise NotFound(f"no project {name}")
        ripe = [moment for moment in self.written[name] if moment <= self.clock.now]
        unripe = [moment for moment in self.written[name] if moment > self.clock.now]
        return page(name, *(f"1.{number}" for number, _ in enumerate(ripe)), until=min(unripe, default=None))

    async def revision(self, name: ProjectName | None) -> Revision:
        if name is None:
            return Revision(f"{self.writes}")
        return Revision(f"{self.revisions[name]}") if name in self.written else absent()


@given(_steps, st.integers(1, 12))
def test_a_remembered_page_is_the_page_computed_at_that_time(
    steps: list[tuple[str, ProjectName, int]], limit: int
) -> None:
    async def play() -> None:
        clock = Clock()
        index = Ripening(clock)
        remembered = Remembered(index, clock=clock, limit=limit)
        for step, name, minutes in steps:
            if step == "write":
                index.write(name, minutes)
            elif step == "forget":
                index.written.pop(name, None)
            elif step == "wait":
                clock.now += minutes * MINUTE
            assert await outcome(remembered, name) == await outcome(index, name)

    asyncio.run(play())


class Failing(Scripted):
    """Its revision of a name is the number of files on the page; once it is down, it gives no page any more."""

    down = False

    async def project(self, name: ProjectName) -> Project:
        if self.down:
            raise Unavailable("down")
        return await super().project(name)

    async def revision(self, name: ProjectName | None) -> Revision:
        answer = self.answers.get(name or DEMO)
        return Revision(str(len(answer.files))) if isinstance(answer, Project) else absent()


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 5)), min_size=1, max_size=60), st.integers(1, 30))
def test_what_is_remembered_has_a_bound(asked: list[tuple[int, int]], limit: int) -> None:
    """Pages weigh one more than they have files; only the newest may weigh more than all may together."""

    async def play() -> None:
        index = Failing({})
        remembered = Remembered(index, clock=Clock(), limit=limit)
        for number, files in asked:
            name = ProjectName(f"p{number}")
            index.answers[name] = page(name, *(f"1.{minor}" for minor in range(files)))
            await remembered.project(name)
        index.down = True
        found = [await outcome(remembered, name) for name in sorted(index.answers)]
        known = [project for project in found if isinstance(project, Project)]
        assert [project.name for project in known if project.name == name] == [name]
        assert sum(1 + len(project.files) for project in known) <= limit or len(known) == 1

    asyncio.run(play())


async def test_what_was_asked_for_last_is_kept_longest() -> None:
    names = [ProjectName(f"p{number}") for number in range(4)]
    index = Scripted({name: page(name) for name in names})
    remembered = Remembered(index, clock=Clock(), limit=6)  # three pages of one file
    for number in (0, 1, 2, 0, 3):
        await remembered.project(names[number])
    index.asked.clear()
    for number in (0, 2, 3):
        await remembered.project(names[number])
    assert index.asked == []
    await remembered.project(names[1])
    assert index.asked == [names[1]]
