"""What a disk store does beyond the contract: files, folders, owners, failures, leftovers."""

import asyncio
import errno
import fcntl
import gc
import hashlib
import os
import stat
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

import pytest

from entrepot.errors import Conflict, EntrepotError, Invalid, NotFound, Unavailable
from entrepot.index import ABSENT, ANY, Etag, OnDisk, Span, Staged, Stream
from entrepot.stores import open_staging, open_store, placing, stripes
from entrepot.stores.disk import Disk
from entrepot.stores.memory import Memory
from entrepot.stores.ownership import sync_folder
from entrepot.stores.staging import StagingFile

KEY = "private/projects/numpy.json"
HOUR = 3600.0
Monkey: TypeAlias = pytest.MonkeyPatch
AS_ROOT = os.geteuid() == 0


def staged_at(path: Path, data: bytes) -> Staged:
    path.write_bytes(data)
    return Staged(path=path, size=len(data), sha256=hashlib.sha256(data).hexdigest())


def listed(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def tree(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*"))


def failing(code: int) -> Callable[..., int]:
    def fail(*_: object, **__: object) -> int:
        raise OSError(code, os.strerror(code))

    return fail


def open_files() -> set[str]:
    folder = "/proc/self/fd"
    return {os.path.realpath(f"{folder}/{name}") for name in os.listdir(folder)}


@contextmanager
def run_by(uid: int, monkeypatch: Monkey) -> Iterator[None]:
    """As if another user ran this process; really so if we may become one."""
    if AS_ROOT:
        os.seteuid(uid)
        try:
            yield
        finally:
            os.seteuid(0)
    else:
        with monkeypatch.context() as patched:
            patched.setattr(os, "geteuid", lambda: uid)
            yield


# Opening


def test_a_folder_without_a_store_is_refused_and_left_alone(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="--create"):
        Disk.open(tmp_path, create=False)
    with pytest.raises(Unavailable, match="--create"):
        Disk.open(tmp_path / "missing", create=False)
    assert listed(tmp_path) == []


def test_a_store_that_was_created_opens_and_keeps_its_id(tmp_path: Path) -> None:
    Disk.open(tmp_path / "a" / "store", create=True)
    identity = (tmp_path / "a/store/entrepot.json").read_bytes()
    Disk.open(tmp_path / "a" / "store", create=False)
    Disk.open(tmp_path / "a" / "store", create=True)
    assert (tmp_path / "a/store/entrepot.json").read_bytes() == identity
    assert listed(tmp_path / "a/store") == ["entrepot.json", "locks", "staging", "trash"]


def test_a_later_schema_is_refused(tmp_path: Path) -> None:
    (tmp_path / "entrepot.json").write_text('{"id": "x", "schema": 2}')
    with pytest.raises(Unavailable, match="newer entrepot"):
        Disk.open(tmp_path, create=True)


@pytest.mark.parametrize("content", ["", "{}", '{"id": 1, "schema": 1}', "\xff"])
def test_a_damaged_identity_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "entrepot.json").write_text(content, encoding="latin-1")
    with pytest.raises(Unavailable, match="does not describe a store"):
        Disk.open(tmp_path, create=False)


def test_processes_that_create_a_store_at_once_agree_on_its_id(tmp_path: Path) -> None:
    script = (
        "import sys, pathlib; from entrepot.stores.disk import Disk; sys.stdin.readline();"
        "Disk.open(pathlib.Path(sys.argv[1]), create=True);"
        "print(pathlib.Path(sys.argv[1], 'entrepot.json').read_text())"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "new/store")]
    creating = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    for process in creating:
        assert process.stdin
        process.stdin.write("go\n")
        process.stdin.flush()
    answers = {process.communicate()[0] for process in creating}
    assert [process.returncode for process in creating] == [0, 0, 0, 0]
    assert len(answers) == 1
    assert listed(tmp_path / "new/store/staging") == []


def test_a_store_is_opened_by_path_or_url(tmp_path: Path) -> None:
    folder = tmp_path / "a b%20c#ü"
    made = open_store(folder, create=True)
    for where in (str(folder), folder.as_uri(), folder.as_uri().replace("file://", "file://localhost")):
        opened = open_store(where, create=False)
        assert opened.traits == made.traits
    assert isinstance(open_store("memory://", create=False), Memory)


@pytest.mark.parametrize("url", ["ftp://example.org/x", "file://server/x", "file://", "://"])
def test_a_url_of_no_store_is_refused(url: str) -> None:
    with pytest.raises(Invalid):
        open_store(url, create=True)


async def test_a_store_whose_disk_was_unmounted_is_unavailable_and_not_empty(disk: Disk) -> None:
    etag = await disk.write(KEY, b"1", expect=ANY)
    disk.root.rename(disk.root.with_name("elsewhere"))
    disk.root.mkdir()  # the mount point
    attempts: list[Awaitable[object]] = [
        disk.stat(KEY),
        disk.read(KEY),
        disk.write(KEY, b"2", expect=ANY),
        disk.delete(KEY, expect=etag),
        anext(disk.list("")),
        anext(disk.list("private/")),
    ]
    for attempt in attempts:
        with pytest.raises(Unavailable, match="no store here"):
            await attempt
    assert listed(disk.root) == []


# Files and folders


async def test_an_object_is_a_file_at_its_key(disk: Disk) -> None:
    await disk.write(KEY, b"1", expect=ANY)
    opened = await disk.read(KEY)
    assert isinstance(opened, OnDisk)
    assert (opened.path, opened.size) == (disk.root / KEY, 1)


async def test_the_stores_own_files_and_those_that_are_no_keys_are_not_listed(disk: Disk) -> None:
    await disk.write(KEY, b"1", expect=ANY)
    await disk.write("gone", b"1", expect=ANY)
    await disk.delete("gone", expect=ANY)
    staged_at(disk.traits.staging / "upload", b"x")
    (disk.root / "lost+found").mkdir(0)
    (disk.root / "new\nline").write_bytes(b"")
    (disk.root / os.fsdecode(b"latin\xe9")).write_bytes(b"")
    assert [entry.key async for entry in disk.list("")] == [KEY]


async def test_a_symbolic_link_is_no_object_and_leads_nowhere(disk: Disk, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    (disk.root / "link").symlink_to(tmp_path / "secret")
    (disk.root / "circle").symlink_to(disk.root)
    with pytest.raises(NotFound):
        await disk.stat("link")
    with pytest.raises(NotFound):
        await disk.read("link")
    assert [entry async for entry in disk.list("")] == []


async def test_a_named_pipe_is_no_object_and_nobody_waits_for_it(disk: Disk) -> None:
    os.mkfifo(disk.root / "pipe")
    with pytest.raises(NotFound):
        await disk.read("pipe")


async def test_a_staged_file_is_taken_over_without_a_copy(disk: Disk) -> None:
    staged = staged_at(disk.traits.staging / "upload", b"wheel")
    await disk.write("blob", staged, expect=ABSENT)
    assert (disk.root / "blob").samefile(staged.path)


async def test_a_staged_file_on_another_disk_is_copied_and_verified(disk: Disk, monkeypatch: Monkey) -> None:
    link = os.link

    def across(source: str | Path, target: str | Path) -> None:
        if os.path.basename(source) == "upload":
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        link(source, target)

    monkeypatch.setattr(os, "link", across)
    staged = staged_at(disk.traits.staging / "upload", b"wheel")
    await disk.write("blob", staged, expect=ABSENT)
    assert (disk.root / "blob").read_bytes() == b"wheel"
    assert not (disk.root / "blob").samefile(staged.path)
    for wrong in (
        Staged(path=staged.path, size=5, sha256=hashlib.sha256(b"whale").hexdigest()),
        Staged(path=staged.path, size=6, sha256=staged.sha256),
    ):
        with pytest.raises(Invalid, match=r"size|sha256|bytes"):
            await disk.write("other", wrong, expect=ANY)
    assert listed(disk.traits.staging) == ["upload"]
    assert [entry.key async for entry in disk.list("")] == ["blob"]


async def test_folders_that_a_delete_leaves_empty_are_removed(disk: Disk) -> None:
    await disk.write("i/blobs/ab/cd/wheel", b"1", expect=ANY)
    await disk.write("i/blobs/ab/other", b"1", expect=ANY)
    await disk.delete("i/blobs/ab/cd/wheel", expect=ANY)
    assert listed(disk.root / "i/blobs/ab") == ["other"]
    await disk.delete("i/blobs/ab/other", expect=ANY)
    assert listed(disk.root / "i") == []


async def test_the_streams_that_nobody_reads_keep_no_file_open(disk: Disk) -> None:
    await disk.write(KEY, b"x", expect=ANY)
    for _ in range(5):
        disk._read(KEY, Span(0, 1))  # not through a thread, which may let go of its result a moment later
    gc.collect()
    assert str(disk.root / KEY) not in open_files()


async def test_a_file_that_became_shorter_while_it_was_read_is_an_error(disk: Disk) -> None:
    await disk.write(KEY, b"x" * 10, expect=ANY)
    opened = await disk.read(KEY, Span(0, 10))
    os.truncate(disk.root / KEY, 4)
    assert isinstance(opened, Stream)
    assert await anext(opened.body) == b"xxxx"
    with pytest.raises(Unavailable, match="shorter"):
        await anext(opened.body)


# Owners and modes


@pytest.mark.parametrize("umask", [0, 0o077, 0o777])
async def test_files_and_folders_take_the_mode_of_their_folder_whatever_the_umask(disk: Disk, umask: int) -> None:
    disk.root.chmod(0o2770)
    before = os.umask(umask)
    try:
        await disk.write("private/projects/a", b"1", expect=ABSENT)
        await disk.write("private/projects/b", staged_at(disk.traits.staging / "u", b"1"), expect=ANY)
        await disk.write("private/projects/c", body(b"1"), expect=ANY)
    finally:
        os.umask(before)
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in (disk.root / "private").rglob("*")}
    assert set(modes.values()) == {0o2770, 0o660}
    assert all((mode == 0o2770) == path.is_dir() for path, mode in modes.items())
    assert {stat.S_IMODE(path.stat().st_mode) for path in (disk.root / "locks").iterdir()} == {0o660}


async def test_a_folder_decides_for_what_lies_in_it(disk: Disk) -> None:
    (disk.root / "access").mkdir()
    (disk.root / "access").chmod(0o700)
    await disk.write("access/tokens.json", b"1", expect=ABSENT)
    await disk.write("access/more/tokens.json", b"1", expect=ABSENT)
    assert stat.S_IMODE((disk.root / "access/tokens.json").stat().st_mode) == 0o600
    assert stat.S_IMODE((disk.root / "access/more").stat().st_mode) == 0o700


async def test_the_folder_that_a_crash_left_unfinished_is_finished_by_the_next_writer(disk: Disk) -> None:
    (disk.root / "private").mkdir()
    (disk.root / "private").chmod(0o1700)
    await disk.write("private/a", b"1", expect=ABSENT)
    assert (disk.root / "private").stat().st_mode == disk.root.stat().st_mode


async def test_a_stranger_is_refused_before_anything_is_written(public: Path, monkeypatch: Monkey) -> None:
    disk = Disk.open(public / "store", create=True)
    etag = await disk.write(KEY, b"1", expect=ANY)
    staged = staged_at(disk.traits.staging / "upload", b"2")
    before = tree(public)
    with run_by(54321, monkeypatch):
        for attempt in (
            disk.write(KEY, b"2", expect=etag),
            disk.write(KEY, staged, expect=etag),
            disk.write(KEY, body(b"2"), expect=etag),
            disk.write("new/key", b"2", expect=ANY),
            disk.delete(KEY, expect=ANY),
            disk.sweep(time.time()),
        ):
            with pytest.raises(Unavailable, match=r"belongs to .*, who .*#54321.*sudo -u") as caught:
                await attempt
            assert str(disk.root) in str(caught.value)
        assert (await disk.stat(KEY)).etag == etag
    assert tree(public) == before


if AS_ROOT:  # only root can make files of others, so elsewhere there is nothing to test

    async def test_what_root_writes_belongs_to_the_owner_of_the_folder(public: Path) -> None:
        (public / "store").mkdir()
        os.chown(public / "store", 12345, 23456)
        disk = Disk.open(public / "store", create=True)
        await disk.write("private/projects/a", b"1", expect=ABSENT)
        await disk.write("private/projects/b", staged_at(disk.traits.staging / "u", b"1"), expect=ANY)
        with open_staging(disk.traits.staging):
            owners = {(path.stat().st_uid, path.stat().st_gid) for path in (public / "store").rglob("*")}
        assert owners == {(12345, 23456)}

    async def test_the_owner_of_the_folder_need_not_be_in_its_group(public: Path, monkeypatch: Monkey) -> None:
        disk = Disk.open(public / "store", create=True)
        for path in (public / "store", *(public / "store").rglob("*")):
            os.chown(path, 12345, 23456)
        with run_by(12345, monkeypatch):
            await disk.write(KEY, b"1", expect=ABSENT)
            await disk.write("b", staged_at(disk.traits.staging / "u", b"1"), expect=ABSENT)
        assert (disk.root / KEY).stat().st_uid == 12345


# Failures


async def test_permission_denied_is_unavailable_and_never_not_found(public: Path, monkeypatch: Monkey) -> None:
    disk = Disk.open(public / "store", create=True)
    await disk.write(KEY, b"1", expect=ANY)
    (disk.root / KEY).chmod(0)
    (disk.root / "private").chmod(0 if not AS_ROOT else 0o700)
    with run_by(54321, monkeypatch):
        for attempt in (disk.stat(KEY), disk.read(KEY), anext(disk.list(""))):
            with pytest.raises(Unavailable, match="Permission denied") as caught:
                await attempt
            assert str(disk.root / "private") in str(caught.value)
    (disk.root / "private").chmod(0o700)


@pytest.mark.parametrize(
    ("code", "meaning"),
    [
        (errno.ENOSPC, (Unavailable, 507)),
        (errno.EDQUOT, (Unavailable, 507)),
        (errno.EROFS, (Unavailable, 503)),
        (errno.EIO, (Unavailable, 503)),
        (errno.EACCES, (Unavailable, 503)),
        (errno.EMFILE, (Unavailable, 503)),
        (errno.ENAMETOOLONG, (Invalid, 400)),
    ],
)
@pytest.mark.parametrize("call", ["open", "write", "fsync", "rename", "utime"])
async def test_a_write_that_fails_leaves_the_old_object_and_no_leftover(
    disk: Disk, monkeypatch: Monkey, call: str, code: int, meaning: tuple[type[EntrepotError], int]
) -> None:
    etag = await disk.write(KEY, b"before", expect=ANY)
    staged = staged_at(disk.root.parent / "upload", b"after")
    for new in (b"after", body(b"after"), staged):
        with monkeypatch.context() as patched:
            patched.setattr(os, call, failing(code))
            if isinstance(new, Staged) and call in ("open", "write"):
                continue  # it is linked, and what fails then is told of another file
            with pytest.raises(meaning[0]) as caught:
                await disk.write(KEY, new, expect=ANY)
        assert getattr(caught.value, "status", None) == meaning[1]
        assert (await disk.stat(KEY)).etag == etag
        assert (disk.root / KEY).read_bytes() == b"before"
        assert listed(disk.traits.staging) == []


async def test_a_disk_that_fills_up_in_the_middle_is_507_and_names_the_folder(disk: Disk, monkeypatch: Monkey) -> None:
    real = os.write
    left = 1_500_000

    def fill_up(fd: int, data: bytes | memoryview) -> int:
        nonlocal left
        if not left:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = real(fd, data[: min(left, 400_000)])
        left -= written
        return written

    monkeypatch.setattr(os, "write", fill_up)
    with pytest.raises(Unavailable, match="full") as caught:
        await disk.write(KEY, body(b"x" * 1_000_000, b"y" * 1_000_000), expect=ANY)
    assert caught.value.status == 507
    assert str(disk.root) in str(caught.value)
    assert listed(disk.traits.staging) == []
    left = 10_000_000  # somebody makes room, and short writes alone are no failure
    await disk.write(KEY, body(b"x" * 1_000_000, b"y" * 1_000_000), expect=ANY)
    assert (disk.root / KEY).read_bytes() == b"x" * 1_000_000 + b"y" * 1_000_000


def test_what_the_kernel_says_of_a_full_device_is_507() -> None:
    staging = StagingFile("/dev", "/dev/shm/nothing-has-this-name", os.open("/dev/full", os.O_WRONLY))
    with staging, pytest.raises(Unavailable) as caught:
        staging.write(b"x")
    assert caught.value.status == 507


async def test_an_error_of_the_body_is_not_taken_for_one_of_the_disk(disk: Disk) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"x"
        raise OSError(errno.ENOSPC, "of the sender")

    with pytest.raises(OSError, match="of the sender"):
        await disk.write(KEY, broken(), expect=ANY)


# Cancellation


async def test_a_write_cancelled_while_it_opens_its_file_leaves_nothing(disk: Disk, monkeypatch: Monkey) -> None:
    begin = placing.begin
    begun, go = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def slowly(root: str, key: str) -> StagingFile:
        staged = begin(root, key)
        loop.call_soon_threadsafe(begun.set)
        go.wait()
        return staged

    monkeypatch.setattr(placing, "begin", slowly)
    writing = asyncio.create_task(disk.write(KEY, body(b"x"), expect=ANY))
    await begun.wait()
    writing.cancel()
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await writing
    assert listed(disk.traits.staging) == []
    assert [entry async for entry in disk.list("")] == []


async def test_a_cancelled_write_is_over_when_its_caller_hears_of_it(disk: Disk, monkeypatch: Monkey) -> None:
    put = placing.put
    begun, go = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def slowly(root: str, key: str, body: bytes | Staged, expect: Etag) -> Etag:
        loop.call_soon_threadsafe(begun.set)
        go.wait()
        return put(root, key, body, expect)

    monkeypatch.setattr(placing, "put", slowly)
    writing = asyncio.create_task(disk.write(KEY, b"x", expect=ANY))
    await begun.wait()
    for _ in range(2):
        writing.cancel()
        await asyncio.wait({writing}, timeout=0)
        assert not writing.done()
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await writing
    assert (disk.root / KEY).read_bytes() == b"x"
    assert listed(disk.traits.staging) == []


# Sweeping


async def test_what_was_deleted_can_be_opened_for_ten_minutes_more(disk: Disk) -> None:
    await disk.write(KEY, b"1", expect=ANY)
    await disk.delete(KEY, expect=ANY)
    await disk.sweep(time.time() + 590)
    assert len(listed(disk.root / "trash")) == 1
    await disk.sweep(time.time() + 610)
    assert listed(disk.root / "trash") == []


async def test_leftovers_are_swept_after_an_hour_and_what_is_being_written_is_not(disk: Disk) -> None:
    (disk.traits.staging / "left").write_bytes(b"")
    os.utime(disk.traits.staging / "left", (0, 0))
    (disk.traits.staging / "folder").mkdir()
    with open_staging(disk.traits.staging) as writing:
        await disk.sweep(time.time() + 0.9 * HOUR)
        assert listed(disk.traits.staging) == sorted([writing.path.name, "folder", "left"])
        await disk.sweep(time.time() + 30 * HOUR)
        assert listed(disk.traits.staging) == sorted([writing.path.name, "folder"])
    assert listed(disk.traits.staging) == ["folder"]


async def test_sweeping_touches_no_object(disk: Disk) -> None:
    staged = staged_at(disk.traits.staging / "upload", b"wheel")
    await disk.write("blob", staged, expect=ABSENT)
    etag = await disk.write(KEY, b"1", expect=ABSENT)
    await disk.sweep(time.time() + 1000 * HOUR)
    assert listed(disk.traits.staging) == []
    assert (disk.root / "blob").read_bytes() == b"wheel"
    assert (await disk.stat(KEY)).etag == etag


def test_a_staging_file_closed_twice_stays_closed(disk: Disk) -> None:
    staging = open_staging(disk.traits.staging)
    with pytest.raises(BlockingIOError), staging.path.open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    staging.close_and_remove()
    staging.close_and_remove()
    with pytest.raises(ValueError, match="no name"):
        _ = staging.path


def test_the_lock_of_a_key_excludes_the_rest_of_the_process_too(disk: Disk) -> None:
    with stripes.locked(str(disk.root), KEY, os.stat(disk.root)):
        [name] = [path for path in (disk.root / "locks").iterdir() if path.name != "changes"]
        with name.open("rb") as other, pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_folder_that_is_gone_is_durably_so_by_the_one_above(disk: Disk) -> None:
    sync_folder(str(disk.root / "gone" / "too"))


async def test_a_name_that_no_lock_guards_is_not_replaced_by_who_expects_nothing(
    disk: Disk, monkeypatch: Monkey
) -> None:
    def blind(_: str) -> None:
        return None

    await disk.write(KEY, b"other", expect=ANY)
    monkeypatch.setattr(placing, "_existing", blind)
    with pytest.raises(Conflict):
        await disk.write(KEY, b"mine", expect=ABSENT)
    assert (disk.root / KEY).read_bytes() == b"other"


async def body(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part
