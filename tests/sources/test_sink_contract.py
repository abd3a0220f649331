"""What every sink promises: nothing acknowledged is lost, and no name ever gets other bytes."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest
from msgspec.structs import replace

from entrepot.errors import Conflict, Denied, NotFound
from entrepot.index import Index, Revision, Sink, Source, Store, is_absent
from entrepot.model import File, Status, StatusName, normalise
from entrepot.sources.hosted import Hosted
from tests.sources.samples import DEMO, NOON, add, addition, bytes_of, everything, faults, shown
from tests.stores import conftest as stores

WHEEL, SDIST = "demo-1.0-py3-none-any.whl", "demo-1.0.tar.gz"


pytestmark = pytest.mark.parametrize("store", stores.DRIVERS, indirect=True)


@pytest.fixture
def source(sink: Sink) -> Source:
    """The sink as those see it who read from it."""
    assert isinstance(sink, Hosted)  # every sink is a source too; protocols cannot say that of a value
    return sink


def reason(text: str | None) -> Callable[[File], File]:
    return lambda file: replace(file, yanked=text)


# Adding


async def test_what_was_added_is_there_with_all_that_was_said_of_it(sink: Sink, source: Source) -> None:
    made = addition(sink.staging, WHEEL, by="alice")
    assert await sink.add(made)
    assert (await source.project(DEMO)).files == (replace(made.file, origin=sink.name),)
    assert await bytes_of(source, WHEEL) == WHEEL.encode()
    assert await everything(await source.open_metadata(DEMO, made.file)) == made.metadata
    assert [file.by for file in await sink.files(DEMO)] == ["alice"]


async def test_identical_bytes_again_are_no_change(sink: Sink, source: Source) -> None:
    assert await add(sink, WHEEL, by="alice")
    before = await source.revision(DEMO)
    assert not await add(sink, WHEEL, by="bob", now=NOON + timedelta(days=1))
    assert await source.revision(DEMO) == before
    [file] = await sink.files(DEMO)
    assert (file.by, file.uploaded) == ("alice", NOON)


async def test_other_bytes_under_a_name_are_a_conflict_in_the_words_that_clients_know(
    sink: Sink, source: Source
) -> None:
    await add(sink, WHEEL)
    digest = addition(sink.staging, WHEEL).file.hashes["sha256"]
    with pytest.raises(Conflict) as refused:
        await add(sink, WHEEL, data=b"other")
    assert str(refused.value) == (
        f"File already exists ('{WHEEL}', with sha256 hash '{digest}'); files never change: publish a new version"
    )
    assert await bytes_of(source, WHEEL) == WHEEL.encode()


async def test_a_deleted_filename_is_never_used_again_not_even_for_the_same_bytes(sink: Sink, source: Source) -> None:
    await add(sink, WHEEL)
    await sink.remove(DEMO, frozenset({WHEEL}), by="alice", now=NOON)
    for data in (b"other", WHEEL.encode()):
        with pytest.raises(Conflict) as refused:
            await add(sink, WHEEL, data=data)
        assert str(refused.value) == (
            f"{WHEEL} was deleted on 2026-11-20 and its name cannot be used for other bytes "
            "(publish a new version, or `entrepot restore` the deleted file)"
        )
    assert await shown(source) == []


@pytest.mark.parametrize("status", ["archived", "quarantined"])
async def test_a_closed_project_takes_no_files(sink: Sink, status: StatusName) -> None:
    await add(sink, WHEEL)
    await sink.mark(DEMO, Status(status=status))
    with pytest.raises(Denied) as refused:
        await add(sink, SDIST)
    assert str(refused.value) == (
        f"project demo is {status} and takes no new files (`entrepot status demo active` opens it again)"
    )
    assert not await add(sink, WHEEL)  # what is there already is no new file
    await sink.mark(DEMO, Status(status="active"))
    assert await add(sink, SDIST)


async def test_a_deprecated_project_takes_files(sink: Sink) -> None:
    await add(sink, WHEEL)
    await sink.mark(DEMO, Status(status="deprecated"))
    assert await add(sink, SDIST)


async def test_a_refused_file_leaves_no_project_behind_it_that_was_not_there(sink: Sink, source: Source) -> None:
    made = addition(sink.staging, WHEEL)
    made.staged.path.unlink()
    with pytest.raises(Exception, match="is gone"):
        await sink.add(made)
    with pytest.raises(NotFound):
        await source.project(DEMO)
    assert is_absent(await source.revision(DEMO))
    assert await add(sink, WHEEL)


async def test_equal_bytes_under_two_names_are_two_files(sink: Sink, source: Source) -> None:
    await add(sink, "demo-1.0.tar.gz", data=b"same")
    await add(sink, "demo-2.0.tar.gz", data=b"same")
    await sink.remove(DEMO, frozenset({"demo-1.0.tar.gz"}), by="alice", now=NOON)
    assert await bytes_of(source, "demo-2.0.tar.gz") == b"same"


# Status


async def test_a_quarantined_project_offers_no_files_and_keeps_them(sink: Sink, source: Source) -> None:
    await add(sink, WHEEL)
    await sink.mark(DEMO, Status(status="quarantined", reason="malware"))
    page = await source.project(DEMO)
    assert (page.files, page.status) == ((), Status(status="quarantined", reason="malware"))
    with pytest.raises(NotFound):
        page.file(WHEEL)
    assert [file.filename for file in await sink.files(DEMO)] == [WHEEL]
    await sink.mark(DEMO, Status())
    assert await bytes_of(source, WHEEL) == WHEEL.encode()


async def test_a_status_is_on_the_page(sink: Sink, source: Source) -> None:
    await add(sink, WHEEL)
    for status in (Status(status="archived"), Status(status="deprecated", reason="use other"), Status()):
        await sink.mark(DEMO, status)
        assert (await source.project(DEMO)).status == status
        assert await shown(source) == [WHEEL]


# Amending


async def test_amending_changes_what_it_is_told_to_and_says_what_that_was(sink: Sink, source: Source) -> None:
    await add(sink, WHEEL)
    await add(sink, SDIST)

    def yank_the_wheel(file: File) -> File:
        return replace(file, yanked="broken") if file.filename == WHEEL else file

    [changed] = await sink.amend(DEMO, yank_the_wheel)
    assert (changed.filename, changed.yanked) == (WHEEL, "broken")
    assert {file.filename: file.yanked for file in (await source.project(DEMO)).files} == {WHEEL: "broken", SDIST: None}
    assert await sink.amend(DEMO, yank_the_wheel) == ()
    [restored] = await sink.amend(DEMO, reason(None))
    assert restored.yanked is None


async def test_an_empty_reason_is_a_yank(sink: Sink, source: Source) -> None:
    await add(sink, WHEEL)
    await sink.amend(DEMO, reason(""))
    assert [file.yanked for file in (await source.project(DEMO)).files] == [""]


# Removing and restoring


async def test_what_was_removed_is_off_the_page_and_has_a_tombstone(sink: Sink, source: Source) -> None:
    await add(sink, WHEEL, by="alice")
    await add(sink, SDIST)
    await sink.remove(DEMO, frozenset({WHEEL}), by="bob", now=NOON)
    assert await shown(source) == [SDIST]
    [removed] = await sink.removed(DEMO)
    assert (removed.file.filename, removed.file.by, removed.by, removed.at) == (WHEEL, "alice", "bob", NOON)


async def test_what_was_restored_is_as_it_was(sink: Sink, source: Source) -> None:
    await add(sink, WHEEL)
    await add(sink, SDIST)
    await sink.amend(DEMO, reason("old"))
    before = await source.project(DEMO)
    await sink.remove(DEMO, frozenset({WHEEL, SDIST}), by="alice", now=NOON)
    await sink.restore(DEMO, frozenset({WHEEL, SDIST}))
    assert await source.project(DEMO) == before
    assert await sink.removed(DEMO) == ()
    assert await bytes_of(source, WHEEL) == WHEEL.encode()
    assert not await add(sink, WHEEL)


async def test_removing_and_restoring_again_changes_nothing(sink: Sink, source: Source) -> None:
    await add(sink, WHEEL)
    await sink.remove(DEMO, frozenset({WHEEL}), by="alice", now=NOON)
    before = await source.revision(DEMO)
    await sink.remove(DEMO, frozenset({WHEEL}), by="bob", now=NOON + timedelta(1))
    assert await source.revision(DEMO) == before
    assert [removed.by for removed in await sink.removed(DEMO)] == ["alice"]
    await sink.restore(DEMO, frozenset({WHEEL}))
    after = await source.revision(DEMO)
    await sink.restore(DEMO, frozenset({WHEEL}))
    assert [file.filename for file in await sink.files(DEMO)] == [WHEEL]
    assert len({before, after}) == 2


async def test_tombstones_are_told_oldest_first(sink: Sink) -> None:
    for number, filename in enumerate((SDIST, WHEEL)):
        await add(sink, filename)
        await sink.remove(DEMO, frozenset({filename}), by="x", now=NOON + timedelta(number))
    assert [removed.file.filename for removed in await sink.removed(DEMO)] == [SDIST, WHEEL]


# What is not there


Change = Callable[[Sink], Awaitable[object]]
CHANGES: dict[str, Change] = {
    "files": lambda sink: sink.files(DEMO),
    "amend": lambda sink: sink.amend(DEMO, reason("")),
    "mark": lambda sink: sink.mark(DEMO, Status(status="archived")),
    "remove": lambda sink: sink.remove(DEMO, frozenset({"x-1.tar.gz"}), by="x", now=NOON),
    "restore": lambda sink: sink.restore(DEMO, frozenset({"x-1.tar.gz"})),
}


@pytest.mark.parametrize("change", CHANGES)
async def test_an_unknown_project_is_not_found_and_not_made(sink: Sink, source: Source, change: str) -> None:
    with pytest.raises(NotFound, match=r"^no project demo$"):
        await CHANGES[change](sink)
    assert is_absent(await source.revision(DEMO))
    assert await sink.removed(DEMO) == ()


@pytest.mark.parametrize("change", ["remove", "restore"])
async def test_an_unknown_file_is_not_found_and_nothing_changes(sink: Sink, source: Source, change: str) -> None:
    await add(sink, WHEEL)
    before = await source.revision(DEMO)
    with pytest.raises(NotFound, match=r"no (deleted )?file x-1\.tar\.gz in project demo"):
        await CHANGES[change](sink)
    assert await source.revision(DEMO) == before


async def test_of_several_files_to_remove_all_must_be_there(sink: Sink, source: Source) -> None:
    await add(sink, WHEEL)
    with pytest.raises(NotFound):
        await sink.remove(DEMO, frozenset({WHEEL, SDIST}), by="x", now=NOON)
    assert await shown(source) == [WHEEL]


# Revisions


async def test_a_revision_changes_exactly_when_the_answer_may(store: Store, sink: Sink, source: Source) -> None:
    seen: list[Revision] = [await source.revision(DEMO)]

    async def after(change: Awaitable[object], *, changed: bool) -> None:
        await change
        revision = await source.revision(DEMO)
        assert (revision != seen[-1]) is changed
        # Where etags are of the content, the revision of an answer comes back with the answer.
        assert (revision not in seen) is changed or store.traits.etags_of_content
        seen.append(revision)

    await after(add(sink, WHEEL), changed=True)
    await after(add(sink, WHEEL), changed=False)
    await after(add(sink, SDIST), changed=True)
    await after(sink.amend(DEMO, reason("old")), changed=True)
    await after(sink.amend(DEMO, reason("old")), changed=False)
    await after(sink.amend(DEMO, reason(None)), changed=True)
    await after(sink.mark(DEMO, Status(status="archived")), changed=True)
    await after(sink.mark(DEMO, Status(status="archived")), changed=False)
    await after(sink.mark(DEMO, Status(status="archived", reason="why")), changed=True)
    await after(sink.mark(DEMO, Status()), changed=True)
    await after(sink.remove(DEMO, frozenset({WHEEL}), by="x", now=NOON), changed=True)
    await after(sink.restore(DEMO, frozenset({WHEEL})), changed=True)
    await after(add(sink, "other-1.tar.gz"), changed=False)


async def test_a_second_node_sees_every_change_at_once(store: Store, sink: Sink) -> None:
    """Another process has parsed documents of its own: it must not answer from them."""
    there: Source = Hosted("main", store)
    with pytest.raises(NotFound):
        await there.project(DEMO)
    await add(sink, WHEEL)
    assert await shown(there) == [WHEEL]
    await add(sink, SDIST)
    assert await shown(there) == [WHEEL, SDIST]
    await sink.remove(DEMO, frozenset({WHEEL, SDIST}), by="x", now=NOON)
    assert await shown(there) == []
    assert [name async for name in there.projects()] == [DEMO]


# All at once


async def test_thirty_files_added_at_once_are_all_there(
    store: Store, sink: Sink, source: Source, unsynced: None
) -> None:
    filenames = [f"demo-{number}.tar.gz" for number in range(30)]
    assert all(await asyncio.gather(*(add(sink, filename, by=f"task {filename}") for filename in filenames)))
    assert await shown(source) == filenames
    for filename in filenames:
        assert await bytes_of(source, filename) == filename.encode()
    assert [file.by for file in await sink.files(DEMO)] == [f"task {filename}" for filename in filenames]
    assert await faults(store) == []


async def test_thirty_new_projects_at_once_are_all_listed(
    store: Store, sink: Sink, source: Index, unsynced: None
) -> None:
    names = [normalise(f"p{number}") for number in range(30)]
    await asyncio.gather(*(add(sink, f"{name}-1.tar.gz") for name in names))
    assert [name async for name in source.projects()] == sorted(names)
    assert await faults(store) == []


async def test_of_many_that_add_one_name_with_other_bytes_one_wins(sink: Sink, source: Source, unsynced: None) -> None:
    bodies = [b"%d" % number for number in range(10)]
    outcomes = await asyncio.gather(*(add(sink, SDIST, data=body) for body in bodies), return_exceptions=True)
    [winner] = [body for body, outcome in zip(bodies, outcomes, strict=True) if outcome is True]
    assert all(outcome is True or isinstance(outcome, Conflict) for outcome in outcomes)
    assert await bytes_of(source, SDIST) == winner


async def test_of_many_that_add_the_same_bytes_all_succeed_and_one_added_them(
    sink: Sink, source: Source, unsynced: None
) -> None:
    tasks = (add(sink, SDIST, by=f"{number}") for number in range(10))
    outcomes = await asyncio.gather(*tasks)
    assert sorted(outcomes) == [False] * 9 + [True]
    assert await shown(source) == [SDIST]


async def test_changes_of_all_kinds_at_once_are_all_kept(sink: Sink, source: Source, unsynced: None) -> None:
    for number in range(10):
        await add(sink, f"demo-{number}.tar.gz")

    async def yank(version: str) -> None:
        await sink.amend(DEMO, lambda file: replace(file, yanked="x") if file.version == version else file)

    await asyncio.gather(
        *(add(sink, f"demo-{number}.tar.gz") for number in range(10, 20)),
        *(yank(str(number)) for number in range(5)),
        *(sink.remove(DEMO, frozenset({f"demo-{number}.tar.gz"}), by="x", now=NOON) for number in range(5, 8)),
        sink.mark(DEMO, Status(status="deprecated")),
    )
    page = await source.project(DEMO)
    assert {file.version for file in page.files} == {*map(str, range(5)), "8", "9", *map(str, range(10, 20))}
    assert {file.version for file in page.files if file.yanked} == set(map(str, range(5)))
    assert len(await sink.removed(DEMO)) == 3
    assert page.status.status == "deprecated"
