"""`type = "folder"`: directories as they are, noticed as they change, and never other bytes than the page says."""

import asyncio
import hashlib
import json
import os
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrepot.errors import Conflict, Denied, NotFound, Unavailable
from entrepot.index import Body, Etag, Expect, OnDisk, Span, is_absent
from entrepot.model import ProjectName, normalise
from entrepot.sources import folder as folders
from entrepot.sources.folder import Folder
from entrepot.sources.names import Names
from entrepot.stores.memory import Memory
from tests.distributions import build
from tests.sources.samples import DEMO, bytes_of, contents, everything, shown, until

WHEEL, SDIST = "demo-1.0-py3-none-any.whl", "demo-1.0.tar.gz"
OTHER = normalise("other")


class Opening(Protocol):
    def __call__(self, *roots: Path) -> AbstractAsyncContextManager[Folder]: ...


@pytest.fixture
def dist(tmp_path: Path) -> Path:
    folder = tmp_path / "dist"
    folder.mkdir()
    return folder


@pytest.fixture
def memory(tmp_path: Path) -> Path:
    """Where it is kept what was learned about the files."""
    return tmp_path / "node" / "learned"


@pytest.fixture
async def store() -> AsyncIterator[Memory]:
    store = Memory()
    yield store
    await store.close()


@pytest.fixture
def idle(dist: Path, memory: Path, store: Memory) -> Callable[..., Folder]:
    """A folder index that nothing runs beside."""

    def making(*roots: Path) -> Folder:
        return Folder("wheels", roots or (dist,), learned=memory, names=Names(store, "wheels"), every=0.002)

    return making


@pytest.fixture
def running(idle: Callable[..., Folder]) -> Opening:
    """A folder index as a server runs it, that looks often."""

    @asynccontextmanager
    async def opening(*roots: Path) -> AsyncIterator[Folder]:
        source = idle(*roots)
        async with source.running():
            yield source

    return opening


async def noticing(source: Folder, change: Callable[[], object], project: ProjectName = DEMO) -> None:
    """Make the change, and wait until the source has noticed."""
    before = await source.revision(project)
    change()

    async def noticed() -> bool:
        return await source.revision(project) != before

    await until(noticed, what="the change is noticed")


def put(folder: Path, filename: str, note: str = "") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / filename).write_bytes(contents(filename, note))


def write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True)
    path.write_bytes(data)


def rewrite(path: Path, data: bytes, *, keep_time: bool = False) -> None:
    """As `cp` does: the same file with other bytes. `cp -p` may keep the time as well."""
    before = path.stat()
    with path.open("r+b") as file:
        file.write(data)
        file.truncate()
    if keep_time:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


# What there is


async def test_it_lists_what_lies_in_it_at_any_depth(dist: Path, running: Opening) -> None:
    put(dist, WHEEL)
    put(dist / "a/b", SDIST)
    put(dist / "a", "other-1.0.tar.gz")
    async with running() as source:
        assert [name async for name in source.projects()] == ["demo", "other"]
        assert await shown(source) == [WHEEL, SDIST]
        assert await bytes_of(source, SDIST) == contents(SDIST)


async def test_old_eggs_are_served_as_they_are(dist: Path, running: Opening) -> None:
    text = b"Metadata-Version: 1.1\nName: demo\nVersion: 0.9\n"
    (dist / "demo-0.9-py2.7.egg").write_bytes(build.zip_bytes({"EGG-INFO/PKG-INFO": text, "demo.py": b""}))
    (dist / "demo-0.8-py2.7.egg").write_bytes(b"no archive")
    put(dist, WHEEL)
    async with running() as source:
        page = await source.project(DEMO)
        assert [file.filename for file in page.files] == ["demo-0.9-py2.7.egg", WHEEL]
        egg = page.file("demo-0.9-py2.7.egg")
        assert (egg.version, egg.core_metadata) == ("0.9", False)
        assert egg.legacy is not None
        assert [held.file.filename for held in page.withheld] == ["demo-0.8-py2.7.egg"]


async def test_several_directories_are_one_index(tmp_path: Path, running: Opening) -> None:
    put(tmp_path / "one", WHEEL, "from one")
    put(tmp_path / "two", WHEEL, "from two")
    put(tmp_path / "two", SDIST)
    async with running(tmp_path / "one", tmp_path / "two") as source:
        assert await shown(source) == [WHEEL, SDIST]
        assert await bytes_of(source, WHEEL) == contents(WHEEL, "from one")


async def test_what_a_file_says_of_itself_is_on_the_page(dist: Path, running: Opening) -> None:
    path = build.make_wheel(dist, "demo", "1.0", requires_python=">=3.12")
    async with running() as source:
        [file] = (await source.project(DEMO)).files
        assert (file.requires_python, file.legacy, file.origin) == (">=3.12", None, "wheels")
        assert file.uploaded is not None
        assert file.uploaded.timestamp() == pytest.approx(path.stat().st_mtime, abs=1e-5)
        metadata = await everything(await source.open_metadata(DEMO, file))
        assert metadata.decode() == build.metadata_text("demo", "1.0", requires_python=">=3.12")


async def test_an_empty_directory_is_an_empty_index(running: Opening) -> None:
    async with running() as source:
        assert [name async for name in source.projects()] == []
        with pytest.raises(NotFound, match=r"^no project demo in folder index wheels$"):
            await source.project(DEMO)
        assert is_absent(await source.revision(DEMO))


async def test_a_missing_directory_is_an_empty_index_and_a_warning_until_it_comes(
    tmp_path: Path, running: Opening, caplog: pytest.LogCaptureFixture
) -> None:
    missing = tmp_path / "later"
    async with running(missing) as source:
        assert caplog.messages == [f"folder index wheels: {missing} is not there, so it is empty for now"]
        assert [name async for name in source.projects()] == []
        await noticing(source, lambda: put(missing, WHEEL))
        assert await shown(source) == [WHEEL]


async def test_a_directory_that_cannot_be_read_is_a_warning_told_once(
    dist: Path, running: Opening, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.scandir

    def scandir(path: str) -> Any:
        if path.endswith("locked"):
            raise PermissionError(13, "Permission denied", path)
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    put(dist / "locked", SDIST)
    async with running() as source:
        for number in range(3):
            await noticing(source, lambda number=number: put(dist, f"demo-{number}.tar.gz"))  # type: ignore[misc]
        warning = f"folder index wheels: {dist}/locked cannot be looked into: Permission denied"
        assert caplog.messages == [warning]
        assert SDIST not in await shown(source)


async def test_commands_see_what_there_is_although_nothing_runs(dist: Path, idle: Callable[..., Folder]) -> None:
    put(dist, WHEEL)
    assert [name async for name in idle().projects()] == ["demo"]
    assert await shown(idle()) == [WHEEL]
    assert not is_absent(await idle().revision(DEMO))
    assert await bytes_of(idle(), WHEEL) == contents(WHEEL)


async def test_commands_leave_nothing_behind_where_no_server_ever_ran(
    dist: Path, memory: Path, idle: Callable[..., Folder], caplog: pytest.LogCaptureFixture
) -> None:
    put(dist, WHEEL)
    await shown(idle())
    assert not memory.parent.exists()
    assert caplog.messages == []


# What changes


async def test_a_file_that_comes_and_one_that_goes_are_noticed(dist: Path, running: Opening) -> None:
    put(dist, WHEEL)
    async with running() as source:
        assert await shown(source) == [WHEEL]
        await noticing(source, lambda: put(dist / "new", SDIST))
        assert await shown(source) == [WHEEL, SDIST]
        await noticing(source, (dist / WHEEL).unlink)
        assert await shown(source) == [SDIST]


async def test_a_file_that_another_was_moved_over_is_noticed(dist: Path, tmp_path: Path, running: Opening) -> None:
    put(dist, WHEEL, "before")
    put(tmp_path, WHEEL, "behind")
    async with running() as source:
        before = (await source.project(DEMO)).file(WHEEL)
        await noticing(source, lambda: (tmp_path / WHEEL).rename(dist / WHEEL))
        after = (await source.project(DEMO)).file(WHEEL)
        assert before.hashes != after.hashes
        assert await bytes_of(source, WHEEL) == contents(WHEEL, "behind")


@pytest.mark.parametrize("keep_time", [False, True], ids=["cp", "cp -p"])
@pytest.mark.parametrize("span", [None, Span(0, 100)], ids=["whole", "part"])
async def test_bytes_that_were_written_over_are_never_given_under_the_old_hash(
    dist: Path, running: Opening, keep_time: bool, span: Span | None
) -> None:
    put(dist, WHEEL, "before")
    path, new = dist / WHEEL, contents(WHEEL, "behind")
    assert len(new) == path.stat().st_size
    async with running() as source:
        file = (await source.project(DEMO)).file(WHEEL)
        before = await source.revision(DEMO)
        rewrite(path, new, keep_time=keep_time)
        with pytest.raises(Unavailable) as refused:
            await source.open(DEMO, file, span)
        assert str(refused.value) == f"{WHEEL}: the file changed since its page was made"
        assert (refused.value.status, refused.value.retry_after) == (503, 1)
        assert await source.revision(DEMO) != before
        again = (await source.project(DEMO)).file(WHEEL)
        assert again.hashes["sha256"] == hashlib.sha256(new).hexdigest()
        assert await everything(await source.open(DEMO, again, span)) == (new[:100] if span else new)


async def test_a_file_moved_over_another_with_its_size_and_time_is_not_taken_for_it(
    dist: Path, tmp_path: Path, running: Opening
) -> None:
    """Before the directory is looked at again; build tools give all that they make one time."""
    put(dist, WHEEL, "before")
    async with running() as source:
        file = (await source.project(DEMO)).file(WHEEL)
        put(tmp_path, WHEEL, "behind")
        stamp = (dist / WHEEL).stat().st_mtime_ns
        os.utime(tmp_path / WHEEL, ns=(stamp, stamp))
        (tmp_path / WHEEL).rename(dist / WHEEL)
        with pytest.raises(Unavailable):
            await source.open(DEMO, file)
        assert await bytes_of(source, WHEEL) == contents(WHEEL, "behind")


async def test_what_a_page_says_is_true_however_fast_a_file_changes(dist: Path, running: Opening) -> None:
    """Faster than the clock of the file system counts, with equal sizes."""
    put(dist, WHEEL, "0000")
    given_out = 0
    async with running() as source:
        for number in range(1, 60):
            file = (await source.project(DEMO)).file(WHEEL)
            if number % 2:
                rewrite(dist / WHEEL, contents(WHEEL, f"{number:04}"))
            try:
                data = await everything(await source.open(DEMO, file))
            except Unavailable:
                continue
            given_out += 1
            assert hashlib.sha256(data).hexdigest() == file.hashes["sha256"]
    assert given_out > 20


async def test_a_file_that_only_got_another_mode_or_a_further_name_is_given_as_before(
    dist: Path, tmp_path: Path, running: Opening
) -> None:
    put(dist, WHEEL)
    async with running() as source:
        file = (await source.project(DEMO)).file(WHEEL)
        (dist / WHEEL).chmod(0o600)
        assert await everything(await source.open(DEMO, file)) == contents(WHEEL)
        os.link(dist / WHEEL, tmp_path / "backup")
        content = await source.open(DEMO, file)
        assert isinstance(content, OnDisk)
        assert content.mtime_ns == (dist / WHEEL).stat().st_mtime_ns


async def test_metadata_of_a_file_that_changed_is_not_given(dist: Path, running: Opening) -> None:
    put(dist, WHEEL)
    async with running() as source:
        for other in (contents(WHEEL.replace("1.0", "2.0")), b"no wheel at all"):
            file = (await source.project(DEMO)).files
            before = await source.revision(DEMO)
            rewrite(dist / WHEEL, other)
            with pytest.raises(Unavailable, match="the file changed since its page was made"):
                await source.open_metadata(DEMO, file[0])
            assert await source.revision(DEMO) != before


async def test_a_file_that_went_away_is_not_found_and_spoils_nothing(dist: Path, idle: Callable[..., Folder]) -> None:
    put(dist, WHEEL)
    put(dist, SDIST)
    source = idle()
    file = (await source.project(DEMO)).file(WHEEL)
    (dist / WHEEL).unlink()
    with pytest.raises(NotFound):
        await source.open(DEMO, file)
    with pytest.raises(NotFound):
        await source.open_metadata(DEMO, file)
    assert await shown(source) == [SDIST]


async def test_a_pipe_in_the_place_of_a_file_keeps_nobody_waiting(dist: Path, idle: Callable[..., Folder]) -> None:
    put(dist, WHEEL)
    source = idle()
    file = (await source.project(DEMO)).file(WHEEL)
    (dist / WHEEL).unlink()
    os.mkfifo(dist / WHEEL)
    with pytest.raises(Unavailable):
        await source.open(DEMO, file)


# What is remembered


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that were read to be hashed."""
    real, names = hashlib.file_digest, list[str]()

    def file_digest(file: Any, name: str) -> Any:
        names.append(os.path.basename(str(file.name)))
        return real(file, name)

    monkeypatch.setattr(hashlib, "file_digest", file_digest)
    return names


async def test_a_file_is_read_once_and_then_remembered_also_by_the_next_server(
    dist: Path, running: Opening, hashed: list[str]
) -> None:
    put(dist, WHEEL)
    put(dist, SDIST)
    async with running() as source:
        page = await source.project(DEMO)
        assert sorted(hashed) == [WHEEL, SDIST]
        assert await source.project(DEMO) == page
        await everything(await source.open(DEMO, page.file(WHEEL)))
    async with running() as source:
        assert await source.project(DEMO) == page
        assert len(hashed) == 2
        await noticing(source, lambda: put(dist, "demo-2.0.tar.gz"))
        await source.project(DEMO)
        assert hashed[2:] == ["demo-2.0.tar.gz"]


async def test_what_is_remembered_of_a_file_ends_when_it_changes_while_nobody_looks(
    dist: Path, running: Opening
) -> None:
    put(dist, WHEEL, "before")
    async with running() as source:
        await source.project(DEMO)
    rewrite(dist / WHEEL, contents(WHEEL, "behind"), keep_time=True)
    async with running() as source:
        assert await bytes_of(source, WHEEL) == contents(WHEEL, "behind")


async def test_the_memory_forgets_what_is_gone(dist: Path, memory: Path, running: Opening) -> None:
    put(dist, WHEEL)
    put(dist, SDIST)
    async with running() as source:
        await source.project(DEMO)
        await noticing(source, (dist / WHEEL).unlink)
        await source.project(DEMO)
    assert list(json.loads((memory / "demo.json").read_bytes())) == [f"{dist}/{SDIST}"]


BROKEN = [b"", b"{", b"[]", b'{"x": 1}', b"\xff\xfe", b'{"/x":{"size":-1}}', b"null"]


@pytest.mark.parametrize("data", BROKEN)
async def test_a_broken_memory_is_made_anew(dist: Path, memory: Path, running: Opening, data: bytes) -> None:
    put(dist, WHEEL)
    write(memory / "demo.json", data)
    async with running() as source:
        assert await bytes_of(source, WHEEL) == contents(WHEEL)
    assert len(json.loads((memory / "demo.json").read_bytes())) == 1


@given(st.binary(max_size=60))
def test_no_memory_is_so_broken_that_it_harms(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "broken.json"
    path.write_bytes(data)
    assert isinstance(folders._recalled(path), dict)


async def test_where_nothing_can_be_remembered_all_works_and_it_is_said(
    dist: Path, memory: Path, running: Opening, caplog: pytest.LogCaptureFixture
) -> None:
    put(dist, WHEEL)
    (memory / "demo.json").mkdir(parents=True)
    async with running() as source:
        assert await bytes_of(source, WHEEL) == contents(WHEEL)
    [warning] = caplog.messages
    assert warning.startswith("what was learned about demo cannot be kept: ")


async def test_a_directory_whose_name_is_no_text_is_served_all_the_same(dist: Path, running: Opening) -> None:
    folder = os.fsencode(dist) + b"/\xff\xfe"
    os.mkdir(folder)
    put(Path(os.fsdecode(folder)), WHEEL)
    async with running() as source:
        assert await bytes_of(source, WHEEL) == contents(WHEEL)


# What is withheld or marked


async def test_unsafe_archives_are_withheld_with_the_reason(dist: Path, running: Opening) -> None:
    put(dist, SDIST)
    members = build.wheel_members("demo", "1.0") | {"../evil.py": b"", "/etc/passwd": b""}
    (dist / WHEEL).write_bytes(build.zip_bytes(members))
    async with running() as source:
        page = await source.project(DEMO)
        assert [file.filename for file in page.files] == [SDIST]
        [held] = page.withheld
        assert held.file.filename == WHEEL
        assert "../evil.py" in held.why
        assert "/etc/passwd" in held.why
        with pytest.raises(Denied, match=r"is withheld: .*evil"):
            page.file(WHEEL)


@pytest.mark.parametrize("data", [b"", b"no wheel", b"PK\x03\x04" + bytes(100)])
async def test_what_cannot_be_read_as_an_archive_is_withheld_with_the_reason(
    dist: Path, running: Opening, data: bytes
) -> None:
    put(dist, SDIST)
    (dist / WHEEL).write_bytes(data)
    async with running() as source:
        page = await source.project(DEMO)
        assert [file.filename for file in page.files] == [SDIST]
        assert [held.file.filename for held in page.withheld] == [WHEEL]
        assert len(page.withheld[0].why) > 10


async def test_what_was_withheld_is_shown_when_it_is_mended(dist: Path, running: Opening) -> None:
    (dist / WHEEL).write_bytes(b"half of")
    async with running() as source:
        assert await shown(source) == []
        await noticing(source, lambda: put(dist / "sub", "demo-2.0.tar.gz"))
        rewrite(dist / WHEEL, contents(WHEEL))
        assert await shown(source) == [WHEEL, "demo-2.0.tar.gz"]


async def test_old_forms_are_kept_and_marked_with_what_is_wrong(dist: Path, running: Opening) -> None:
    build.make_wheel(dist, "acme-tools", "1.0", filename="acme.tools-1.0-py3-none-any.whl")
    async with running() as source:
        [file] = (await source.project(normalise("acme-tools"))).files
        assert file.legacy is not None
        assert "acme_tools-1.0-py3-none-any.whl" in file.legacy


async def test_things_that_only_look_like_files_are_passed_over(dist: Path, running: Opening) -> None:
    put(dist, SDIST)
    os.mkfifo(dist / "demo-2.0.tar.gz")
    (dist / "demo-3.0.tar.gz").symlink_to("nowhere")
    (dist / "demo-4.0.tar.gz").symlink_to("demo-4.0.tar.gz")
    (dist / "demo-5.0.tar.gz").symlink_to(dist)
    (dist / "demo-6.0.tar.gz").symlink_to(f"{SDIST}/below")
    (dist / "demo-7.0.tar.gz").symlink_to("/dev/zero")
    async with running() as source:
        assert await shown(source) == [SDIST]


async def test_a_file_that_cannot_be_read_is_unavailable_and_never_absent(dist: Path, running: Opening) -> None:
    (dist / SDIST).symlink_to("/proc/self/mem")  # reading its first page is an error for everybody
    async with running() as source:
        with pytest.raises(Unavailable, match=rf"^{dist}/{SDIST}: cannot be read: Input/output error$"):
            await source.project(DEMO)


def test_a_time_that_no_calendar_has_is_no_time() -> None:
    assert folders.moment(10**30) is None
    assert folders.moment(-(10**30)) is None
    assert folders.moment(-(10**9)) is not None


# Names once served


async def test_a_name_once_served_answers_an_empty_page_when_its_files_are_gone(
    dist: Path, store: Memory, running: Opening
) -> None:
    """Also after a restart, so that nobody else may answer for it."""
    put(dist, WHEEL)
    async with running() as source:
        await noticing(source, (dist / WHEEL).unlink)
        assert (await source.project(DEMO)).files == ()
    assert await Names(store, "wheels").all() == ("demo",)
    async with running() as source:
        page = await source.project(DEMO)
        assert (page.files, page.withheld) == ((), ())
        revision = await source.revision(DEMO)
        assert not is_absent(revision)
        assert [name async for name in source.projects()] == []
        await noticing(source, lambda: put(dist, WHEEL))
        assert await shown(source) == [WHEEL]


async def test_a_name_that_is_forgotten_is_unknown_until_there_are_files_again(
    dist: Path, store: Memory, running: Opening
) -> None:
    put(dist, WHEEL)
    async with running() as source:
        with pytest.raises(Conflict, match=r"^folder index wheels has files of demo"):
            await source.forget(DEMO)
        await noticing(source, (dist / WHEEL).unlink)
        await source.forget(DEMO)
        assert is_absent(await source.revision(DEMO))
        with pytest.raises(NotFound):
            await source.project(DEMO)
        with pytest.raises(NotFound, match="does not remember demo"):
            await source.forget(DEMO)
        assert await Names(store, "wheels").all() == ()
        await noticing(source, lambda: put(dist, WHEEL))
        assert await Names(store, "wheels").all() == ("demo",)


async def test_files_that_come_while_the_store_is_down_are_there_when_it_is_back(
    dist: Path, memory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Down(Memory):
        down = False

        async def write(self, key: str, body: Body, *, expect: Expect) -> Etag:
            if self.down:
                raise Unavailable("the disk is full", status=507)
            return await super().write(key, body, expect=expect)

    store = Down()
    put(dist, "other-1.0.tar.gz")
    source = Folder("wheels", (dist,), learned=memory, names=Names(store, "wheels"), every=0.002)
    async with source.running():
        store.down = True
        put(dist, WHEEL)

        async def said() -> bool:
            return "folder index wheels cannot be looked at: the disk is full" in caplog.messages

        await until(said, what="the log says it")
        assert is_absent(await source.revision(DEMO))
        store.down = False

        async def known() -> bool:
            return not is_absent(await source.revision(DEMO))

        await until(known, what="the file is noticed")
        assert await shown(source) == [WHEEL]
        assert await Names(store, "wheels").knows(DEMO)
    await store.close()


# At once


async def test_pages_asked_for_at_once_are_made_once(dist: Path, running: Opening, hashed: list[str]) -> None:
    for number in range(5):
        put(dist, f"demo-{number}.tar.gz")
    async with running() as source:
        pages = await asyncio.gather(*(source.project(DEMO) for _ in range(10)))
    assert all(page == pages[0] for page in pages)
    assert len(hashed) == 5


async def test_a_large_project_that_is_read_for_the_first_time_keeps_no_other_waiting(
    dist: Path, running: Opening, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, going_on = hashlib.file_digest, threading.Event()

    def file_digest(file: Any, name: str) -> Any:
        if "demo" in str(file.name):
            assert going_on.wait(10)
        return real(file, name)

    monkeypatch.setattr(hashlib, "file_digest", file_digest)
    put(dist, WHEEL)
    put(dist, "other-1.0.tar.gz")
    async with running() as source:
        slow = asyncio.create_task(source.project(DEMO))
        assert await shown(source, OTHER) == ["other-1.0.tar.gz"]
        await noticing(source, lambda: put(dist, "other-2.0.tar.gz"), OTHER)
        assert not slow.done()
        going_on.set()
        assert [file.filename for file in (await slow).files] == [WHEEL]


async def test_it_stops_looking_when_it_ends(running: Opening) -> None:
    before = asyncio.all_tasks()
    async with running():
        assert len(asyncio.all_tasks() - before) == 1
    assert asyncio.all_tasks() == before
