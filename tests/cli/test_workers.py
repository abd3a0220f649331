"""The worker processes: replaced when they die, ended together, and never a reason to refuse a client."""

import errno
import logging
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from entrepot.cli import workers
from entrepot.config import Config
from tests.cli.conftest import Run
from tests.distributions.build import wheel_filename, wheel_members, zip_bytes
from tests.e2e.processes import clean_environment, is_alive, no_process_left, until
from tests.e2e.raw import Form
from tests.e2e.servers import Options, Server
from tests.web.sockets import request

ASKING = request("/health")
Starting = Callable[..., Server]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Starting]:
    with ExitStack() as stack:

        def starting(*args: str, workers: int = 1) -> Server:
            server = Server(Options(data=tmp_path / "data", workers=workers, args=args), tmp_path / "home")
            server.start()
            stack.callback(server.end)
            return server

        yield starting


def ask(server: Server) -> bytes:
    """Over a connection of its own."""
    with socket.create_connection(("127.0.0.1", server.options.port), timeout=10) as made:
        made.sendall(ASKING)
        return answered(made)


def answered(made: socket.socket) -> bytes:
    received = b""
    while piece := made.recv(1 << 16):
        received += piece
    return received


def zombies(parent: int) -> list[int]:
    found = map(int, Path(f"/proc/{parent}/task/{parent}/children").read_text().split())
    return [child for child in found if not is_alive(child)]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_worker_that_is_killed_is_replaced_and_nobody_is_refused(start: Starting, workers: int) -> None:
    server = start(workers=workers)
    for _ in range(2):
        before = server.workers()
        os.kill(before[0], signal.SIGKILL)
        for _ in range(20):
            assert ask(server).startswith(b"HTTP/1.1 200 ")
        until(lambda: len(server.workers()) == workers, what="its successor")
        assert len(set(before) - set(server.workers())) == 1, "the others go on"
        assert zombies(server.process.pid) == []
    assert server.said().count("is replaced") == 2


def test_who_waits_for_a_worker_that_dies_is_answered_by_its_successor(start: Starting) -> None:
    server = start()
    [worker] = server.workers()
    os.kill(worker, signal.SIGSTOP)  # so that the kernel takes the clients, and nobody looks after them
    with ExitStack() as stack:
        made = [
            stack.enter_context(socket.create_connection(("127.0.0.1", server.options.port), timeout=10))
            for _ in range(20)
        ]
        for one in made:
            one.sendall(ASKING)
        os.kill(worker, signal.SIGKILL)
        assert all(answered(one).startswith(b"HTTP/1.1 200 ") for one in made)


def test_a_second_sigterm_ends_what_a_first_would_wait_for(start: Starting) -> None:
    server = start("--grace", "60s", workers=2)
    noise = os.urandom(4 << 20)
    upload = server.begin(Form(wheel_filename("large"), zip_bytes(wheel_members("large", files={"large/x": noise}))))
    upload.send(2 << 20)
    until(lambda: server.staged() >= 1 << 20, what="the first half on the disk")
    process = server.process
    process.send_signal(signal.SIGTERM)
    until(lambda: len(server.workers()) == 1, what="the end of the worker that has nothing to do")
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0
    assert time.monotonic() - began < 2
    assert no_process_left(process.pid)
    upload.drop()


# Workers that cannot start. Our own parent names what it can before it forks, so these are forked behind its back.

BROKEN = """
import socket, sys
from entrepot.cli import workers
from entrepot.config import Config, Server
workers._FRUITLESS = int(sys.argv[1])
listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
config = Config(data=sys.argv[2], server=Server(tls_cert=__file__, tls_key=__file__))
sys.exit(workers.supervise(config, listeners))
"""


def broken(tmp_path: Path, *, tries: int) -> subprocess.Popen[bytes]:
    (tmp_path / "broken.py").write_text(BROKEN)
    with (tmp_path / "said").open("wb") as said:
        return subprocess.Popen(
            [sys.executable, tmp_path / "broken.py", str(tries), tmp_path / "data"],
            stderr=said,
            env=clean_environment(),
        )


def said(tmp_path: Path) -> str:
    return (tmp_path / "said").read_text()


def test_workers_that_never_serve_are_given_up(tmp_path: Path) -> None:
    process = broken(tmp_path, tries=4)
    assert process.wait(20) == 1
    assert "no worker came to serve in 4 attempts; giving up" in said(tmp_path)
    assert 4 <= said(tmp_path).count("is no certificate in PEM") <= 6
    assert "Traceback" not in said(tmp_path)


def test_a_stop_does_not_wait_for_the_next_try(tmp_path: Path) -> None:
    process = broken(tmp_path, tries=1000)
    until(lambda: said(tmp_path).count("is replaced") >= 8, within=20, what="some tries")
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0
    assert time.monotonic() - began < 1


def test_a_certificate_that_is_none_is_named_before_anything_is_made(command: Run, data: Path, tmp_path: Path) -> None:
    (tmp_path / "pem").write_text("this is none")
    failed = command("serve", "--port", "0", "--tls-cert", tmp_path / "pem", "--tls-key", tmp_path / "pem").failed()
    assert failed.startswith(f"{tmp_path}/pem: is no certificate in PEM with {tmp_path}/pem as its open key: ")
    assert not data.exists()


def test_a_worker_that_cannot_be_forked_is_tried_again_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full() -> int:
        raise OSError(errno.EAGAIN, "too many processes")

    monkeypatch.setattr(os, "fork", full)
    monkeypatch.setattr(workers, "_LONGEST_PAUSE", 0.2)
    caplog.set_level(logging.ERROR, "entrepot")
    wake, other = socket.socketpair()
    with wake, other, socket.create_server(("127.0.0.1", 0)) as listener:
        crew = workers.Crew(Config(data=str(tmp_path)), [listener])
        for _ in range(2):
            crew.fill()
            crew.fill()  # too early
            assert crew.wait(wake) == []
    assert crew.fruitless == 0, "those that serve would be stopped for it"
    assert caplog.text.count("a worker could not be started: too many processes") == 2
    assert multiprocessing.active_children() == []
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) & {signal.SIGTERM, signal.SIGINT} == set()
