"""Clients that go away or do not read, a log that nobody reads, and a stop in the middle of it all."""

import hashlib
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.distributions.build import wheel_filename, wheel_members, zip_bytes
from tests.e2e.processes import BIN, clean_environment, free_port, until
from tests.web.fronts import Front, fresh, wheel
from tests.web.sockets import (
    answers,
    connection,
    descriptors,
    exchange,
    read_answer,
    request,
    resident,
    until_closed,
    upload_head,
)

BIG = wheel_filename("big")
BIG_URL = f"/files/big/{BIG}"
CONFIG = """
[server]
grace = "3 s"
[index.private]
type = "hosted"
[index.wheels]
type = "folder"
path = "wheels"
[index.root]
type = "virtual"
of = ["private", "wheels"]
"""


@pytest.fixture(scope="module")
def big() -> bytes:
    """A wheel of some 60 MB."""
    noise = hashlib.shake_128(b"noise").digest(1_000_000)
    return zip_bytes(wheel_members("big", files={"big/data": noise * 60}), compression=0)


@pytest.fixture(scope="module")
def front(make: Callable[..., Front], big: bytes) -> Front:
    """A process that serves it."""
    front = make("http1", CONFIG, wheels={BIG: big})
    assert [file["size"] for file in front.page("big")["files"]] == [len(big)]
    return front


@pytest.mark.parametrize("headers", ["", "Range: bytes=1-\r\n"])
def test_clients_that_do_not_read_cost_no_memory(front: Front, headers: str) -> None:
    exchange(front, request(BIG_URL, headers=headers))
    before = resident(front)
    with ExitStack() as stack:
        for _ in range(4):
            made = stack.enter_context(connection(front, small=True))
            made.sendall(request(BIG_URL, headers=headers))
            assert made.recv(12).startswith(b"HTTP/1.1 20")
        # Time enough to read the files as a whole, were it done: the server answers others meanwhile.
        end = time.monotonic() + 0.5
        while time.monotonic() < end:
            assert front.get("/simple/big/").status == 200
            assert resident(front) - before < 40_000_000


def test_the_parts_of_a_big_file_are_right(front: Front, big: bytes) -> None:
    for first, stop in ((0, 10), (1_000_000, 30_000_001), (len(big) - 5, len(big))):
        [answer] = answers(exchange(front, request(BIG_URL, headers=f"Range: bytes={first}-{stop - 1}\r\n")))
        assert (answer.status, answer.body == big[first:stop]) == (206, True)
    [answer] = answers(exchange(front, request(BIG_URL)))
    assert answer.body == big


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("headers", ["", "Range: bytes=1-\r\n"])
def test_clients_that_go_away_in_the_middle_leave_nothing_open(front: Front, headers: str, *, reset: bool) -> None:
    front.get("/health")
    before = descriptors(front)
    for _ in range(20):
        with connection(front, small=True) as made:
            made.sendall(request(BIG_URL, headers=headers))
            made.recv(1000)
            if reset:
                made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    until(lambda: descriptors(front) <= before, what="files and connections to be closed")
    assert front.get("/health").status == 200
    assert "Traceback" not in front.process.said()


def test_clients_that_go_away_before_they_are_answered_leave_nothing_open(front: Front) -> None:
    front.get("/health")
    before = descriptors(front)
    for sent in (
        b"",
        b"GET /simp",
        request("/simple/", close=False),
        request("/legacy/", method="POST", body=b"x" * 9),
    ):
        for _ in range(10):
            with connection(front) as made:
                made.sendall(sent)
    until(lambda: descriptors(front) <= before, what="the connections to be closed")
    assert "Traceback" not in front.process.said()


# A stop.


@pytest.fixture
def stopping(front: Front) -> Iterator[Callable[[], None]]:
    """Tells the server to stop; afterwards it runs again for the next test."""
    yield lambda: front.process.process.send_signal(signal.SIGTERM)
    front.process.process.wait(10)
    front.process.start()


def test_idle_connections_do_not_delay_a_stop(front: Front, stopping: Callable[[], None]) -> None:
    with ExitStack() as stack:
        made = [stack.enter_context(connection(front)) for _ in range(20)]
        for one in made[:10]:
            one.sendall(request("/health", close=False))
            assert read_answer(one).status == 200
        began = time.monotonic()
        stopping()
        assert front.process.process.wait(10) == 0
        assert time.monotonic() - began < 3
        assert [one.recv(1) for one in made] == [b""] * 20


def test_a_running_download_is_finished(front: Front, stopping: Callable[[], None], big: bytes) -> None:
    with connection(front) as made:
        made.sendall(request(BIG_URL, close=False))
        begun = made.recv(1000)
        stopping()
        until(lambda: not listening(front), what="the listener to be closed")
        [answer] = answers(begun + until_closed(made))
    assert answer.body == big
    assert front.process.process.wait(10) == 0


def test_a_running_upload_is_finished_and_kept(front: Front, stopping: Callable[[], None]) -> None:
    name = fresh()
    form = wheel(name).form()
    body = b"".join(form.body())
    with connection(front) as made:
        made.sendall(upload_head(form, front.uploader) + body[:-100])
        until(lambda: front.ask("GET", "/health").status == 200, what="the server")
        stopping()
        until(lambda: not listening(front), what="the listener to be closed")
        made.sendall(body[-100:])
        assert read_answer(made).status == 200
    assert front.process.process.wait(10) == 0
    front.process.start()
    assert front.filenames(name) == [wheel(name).filename]
    front.process.process.send_signal(signal.SIGTERM)


def test_a_server_that_stops_is_not_ready_for_new_connections(front: Front, stopping: Callable[[], None]) -> None:
    """A balancer asks /ready over a new connection, and is refused; clients do not wait in a queue."""
    with connection(front, small=True) as made:
        made.sendall(request(BIG_URL, close=False))
        made.recv(100)
        stopping()
        until(lambda: not listening(front), what="the listener to be closed")
        assert front.process.running


def test_a_client_that_never_ends_delays_a_stop_for_the_grace_only(front: Front, stopping: Callable[[], None]) -> None:
    with connection(front, small=True) as made:
        made.sendall(request(BIG_URL, close=False))
        made.recv(100)
        began = time.monotonic()
        stopping()
        assert front.process.process.wait(10) == 0
        assert 2 < time.monotonic() - began < 6


def listening(front: Front) -> bool:
    try:
        with connection(front) as made:
            made.sendall(b"")
        return True
    except ConnectionRefusedError:
        return False


# An output that nobody reads.


@pytest.fixture
def unread(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A server whose stdout is a pipe, and its port."""
    port = free_port()
    command = [str(BIN / "entrepot"), "serve", "--data", str(tmp_path / "data"), "--port", str(port)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=tmp_path, env=clean_environment()
    )
    try:
        until(lambda: asked(port), what="the server")
        yield process, port
    finally:
        process.kill()
        process.wait(10)
        assert process.stdout is not None
        process.stdout.close()


def asked(port: int, times: int = 1) -> bool:
    """Whether all of these requests are answered, over one connection."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=10) as made:
            made.sendall(request("/health", close=False) * (times - 1) + request("/health"))
            received = b""
            while piece := made.recv(1 << 16):
                received += piece
    except ConnectionRefusedError:
        return False
    return received.count(b"HTTP/1.1 200 OK") == times


def test_an_output_that_nobody_reads_stops_nobody(unread: tuple[subprocess.Popen[bytes], int]) -> None:
    process, port = unread
    for _ in range(40):
        assert asked(port, 100)
    # 4,000 lines of 150 bytes, and a pipe takes 64 kB.
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0
    assert time.monotonic() - began < 4


def test_an_output_that_was_closed_stops_nobody(unread: tuple[subprocess.Popen[bytes], int]) -> None:
    process, port = unread
    assert process.stdout is not None
    process.stdout.close()
    for _ in range(5):
        assert asked(port, 100)
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0
