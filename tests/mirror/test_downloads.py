"""Files come while they are fetched, once, and stay only if they are what they should be."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.e2e.processes import peak_memory, until
from tests.e2e.servers import Server
from tests.mirror.asking import (
    BROKEN,
    UNAVAILABLE,
    Download,
    assert_never_whole,
    blobs,
    download,
    downloading,
    fresh,
    is_kept,
    names,
    path_of,
    said,
    until_kept,
)
from tests.mirror.conftest import Mirror, Mirrored
from tests.upstream.double import Upstream
from tests.upstream.faults import other_bytes
from tests.upstream.stock import Item, Manner, sdist, thousands, wheel

MIB = 1 << 20


def large(shared: Mirrored, *, size: int = 3 * MIB, manner: Manner | None = None) -> tuple[str, Item]:
    """A project whose page is known and whose one file is not."""
    name = fresh("large")
    item = wheel(name, size=size)
    shared.upstream.add(name, item, manner=manner or Manner())
    assert names(shared.server, name) == {item.filename}
    return name, item


def whole(upstream: Upstream, name: str, item: Item) -> int:
    """How often upstream was asked for all of the file."""
    return len([seen for seen in upstream.asked(path_of(name, item), method="GET") if not seen.range])


def test_a_file_is_fetched_once_and_kept(shared: Mirrored) -> None:
    name = fresh()
    built, source = wheel(name), sdist(name)
    shared.upstream.add(name, built, source)
    for item in (built, source):
        answer = download(shared.server, name, item)
        assert answer.body == item.data
        assert int(answer.headers["content-length"]) == len(item.data)
        until_kept(shared.server, item)
        assert download(shared.server, name, item).body == item.data
        assert whole(shared.upstream, name, item) == 1


def test_files_are_asked_for_as_they_are(shared: Mirrored) -> None:
    """A .tar.gz that comes decompressed has another hash."""
    name, item = large(shared, size=1000)
    assert download(shared.server, name, item).status == 200
    for seen in shared.upstream.asked(path_of(name, item)):
        assert seen.headers.get("accept-encoding", "identity") == "identity"


def test_the_first_bytes_come_before_upstream_has_sent_the_last(shared: Mirrored) -> None:
    name, item = large(shared)
    with shared.upstream.held(path_of(name, item), after=MIB), downloading(shared.server, name, item) as running:
        assert running.response.status == 200
        assert running.read(MIB // 2) == item.data[: MIB // 2]
        assert not is_kept(shared.server, item)
    assert download(shared.server, name, item).body == item.data


def test_a_second_client_joins_the_first(shared: Mirrored) -> None:
    name, item = large(shared)
    held = shared.upstream.held(path_of(name, item), after=MIB)
    with downloading(shared.server, name, item) as first, downloading(shared.server, name, item) as second:
        assert first.read(MIB // 2) == second.read(MIB // 2) == item.data[: MIB // 2]
        held.end()
        assert first.rest() == second.rest() == item.data[MIB // 2 :]
    assert whole(shared.upstream, name, item) == 1


def test_clients_of_several_workers_share_one_download(mirror: Mirror, upstream: Upstream) -> None:
    item = wheel("demo", size=3 * MIB)
    upstream.add("demo", item)
    server = mirror(workers=2, prefetch="0")
    for _ in range(8):
        assert names(server, "demo")
    with upstream.held(path_of("demo", item), after=MIB) as held, ThreadPoolExecutor(16) as pool:
        running = [pool.submit(_digest, server, item) for _ in range(16)]
        assert held.within is not None
        held.within.reached()
        held.end()
        assert {each.result(30) for each in running} == {item.sha256}
    assert whole(upstream, "demo", item) == 1


def _digest(server: Server, item: Item) -> str:
    with downloading(server, "demo", item) as running:
        assert running.response.status == 200
        return running.digest()


def test_a_client_that_goes_away_does_not_stop_it(shared: Mirrored) -> None:
    name, item = large(shared)
    held = shared.upstream.held(path_of(name, item), after=MIB)
    with downloading(shared.server, name, item) as running:
        running.read(MIB // 2)
    held.end()
    until_kept(shared.server, item)
    assert download(shared.server, name, item).body == item.data
    assert whole(shared.upstream, name, item) == 1


def test_a_client_that_takes_nothing_does_not_slow_the_others(shared: Mirrored) -> None:
    name, item = large(shared, size=24 * MIB)
    with downloading(shared.server, name, item) as idle:
        assert idle.response.status == 200
        assert download(shared.server, name, item).body == item.data
        until_kept(shared.server, item)


# What is not as it should be.


@pytest.mark.parametrize("size", [1000, 3 * MIB], ids=["small", "large"])
@pytest.mark.parametrize("times", [1, None], ids=["once", "always"])
def test_bytes_of_another_hash_are_cut_and_not_kept(always: Mirrored, size: int, times: int | None) -> None:
    server = always.server
    name, item = large(always, size=size)
    fault = always.upstream.fault(path_of(name, item), change=other_bytes, times=times)
    assert_never_whole(server, name, item)
    assert item.filename not in blobs(server)
    said(server, item.filename, "sha256")
    fault.end()
    assert until(lambda: _body(server, item, name), within=15, what="the right bytes") == item.data
    server.command("check")


def _body(server: Server, item: Item, name: str = "demo") -> bytes | None:
    """Whole, or none at all."""
    try:
        answer = server.get(path_of(name, item))
    except BROKEN:
        return None
    return answer.body if answer.status == 200 else None


@pytest.mark.parametrize("told", [-1, 1], ids=["smaller", "larger"])
def test_a_file_of_another_size_than_told_is_not_kept(always: Mirrored, told: int) -> None:
    name, item = large(always, size=300_000)
    fault = always.upstream.fault(
        path_of(name, item), change=lambda data: data[:-1] if told > 0 else data + b"x"
    )  # fmt: skip
    assert_never_whole(always.server, name, item)
    assert item.filename not in blobs(always.server)
    fault.end()
    assert until(lambda: _body(always.server, item, name), within=15, what="the right bytes") == item.data


def test_a_download_that_upstream_cuts_once_is_taken_up_again(always: Mirrored) -> None:
    name, item = large(always)
    always.upstream.fault(path_of(name, item), cut=MIB, ranged=False, times=1)
    assert _body(always.server, item, name) in {None, item.data}
    assert until(lambda: _body(always.server, item, name), within=15, what="the whole file") == item.data


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_a_download_that_upstream_cuts_is_incomplete_and_not_kept(always: Mirrored, chunked: bool) -> None:
    name, item = large(always)
    fault = always.upstream.fault(path_of(name, item), cut=200_000, chunked=chunked)
    assert_never_whole(always.server, name, item)
    assert item.filename not in blobs(always.server)
    fault.end()
    assert until(lambda: _body(always.server, item, name), within=15, what="the whole file") == item.data


def test_a_download_without_a_length_comes_whole(shared: Mirrored) -> None:
    name, item = large(shared, manner=Manner(sizes=False))
    with shared.upstream.fault(path_of(name, item), chunked=True):
        assert download(shared.server, name, item).body == item.data


def test_a_download_that_falls_silent_ends(mirror: Mirror, upstream: Upstream) -> None:
    item = wheel("demo", size=3 * MIB)
    upstream.add("demo", item)
    server = mirror(timeout='"1 s"', prefetch="0")
    assert names(server, "demo")
    with upstream.held(path_of("demo", item), after=200_000):
        assert_never_whole(server, "demo", item)
    assert until(lambda: _body(server, item), within=15, what="the whole file") == item.data


def test_a_server_that_was_killed_in_mid_download_begins_anew(mirror: Mirror, upstream: Upstream) -> None:
    item = wheel("demo", size=3 * MIB)
    upstream.add("demo", item)
    server = mirror(prefetch="0")
    assert names(server, "demo")
    with upstream.held(path_of("demo", item), after=MIB), downloading(server, "demo", item) as running:
        running.read(MIB // 2)
        server.kill()
    assert blobs(server) == {}
    server.start()
    assert download(server, "demo", item).body == item.data


def test_a_server_that_stops_in_mid_download_stops(mirror: Mirror, upstream: Upstream) -> None:
    item = wheel("demo", size=3 * MIB)
    upstream.add("demo", item)
    server = mirror(prefetch="0", args=("--grace", "1s"))
    assert names(server, "demo")
    with upstream.held(path_of("demo", item), after=MIB):
        with downloading(server, "demo", item) as running:
            running.read(MIB // 2)
        server.stop(within=10)


# Parts of files.


def test_a_part_of_a_cold_file_does_not_wait_for_the_whole(shared: Mirrored) -> None:
    name, item = large(shared)
    with shared.upstream.fault(path_of(name, item), ranged=False, within=shared.upstream.gate(), after=64 << 10):
        part = shared.server.get(path_of(name, item), {"Range": f"bytes={2 * MIB}-{2 * MIB + 99}"})
        assert (part.status, part.body) == (206, item.data[2 * MIB : 2 * MIB + 100])
        assert part.headers["content-range"] == f"bytes {2 * MIB}-{2 * MIB + 99}/{len(item.data)}"
    assert [seen for seen in shared.upstream.asked(path_of(name, item)) if seen.range]
    until_kept(shared.server, item)
    assert whole(shared.upstream, name, item) <= 1


def test_the_end_of_a_cold_file_can_be_had(shared: Mirrored) -> None:
    """What pip and uv do where there is no metadata."""
    name, item = large(shared)
    head = shared.server.ask("HEAD", path_of(name, item))
    assert (head.status, head.headers["content-length"]) == (200, str(len(item.data)))
    assert head.headers["accept-ranges"] == "bytes"
    part = shared.server.get(path_of(name, item), {"Range": "bytes=-1000"})
    assert (part.status, part.body) == (206, item.data[-1000:])


@pytest.mark.parametrize("ranges", ["ignored", "claimed", "shifted", "other"])
def test_a_part_is_right_or_fails_whatever_upstream_makes_of_ranges(shared: Mirrored, ranges: str) -> None:
    name, item = large(shared, manner=Manner(ranges=ranges))  # type: ignore[arg-type]
    try:
        part = shared.server.get(path_of(name, item), {"Range": f"bytes={MIB}-{MIB + 99}"})
    except BROKEN:
        return
    right = {206: item.data[MIB : MIB + 100], 200: item.data}
    if ranges == "shifted" and part.status == 206:
        return  # nobody can tell that these bytes are of elsewhere before all have come
    assert part.status in UNAVAILABLE or part.body == right[part.status]


@pytest.mark.parametrize("ranges", ["ignored", "claimed"])
def test_where_parts_cannot_be_had_the_whole_is_asked_for_once(mirror: Mirror, upstream: Upstream, ranges: str) -> None:
    manner = Manner(ranges=ranges)  # type: ignore[arg-type]
    items = {name: wheel(name, size=3 * MIB) for name in ("one", "two")}
    server = mirror(prefetch="0")
    for name, item in items.items():
        upstream.add(name, item, manner=manner)
        assert names(server, name)
        for start in (MIB, 2 * MIB):
            part = server.get(path_of(name, item), {"Range": f"bytes={start}-{start + 99}"})
            assert (part.status, part.body) == (206, item.data[start : start + 100])
        until_kept(server, item)
        assert whole(upstream, name, item) == 1
    # Of the host it was learned by one byte.
    assert [seen.range for seen in upstream.asked("/files/*") if seen.range] == ["bytes=0-0"]


def test_a_host_that_ceases_to_send_parts_is_waited_for(mirror: Mirror, upstream: Upstream) -> None:
    item = wheel("demo", size=3 * MIB)
    manner = upstream.add("demo", item)
    server = mirror(prefetch="0")
    assert names(server, "demo")
    manner.ranges = "ignored"
    for start in (MIB, 2 * MIB):
        part = server.get(path_of("demo", item), {"Range": f"bytes={start}-{start + 99}"})
        assert (part.status, part.body) == (206, item.data[start : start + 100])
    until_kept(server, item)
    assert whole(upstream, "demo", item) == 1
    assert len([seen for seen in upstream.asked("/files/*") if seen.range]) == 2


def test_a_part_of_a_kept_file_comes_from_here(shared: Mirrored) -> None:
    name, item = large(shared)
    assert download(shared.server, name, item).body == item.data
    until_kept(shared.server, item)
    shared.upstream.forget()
    part = shared.server.get(path_of(name, item), {"Range": "bytes=10-19"})
    assert (part.status, part.body) == (206, item.data[10:20])
    assert shared.upstream.asked(path_of(name, item)) == []


# Memory.


def test_memory_does_not_grow_with_clients_and_bytes(mirror: Mirror, upstream: Upstream) -> None:
    small, item = wheel("demo", "0.1"), wheel("demo", size=100 * MIB)
    upstream.add("demo", small, item)
    server = mirror(prefetch="0", timeout='"20 s"')
    assert download(server, "demo", small).body == small.data  # so that all code that will run has run
    [worker] = server.workers()
    before = peak_memory(worker)
    running = [Download(server, path_of("demo", item)) for _ in range(20)]
    digests: list[str] = []
    threads = [threading.Thread(target=lambda each=each: digests.append(each.digest())) for each in running]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for each in running:
        each.close()
    assert digests == [item.sha256] * 20
    assert whole(upstream, "demo", item) == 1
    assert peak_memory(worker) - before < 64 * MIB


def test_memory_is_bounded_however_many_pages_were_asked_for(mirror: Mirror, upstream: Upstream) -> None:
    """Pages of thousands of files, more of them than may be held at once."""
    manner = Manner(etag=False)
    for number in range(20):
        upstream.add(f"many{number}", *thousands(f"many{number}", 4_400), manner=manner)
    server = mirror(prefetch="0", timeout='"20 s"')
    for number in range(5):
        assert names(server, f"many{number}")
    [worker] = server.workers()
    before = peak_memory(worker)
    for number in range(5, 20):
        assert names(server, f"many{number}")
    assert peak_memory(worker) - before < 48 * MIB
