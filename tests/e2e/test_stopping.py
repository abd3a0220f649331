"""What SIGTERM, Ctrl-C and a lost parent do to a server, idle and busy."""

import os
import signal
import threading
from pathlib import Path

import pytest

from tests.distributions.build import wheel_filename, wheel_members, zip_bytes
from tests.e2e import raw
from tests.e2e.processes import no_process_left, until
from tests.e2e.raw import Form
from tests.e2e.servers import Options, Server, Servers

HALF = 2 << 20


def large() -> Form:
    """A wheel of which one half is more than the server keeps in memory."""
    noise = os.urandom(2 * HALF)
    return Form(wheel_filename("large"), zip_bytes(wheel_members("large", files={"large/noise.bin": noise})))


@pytest.mark.parametrize("workers", [1, 2])
def test_an_idle_server_stops_within_3_seconds_of_sigterm(serve: Servers, workers: int) -> None:
    server = serve(workers=workers)
    group = server.process.pid
    assert server.stop() < 3
    assert no_process_left(group)


@pytest.mark.parametrize("workers", [1, 2])
def test_idle_connections_do_not_keep_it_from_stopping(serve: Servers, workers: int) -> None:
    server = serve(workers=workers)
    connections = [server.connect() for _ in range(8)]
    for number, connection in enumerate(connections):
        connection.connect()
        if number % 2:  # half of them were used, half never said anything
            connection.request("GET", "/simple/")
            assert raw.answer_of(connection.getresponse()).status == 200
    try:
        assert server.stop() < 3
    finally:
        for connection in connections:
            connection.close()


def test_sigterm_reaches_workers_that_are_still_starting(serve: Servers, tmp_path: Path) -> None:
    server = serve.prepare(Options(data=tmp_path / "data", workers=2))
    for delay in (0, 0, 0.005, 0.01, 0.02, 0.04, 0.08):
        server.launch()
        until(lambda: len(server.workers()) == 2, what="two workers")
        threading.Event().wait(delay)
        assert server.stop(within=5) < 3


def test_ctrl_c_stops_it_like_sigterm(server: Server) -> None:
    process = server.process
    os.killpg(process.pid, signal.SIGINT)  # a terminal sends it to all processes at once
    assert process.wait(3) in {0, 130}
    assert "Traceback" not in server.said()
    assert no_process_left(process.pid)
    server.start()


def test_a_running_upload_finishes_within_the_grace_period(serve: Servers) -> None:
    server, form = serve(args=["--grace", "20s"]), large()
    upload = server.begin(form)
    upload.send(HALF)
    until(lambda: server.staged() >= HALF // 2, what="the first half on the disk")
    process = server.process
    process.send_signal(signal.SIGTERM)
    until(lambda: not _accepts(server), within=3, what="the end of new connections")
    answer = upload.finish()
    assert answer.status == 200, answer
    assert process.wait(5) == 0
    server.start()
    assert server.download("large", form.filename) == form.content


def test_an_upload_that_does_not_end_within_the_grace_period_is_cut(serve: Servers) -> None:
    server, form = serve(args=["--grace", "1s"]), large()
    upload = server.begin(form)
    upload.send(HALF)
    until(lambda: server.staged() >= HALF // 2, what="the first half on the disk")
    group = server.process.pid
    try:
        assert server.stop() < 6
    finally:
        upload.drop()
    assert no_process_left(group)
    server.start()
    assert server.files("large") == {}
    assert server.upload(form, token=server.first_token).status == 200


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_do_not_outlive_their_parent(serve: Servers, workers: int) -> None:
    server = serve(workers=workers)
    group = server.process.pid
    os.kill(group, signal.SIGKILL)  # the parent alone, as the kernel does when memory runs out
    # Else they would go on answering at this port, beside whatever is started there next.
    try:
        until(lambda: no_process_left(group), within=5, what="the end of the orphaned workers")
    finally:
        server.kill()


def _accepts(server: Server) -> bool:
    connection = server.connect(timeout=1)
    try:
        connection.connect()
    except OSError:
        return False
    connection.close()
    return True
