"""The marks by which every process of a machine learns that an object changed."""

import asyncio
import os
import sys
import time
from pathlib import Path

import pytest

from entrepot.errors import NotFound
from entrepot.index import ABSENT, ANY
from entrepot.stores.disk import Disk

KEY = "private/projects/numpy.json"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "store"


async def test_a_write_by_another_opening_of_the_store_is_seen_at_once(root: Path) -> None:
    ours, theirs = Disk.open(root, create=True), Disk.open(root, create=False)
    with pytest.raises(NotFound):
        await ours.stat(KEY)
    for number in range(100):
        etag = await theirs.write(KEY, b"%d" % number, expect=ANY)
        assert (await ours.stat(KEY)).etag == etag
    await theirs.delete(KEY, expect=ANY)
    with pytest.raises(NotFound):
        await ours.stat(KEY)


async def test_a_write_by_another_process_is_seen_at_once(root: Path) -> None:
    ours = Disk.open(root, create=True)
    before = await ours.write(KEY, b"1", expect=ABSENT)
    assert (await ours.stat(KEY)).etag == before
    program = (
        "import asyncio, sys; from pathlib import Path; from entrepot.stores.disk import Disk;"
        "from entrepot.index import ANY;"
        "asyncio.run(Disk.open(Path(sys.argv[1]), create=False).write(sys.argv[2], b'2', expect=ANY))"
    )
    other = await asyncio.create_subprocess_exec(sys.executable, "-c", program, str(root), KEY)
    assert await other.wait() == 0
    assert (await ours.stat(KEY)).etag != before


async def test_what_has_not_changed_is_not_asked_for_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Disk.open(root, create=True)
    etag = await store.write(KEY, b"1", expect=ABSENT)
    assert (await store.stat(KEY)).etag == etag
    monkeypatch.setattr(os, "lstat", None)
    assert (await store.stat(KEY)).etag == etag


async def test_a_change_that_nobody_told_of_is_seen_after_a_second(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Disk.open(root, create=True)
    before = await store.write(KEY, b"1", expect=ABSENT)
    assert (await store.stat(KEY)).etag == before
    (root / KEY).write_bytes(b"restored")
    clock = time.monotonic()
    monkeypatch.setattr("entrepot.stores.changes.time.monotonic", lambda: clock + 1.01)
    assert (await store.stat(KEY)).etag != before


async def test_marks_that_were_deleted_are_made_anew_and_nothing_is_missed_for_long(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Disk.open(root, create=True)
    before = await store.write(KEY, b"1", expect=ABSENT)
    assert (await store.stat(KEY)).etag == before
    (root / "locks/changes").unlink()
    etag = await store.write(KEY, b"22", expect=before)
    late = Disk.open(root, create=False)
    assert (await late.stat(KEY)).etag == etag
    clock = time.monotonic()
    monkeypatch.setattr("entrepot.stores.changes.time.monotonic", lambda: clock + 1.01)
    assert (await store.stat(KEY)).etag == etag


async def test_a_writer_soon_finds_marks_that_somebody_else_made_anew(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Disk.open(root, create=True)
    await store.write(KEY, b"1", expect=ABSENT)
    marks = root / "locks/changes"
    untold = bytes(marks.stat().st_size)
    marks.unlink()
    marks.write_bytes(untold)
    clock = time.monotonic()
    monkeypatch.setattr("entrepot.stores.changes.time.monotonic", lambda: clock + 0.51)
    await store.write(KEY, b"2", expect=ANY)
    assert marks.read_bytes() != untold


async def test_the_marks_of_many_stores_are_not_all_kept_open(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for number in range(40):
        await Disk.open(tmp_path / str(number), create=True).write(KEY, b"1", expect=ABSENT)
    assert len(os.listdir("/proc/self/fd")) < before + 20


async def test_a_store_restored_without_its_working_folders_can_be_written(root: Path) -> None:
    store = Disk.open(root, create=True)
    await store.write(KEY, b"1", expect=ABSENT)
    (root / "locks/changes").unlink()
    for lock in (root / "locks").iterdir():
        lock.unlink()
    for folder in ("locks", "staging", "trash"):
        (root / folder).rmdir()
    again = Disk.open(root, create=False)
    await again.write(KEY, b"2", expect=ANY)
    await again.delete(KEY, expect=ANY)
