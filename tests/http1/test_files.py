"""Files on their way: from the page cache, from the disk, over TLS, and when something becomes of them meanwhile."""

import errno
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from entrepot import pagecache
from entrepot.http1 import Exchange, Request
from entrepot.http1.connection import _HIGH
from tests.e2e.processes import until
from tests.http1.serving import (
    Served,
    file_answer,
    head_of,
    received,
    request,
    reset,
    until_closed,
)

SIZES = [0, 1, pagecache.SMALL, pagecache.SMALL + 1, 3_000_001]


def cold(path: Path) -> None:
    """Out of the page cache, as far as the file system lets go of it."""
    with path.open("rb") as opened:
        os.fsync(opened.fileno())
        os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def unsupported(*_: object) -> int:
    raise OSError(errno.EOPNOTSUPP, "not here")


def waiting(*_: object) -> int:
    raise BlockingIOError


@pytest.fixture
def made(tmp_path: Path) -> Callable[[int], Path]:
    def making(size: int) -> Path:
        path = tmp_path / f"file-{size}"
        path.write_bytes(os.urandom(size))
        return path

    return making


def get(served: Served, path: Path, *, times: int = 1) -> None:
    """Download it over one connection, and check each byte and what follows."""
    served.talk.ready["/file"] = file_answer(path)
    with served.connect() as client:
        for _ in range(times):
            client.sendall(request("/file"))
            assert f"content-length: {path.stat().st_size}\r\n".encode() in head_of(client)
            assert received(client, path.stat().st_size) == path.read_bytes()
            served.sweep()
        client.sendall(request("/none"))
        assert head_of(client).startswith(b"HTTP/1.1 404 ")


@pytest.mark.parametrize("size", SIZES)
def test_a_file_arrives_whole_warm_and_cold(served: Served, made: Callable[[int], Path], size: int) -> None:
    path = made(size)
    get(served, path, times=3)
    cold(path)
    get(served, path)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", [unsupported, waiting])
def test_a_file_arrives_whole_where_the_page_cache_cannot_be_asked(
    served: Served, made: Callable[[int], Path], monkeypatch: pytest.MonkeyPatch, kind: Callable[..., int], size: int
) -> None:
    monkeypatch.setattr(os, "preadv", kind)
    get(served, made(size), times=2)


@pytest.mark.parametrize("size", SIZES)
def test_a_file_arrives_whole_over_a_unix_socket_and_ipv6(
    serve: Callable[..., Served], made: Callable[[int], Path], tmp_path: Path, size: int
) -> None:
    get(serve(family=socket.AF_UNIX, path=tmp_path / "socket"), made(size), times=2)
    get(serve(family=socket.AF_INET6), made(size), times=2)


def test_a_slow_client_gets_it_whole(served: Served, made: Callable[[int], Path]) -> None:
    path = made(1_000_000)
    served.talk.ready["/file"] = file_answer(path)
    with served.connect(small=True) as client:
        client.sendall(request("/file"))
        head_of(client)
        assert b"".join(received(client, 2_000) for _ in range(500)) == path.read_bytes()


def test_a_file_that_another_took_the_place_of_is_asked_for_anew(served: Served, made: Callable[[int], Path]) -> None:
    """The handler is asked again, who finds out what became of it."""
    path = made(1000)
    served.talk.ready["/file"] = file_answer(path)

    async def anew(_: Request, exchange: Exchange) -> None:
        await exchange.answer(file_answer(path), os.open(path, os.O_RDONLY))

    served.talk.work["/file"] = anew
    path.write_bytes(b"another")
    assert served.exchange(request("/file", headers="Connection: close\r\n")).endswith(b"\r\n\r\nanother")


@pytest.mark.parametrize("left", [0, 100, 1_000_000])
def test_a_file_that_shrinks_meanwhile_cuts_the_answer(
    served: Served, made: Callable[[int], Path], caplog: pytest.LogCaptureFixture, left: int
) -> None:
    path = made(8_000_000)
    served.talk.ready["/file"] = file_answer(path)
    with served.connect(small=True) as client:
        client.sendall(request("/file"))
        head_of(client)
        os.truncate(path, left)
        assert len(until_closed(client).removesuffix(b"<reset>")) < 8_000_000
    until(lambda: "the file ends early" in caplog.text, what="a line in the log")
    until(lambda: served.talk.noted, what="its line")
    assert served.talk.noted == [("GET", "/file", 200, 0)]


@pytest.mark.parametrize("size", [1000, 1_000_000])
def test_a_disk_that_fails_cuts_the_answer_and_closes_the_file(
    served: Served, made: Callable[[int], Path], monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    def failing(*_: object) -> int:
        raise OSError(errno.EIO, "the disk is broken")

    path = made(size)
    monkeypatch.setattr(os, "preadv", failing)
    monkeypatch.setattr(os, "pread", failing)
    served.talk.ready["/file"] = file_answer(path)
    for _ in range(3):
        served.exchange(request("/file"))
    until(lambda: not opened(path), what="the file to be closed")


def opened(path: Path) -> list[str]:
    """Our descriptors of it."""
    return [fd for fd in os.listdir("/proc/self/fd") if leads_to(fd) == str(path)]


def leads_to(fd: str) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    except FileNotFoundError:
        return ""


@pytest.mark.parametrize("way", ["reset", "end"])
def test_a_client_that_goes_in_the_middle_leaves_nothing_open(
    served: Served, made: Callable[[int], Path], way: str
) -> None:
    path = made(9_000_000)
    served.talk.ready["/file"] = file_answer(path)
    for _ in range(5):
        with served.connect(small=True) as client:
            client.sendall(request("/file"))
            head_of(client)
            if way == "reset":
                reset(client)
    until(lambda: not served.clients(), what="the ends")
    until(lambda: not opened(path), what="the file to be closed")


def test_a_client_that_takes_nothing_of_a_file_is_cut_off(
    serve: Callable[..., Served], made: Callable[[int], Path]
) -> None:
    served, path = serve(stall=0.2), made(9_000_000)
    served.talk.ready["/file"] = file_answer(path)
    with served.connect(small=True) as client:
        client.sendall(request("/file"))
        served.client()
        until(lambda: not served.clients(), what="its end")
        assert not opened(path)


def test_after_a_file_as_much_may_wait_as_before(served: Served, made: Callable[[int], Path]) -> None:
    served.talk.ready["/file"] = file_answer(made(1_000_000))
    with served.connect() as client:
        for _ in range(2):
            client.sendall(request("/file"))
            head_of(client)
            received(client, 1_000_000)
            one = served.client()
            until(lambda: served.client()._task is None, what="the end of the answer")
            assert one._transport.get_write_buffer_limits()[1] == _HIGH
            assert (one._pauses, one._full) == (0, None)


def test_a_connection_that_is_ended_is_sent_no_more_of_a_file(served: Served, made: Callable[[int], Path]) -> None:
    path = made(9_000_000)
    served.talk.ready["/file"] = file_answer(path)
    with served.connect(small=True) as client:
        client.sendall(request("/file"))
        head_of(client)
        served.call(served.client()._transport.abort)
        until(lambda: not served.clients(), what="its end")
        assert len(until_closed(client).removesuffix(b"<reset>")) < 9_000_000
    until(lambda: not opened(path), what="the file to be closed")
