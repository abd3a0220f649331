"""A disk store after its writer was killed between any two steps, and the order of these steps."""

import asyncio
import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from entrepot.errors import Unavailable
from entrepot.index import ABSENT, ANY, Staged
from entrepot.stores.disk import Disk

CRASHES = Path(__file__).with_name("crashes.py")
OLD, NEW = b"old" * 1000, b"new" * 1000
DAY = 86400.0

# What the key of the scenario may hold afterwards; None is nothing.
OUTCOMES: dict[str, tuple[str, set[bytes | None]]] = {
    "create": ("old/key", {OLD}),
    "write_first": ("new/folder/key", {None, NEW}),
    "overwrite": ("old/key", {OLD, NEW}),
    "swap": ("old/key", {OLD, NEW}),
    "stream": ("old/key", {OLD, NEW}),
    "take_over": ("new/folder/key", {None, NEW}),
    "take_over_existing": ("old/key", {OLD, NEW}),
    "delete": ("old/key", {OLD, None}),
}


def content(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None


async def usable(disk: Disk, key: str) -> None:
    """The store takes the key again, and sweeping removes what was left and nothing else."""
    found = {entry.key async for entry in disk.list("")}
    assert {"old/other", "another"} <= found <= {"old/key", "old/other", "another", key}
    await disk.write(key, b"again", expect=ANY)
    await disk.sweep(time.time() + DAY)
    assert os.listdir(disk.traits.staging) == []
    assert os.listdir(disk.root / "trash") == []
    assert {entry.key async for entry in disk.list("")} == found | {key}
    modes = {stat.st_mode for stat in map(os.stat, (disk.root, disk.root / "old", (disk.root / key).parent))}
    assert len(modes) == 1


@pytest.mark.parametrize("scenario", OUTCOMES)
def test_a_kill_at_any_step_leaves_the_old_or_the_new_object_and_a_sound_store(scenario: str, tmp_path: Path) -> None:
    key, possible = OUTCOMES[scenario]
    subprocess.run([sys.executable, str(CRASHES), scenario, str(tmp_path)], check=True)
    steps = sorted(tmp_path.iterdir(), key=lambda path: int(path.name))
    assert len(steps) > 3
    seen = set()
    for step in steps:
        disk = Disk.open(step / "store", create=False)
        assert content(disk.root / "old/other") == content(disk.root / "another") == OLD
        seen.add(content(disk.root / key))
        if scenario == "create":
            created_later(disk.root / "deep/store")
        asyncio.run(usable(disk, key))
        assert content(step / "upload") == NEW
    assert seen == possible


def created_later(root: Path) -> None:
    """Either there is a store or one can still be made."""
    try:
        Disk.open(root, create=False)
    except Unavailable:
        Disk.open(root, create=True)
    # It lies in the folder of another store only for this test, which must not find its objects there.
    for path in sorted(root.parent.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()


@contextmanager
def recorded(monkeypatch: pytest.MonkeyPatch, root: Path) -> Iterator[list[str]]:
    """What the block asks of the file system, as lines of call and path within the store."""
    calls: list[str] = []

    def named(path: object) -> str:
        name = os.readlink(f"/proc/self/fd/{path}") if isinstance(path, int) else str(path)
        first, slash, rest = name.removeprefix(f"{root}/").partition("/")
        return first + slash + ("*" if first in ("staging", "locks") and rest else rest)

    def wrap(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            places = args[:2] if name in ("link", "rename") else args[:1]
            calls.append(" ".join((name, *map(named, places))))
            return real(*args, **kwargs)

        return call

    with monkeypatch.context() as patched:
        for name in ("write", "fsync", "link", "rename", "mkdir", "unlink", "utime"):
            patched.setattr(os, name, wrap(name, getattr(os, name)))
        yield calls


async def test_an_upload_is_durable_in_the_order_blob_name_record_name(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    etag = await disk.write("i/projects/x.json", b"before", expect=ABSENT)
    upload = disk.traits.staging / "upload"
    upload.write_bytes(b"wheel")
    staged = Staged(path=upload, size=5, sha256=hashlib.sha256(b"wheel").hexdigest())
    with recorded(monkeypatch, disk.root) as calls:
        await disk.write("i/blobs/ab/wheel", staged, expect=ANY)
        await disk.write("i/projects/x.json", b"after", expect=etag)
    assert calls == [
        # new folders, each durable in the one above before anything is put in it
        "mkdir i/blobs",
        "fsync i",
        "mkdir i/blobs/ab",
        "fsync i/blobs",
        # the blob: its bytes, its name
        "link staging/* staging/*",
        "fsync staging/*",
        "utime staging/*",
        "rename staging/* i/blobs/ab/wheel",
        "fsync i/blobs/ab",
        # and only then the record
        "write staging/*",
        "fsync staging/*",
        "utime staging/*",
        "rename staging/* i/projects/x.json",
        "fsync i/projects",
    ]


async def test_a_blob_published_once_more_has_a_durable_new_time(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    upload = disk.traits.staging / "upload"
    upload.write_bytes(b"wheel")
    staged = Staged(path=upload, size=5, sha256="")
    await disk.write("i/wheel", staged, expect=ANY)
    with recorded(monkeypatch, disk.root) as calls:
        await disk.write("i/wheel", staged, expect=ANY)
    assert calls[-4:] == ["utime staging/*", "fsync staging/*", "fsync i", "unlink staging/*"]


async def test_what_is_created_is_durable_before_its_staging_name_goes(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    with recorded(monkeypatch, disk.root) as calls:
        await disk.write("key", b"x", expect=ABSENT)
    assert calls == [
        "write staging/*",
        "fsync staging/*",
        "utime staging/*",
        "link staging/* key",
        f"fsync {disk.root}",
        "unlink staging/*",
    ]


async def test_a_delete_is_durable_when_it_returns(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    await disk.write("i/key", b"x", expect=ABSENT)
    with recorded(monkeypatch, disk.root) as calls:
        await disk.delete("i/key", expect=ANY)
    assert [call.split()[0] for call in calls] == ["utime", "rename", "fsync"]
    assert calls[-1] == "fsync i"
