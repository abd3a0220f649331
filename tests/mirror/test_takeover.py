"""A worker that dies in the middle of a download takes no client of another worker with it."""

import hashlib
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.processes import until
from tests.e2e.servers import Server
from tests.mirror.asking import BROKEN, Download, blobs, listed, path_of, said, until_kept
from tests.mirror.conftest import Mirror
from tests.upstream.double import Upstream
from tests.upstream.faults import Fault, other_bytes
from tests.upstream.stock import Item, Manner, wheel

MIB = 1 << 20


@dataclass
class Shared:
    """One file that is on its way to clients of both workers."""

    server: Server
    item: Item
    running: list[Download]

    @property
    def staged(self) -> Path:
        [path] = (self.server.data / "store" / "staging").glob("mirror-*")
        return path

    def readers(self) -> set[int]:
        """The workers that have the file open."""
        return {worker for worker in self.server.workers() if self._has_open(worker)}

    def _has_open(self, worker: int) -> bool:
        staged = str(self.staged)
        try:
            return any(os.readlink(fd) == staged for fd in Path(f"/proc/{worker}/fd").iterdir())
        except FileNotFoundError:  # a descriptor that was closed just now
            return self._has_open(worker)

    def leader(self) -> int:
        """The worker that holds its lock."""
        inode = str(self.staged.stat().st_ino)
        for line in Path("/proc/locks").read_text().splitlines():
            words = line.split()
            if "FLOCK" in words and words[-3].rpartition(":")[2] == inode:
                return int(words[-4])
        pytest.fail(f"nobody has locked {self.staged}")

    def kill_leader(self) -> None:
        os.kill(self.leader(), signal.SIGKILL)

    def results(self) -> list[str | None]:
        """The hash of what each client got; None for one whose answer was cut."""
        with ThreadPoolExecutor(len(self.running)) as pool:
            return list(pool.map(_digest, self.running))


def _digest(download: Download) -> str | None:
    try:
        assert download.response.status == 200
        return hashlib.sha256(download.rest()).hexdigest()  # only a read to the end tells that it was cut
    except BROKEN:
        return None


@contextmanager
def shared(server: Server, item: Item, fault: Fault) -> Iterator[Shared]:
    """Both workers have clients of the file, which waits at the gate of the fault."""
    gate = fault.before or fault.within
    assert gate is not None
    running = [Download(server, path_of("demo", item))]
    download = Shared(server, item, running)
    gate.reached()
    try:

        def by_both() -> bool:
            if len(download.readers()) == 2:
                return True
            running.append(Download(server, path_of("demo", item)))
            return False

        until(by_both, what="clients of both workers")
        yield download
    finally:
        for each in running:
            each.close()


def whole(upstream: Upstream, item: Item) -> int:
    return len([seen for seen in upstream.asked(path_of("demo", item), method="GET") if not seen.range])


@pytest.fixture
def item() -> Item:
    return wheel("demo", size=3 * MIB)


@pytest.fixture
def server(mirror: Mirror, upstream: Upstream, item: Item) -> Server:
    upstream.add("demo", item)
    server = mirror(workers=2, prefetch="0", timeout='"20 s"')
    for _ in range(8):  # both workers know the page
        assert listed(server, "demo")
    return server


def test_who_followed_a_dead_leader_gets_the_whole_file(server: Server, upstream: Upstream, item: Item) -> None:
    held = upstream.held(path_of("demo", item), after=MIB)
    with shared(server, item, held) as download:
        download.kill_leader()
        held.end()
        results = download.results()
        assert set(results) <= {item.sha256, None}
        assert item.sha256 in results
    until_kept(server, item)
    assert whole(upstream, item) == 2
    said(server, "died", item.filename)


def test_what_a_client_has_already_does_not_come_again(server: Server, upstream: Upstream, item: Item) -> None:
    held = upstream.held(path_of("demo", item), after=MIB)
    with shared(server, item, held) as download:
        heads = [each.read(MIB // 2) for each in download.running]
        assert set(heads) == {item.data[: MIB // 2]}
        download.kill_leader()
        held.end()
        rests = [_rest(each) for each in download.running]
        assert set(rests) <= {item.data[MIB // 2 :], None}
        assert item.data[MIB // 2 :] in rests


def _rest(download: Download) -> bytes | None:
    try:
        return download.rest()
    except BROKEN:
        return None


def test_a_leader_that_dies_before_the_first_byte_is_succeeded(server: Server, upstream: Upstream, item: Item) -> None:
    held = upstream.held(path_of("demo", item))
    with shared(server, item, held) as download:
        download.kill_leader()
        held.end()
        assert item.sha256 in download.results()
    until_kept(server, item)


def test_two_leaders_may_die(server: Server, upstream: Upstream, item: Item) -> None:
    held = upstream.held(path_of("demo", item), after=MIB)
    with shared(server, item, held) as first:
        leader = first.leader()
        first.kill_leader()
        assert held.within is not None
        held.within.reached(2)
        until(lambda: len(server.workers()) == 2 and leader not in server.workers(), what="another worker")
        with shared(server, item, held) as second:
            second.kill_leader()
            held.end()
            assert item.sha256 in second.results()
    until_kept(server, item)


def test_nobody_gets_the_beginning_of_one_file_and_the_end_of_another(
    server: Server, upstream: Upstream, item: Item
) -> None:
    wrong = upstream.fault(path_of("demo", item), within=upstream.gate(), after=MIB, change=other_bytes, times=1)
    with shared(server, item, wrong) as download:
        assert {each.read(MIB // 2) for each in download.running} == {other_bytes(item.data)[: MIB // 2]}
        download.kill_leader()
        wrong.end()
        assert [_rest(each) for each in download.running] == [None] * len(download.running)
    until_kept(server, item)
    assert server.get(path_of("demo", item)).body == item.data


def test_a_leader_that_fails_and_lives_is_not_succeeded(server: Server, upstream: Upstream, item: Item) -> None:
    """Upstream is at fault, which a second request would only ask for again."""
    wrong = upstream.fault(path_of("demo", item), within=upstream.gate(), after=MIB, change=other_bytes)
    with shared(server, item, wrong) as download:
        assert wrong.within is not None
        wrong.within.open()
        assert set(download.results()) == {None}
    assert item.filename not in blobs(server)
    assert whole(upstream, item) == 1


def test_an_idle_client_of_the_leader_keeps_nobody_waiting(mirror: Mirror, upstream: Upstream) -> None:
    item = wheel("demo", size=24 * MIB)
    upstream.add("demo", item)
    server = mirror(workers=2, prefetch="0", timeout='"20 s"')
    for _ in range(8):
        assert listed(server, "demo")
    held = upstream.held(path_of("demo", item), after=MIB)
    with shared(server, item, held) as download:
        idle = download.running.pop(0)  # the first one, which made its worker the leader
        held.end()
        assert set(download.results()) == {item.sha256}
        idle.close()


def test_files_without_any_hash_are_succeeded_as_well(mirror: Mirror, upstream: Upstream, item: Item) -> None:
    upstream.add("demo", item, manner=Manner(hashes=(), sizes=False))
    server = mirror(workers=2, prefetch="0", timeout='"20 s"')
    for _ in range(8):
        assert listed(server, "demo")
    held = upstream.held(path_of("demo", item), after=MIB)
    with shared(server, item, held) as download:
        download.kill_leader()
        held.end()
        assert item.sha256 in download.results()
