"""That no swap is lost and no etag comes back, on a disk store, whatever the clock does."""

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from entrepot.errors import Conflict
from entrepot.index import ABSENT, ANY, Etag, OnDisk, Staged
from entrepot.stores.disk import Disk

INCREMENTS = Path(__file__).with_name("increments.py")
MILLISECOND = 1_000_000  # ns
SECOND = 1000 * MILLISECOND


def coarsen(monkeypatch: pytest.MonkeyPatch, *, clock: int, file_system: int) -> None:
    """Count time in steps of so many nanoseconds."""
    now, utime = time.time_ns, os.utime

    def coarse_utime(path: int | str, *, ns: tuple[int, int]) -> None:
        utime(path, ns=(ns[0] - ns[0] % file_system, ns[1] - ns[1] % file_system))

    monkeypatch.setattr(time, "time_ns", lambda: now() - now() % clock)
    monkeypatch.setattr(os, "utime", coarse_utime)


def hasten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Durability is tested elsewhere; here it would only take time."""

    def no_fsync(_: int) -> None:
        return None

    monkeypatch.setattr(os, "fsync", no_fsync)


def test_no_increment_of_four_processes_is_lost(tmp_path: Path) -> None:
    disk = Disk.open(tmp_path / "store", create=True)
    asyncio.run(disk.write("counter", b"0", expect=ABSENT))
    command = [sys.executable, str(INCREMENTS), str(disk.root), "counter"]
    counting = [subprocess.Popen(command) for _ in range(4)]
    assert [process.wait() for process in counting] == [0, 0, 0, 0]
    assert (disk.root / "counter").read_bytes() == b"64"


async def test_of_64_swaps_at_once_in_one_process_one_wins(disk: Disk) -> None:
    etag = await disk.write("counter", b"0", expect=ABSENT)
    outcomes = await asyncio.gather(
        *(disk.write("counter", b"%d" % number, expect=etag) for number in range(64)), return_exceptions=True
    )
    [winner] = [number for number, outcome in enumerate(outcomes) if not isinstance(outcome, Conflict)]
    assert (await disk.stat("counter")).etag == outcomes[winner]
    assert (disk.root / "counter").read_bytes() == b"%d" % winner


@pytest.mark.parametrize(
    ("clock", "file_system"),
    [(1, 1), (4 * MILLISECOND, 1), (4 * MILLISECOND, 4 * MILLISECOND), (SECOND, SECOND), (1, 2 * SECOND)],
)
async def test_a_thousand_swaps_of_equal_size_have_a_thousand_etags(
    disk: Disk, monkeypatch: pytest.MonkeyPatch, clock: int, file_system: int
) -> None:
    coarsen(monkeypatch, clock=clock, file_system=file_system)
    hasten(monkeypatch)
    etag = await disk.write("record", b"0000", expect=ABSENT)
    seen = {etag}
    for number in range(1, 1000):
        etag = await disk.write("record", b"%04d" % number, expect=etag)
        seen.add(etag)
    assert len(seen) == 1000
    assert (await disk.stat("record")).etag == etag


@pytest.mark.parametrize("step", [1, 4 * MILLISECOND, 2 * SECOND])
async def test_no_etag_comes_back_after_a_delete_however_coarse_the_clock(
    disk: Disk, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    coarsen(monkeypatch, clock=step, file_system=step)
    hasten(monkeypatch)
    seen: list[Etag] = []
    for _ in range(200):
        seen.append(await disk.write("record", b"same", expect=ABSENT))
        await disk.delete("record", expect=seen[-1])
        await disk.sweep(time.time() + 3600)  # so that the inode is used again
    assert len(set(seen)) == 200


async def test_no_etag_comes_back_when_the_clock_goes_back(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    hasten(monkeypatch)
    start = time.time_ns()
    seen: list[Etag] = []
    for number in range(100):
        monkeypatch.setattr(time, "time_ns", lambda hours=number: start - hours * 3600 * SECOND)
        seen.append(await disk.write("record", b"same", expect=ANY))
        if number % 3 == 0:
            await disk.delete("record", expect=ANY)
            await disk.sweep(start / SECOND + 3600)
    assert len(set(seen)) == 100


async def test_a_staged_file_written_twice_has_two_etags_however_coarse_the_clock(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    coarsen(monkeypatch, clock=SECOND, file_system=SECOND)
    path = disk.traits.staging / "upload"
    path.write_bytes(b"wheel")
    staged = Staged(path=path, size=5, sha256="")
    etags = [await disk.write("blob", staged, expect=ANY) for _ in range(3)]
    assert len(set(etags)) == 3
    assert isinstance(await disk.read("blob"), OnDisk)
