"""Clients that idle, drip and take nothing; and a server that stops."""

import asyncio
import os
import socket
import ssl
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path

import pytest

from entrepot.http1 import Exchange, Request, serving
from tests.e2e.processes import until
from tests.http1.serving import Served, answer, file_answer, head_of, received, request, reset, respond, until_closed

BIG = os.urandom(9_000_000)


@pytest.fixture(autouse=True)
def talk(request: pytest.FixtureRequest) -> None:
    for name in {"served", "over_tls"} & set(request.fixturenames):
        prepare(request.getfixturevalue(name))


def prepare(served: Served) -> Served:
    served.talk.ready |= {"/ready": answer(b"ready"), "/big": answer(BIG)}
    served.talk.work |= {"/held": served.talk.held, "/echo": served.talk.echo}
    return served


def gone(served: Served) -> None:
    until(lambda: not served.clients(), what="the client's end")


# The sweep.


@pytest.mark.parametrize("used", [False, True])
def test_a_connection_may_idle_for_a_while(served: Served, *, used: bool) -> None:
    with served.connect() as made:
        if used:
            made.sendall(request("/ready"))
            head_of(made)
            received(made, 5)
        served.settle()
        served.sweep(15)
        assert served.clients()
        served.sweep(1)
        gone(served)
        assert made.recv(1) == b""


def test_each_request_begins_the_time_anew(served: Served) -> None:
    with served.connect() as made:
        for _ in range(3):
            made.sendall(request("/ready"))
            head_of(made)
            received(made, 5)
            served.settle()
            served.sweep(15)
        assert served.clients()


def test_a_busy_connection_may_have_as_much_to_take_at_every_look(served: Served) -> None:
    """The kernel says that a client took something when its next request comes."""
    with served.connect() as made:
        for _ in range(40):
            made.sendall(request("/ready"))
            head_of(made)
            received(made, 5)
            served.sweep(1)
        assert served.clients()


def test_a_head_that_drips_is_not_waited_for(served: Served) -> None:
    with served.connect() as made:
        for at in range(6):
            made.sendall(request("/ready")[at : at + 1])
            until(lambda: served.client()._reader.in_head, what="it to be read")
            served.sweep(1)
        assert served.clients()
        served.sweep(1)
        gone(served)


def test_a_handler_may_take_its_time(served: Served) -> None:
    with served.connect() as made:
        made.sendall(request("/held"))
        until(lambda: served.client()._task, what="the handler")
        served.sweep(100)
        served.release()
        assert b" 200 OK" in head_of(made)


def test_a_client_that_takes_nothing_is_cut_off_and_one_that_takes_a_little_is_not(served: Served) -> None:
    with served.connect(small=True) as made:
        made.sendall(request("/big"))
        client = served.client()
        until(lambda: client._full, what="the buffer to be full")
        for _ in range(5):
            served.sweep(10)
            received(made, 100_000)
        assert served.clients()
        served.sweep(14)
        gone(served)


def test_a_client_that_does_not_leave_when_it_was_told_is_cut_off(served: Served) -> None:
    """It has a body to send of which nobody wants more."""
    with served.connect() as made:
        made.sendall(request("/none", method="POST", headers="Content-Length: 99\r\n"))
        assert b"content-length" in head_of(made)
        until(lambda: served.client()._deaf, what="the answer's end")
        served.settle()
        served.sweep(6)
        assert served.clients()
        made.sendall(b"x" * 9)
        served.sweep(1)
        gone(served)


def test_an_answer_that_waits_for_a_client_that_takes_nothing_gives_up(serve: Callable[..., Served]) -> None:
    served = prepare(serve(stall=0.2))
    with served.connect(small=True) as made:
        made.sendall(request("/big") * 2)
        served.client()
        gone(served)
    assert len(served.talk.noted) == 1


def test_a_slow_client_that_takes_something_gets_its_answer(serve: Callable[..., Served]) -> None:
    """It takes longer for all of it than it may take nothing."""
    served = prepare(serve(stall=0.2))

    async def big(_: Request, exchange: Exchange) -> None:
        await respond(exchange, BIG)

    served.talk.work["/slow"] = big
    with served.connect(small=True) as made:
        made.sendall(request("/slow", headers="Connection: close\r\n"))
        client = served.client()
        until(lambda: client._full, what="the buffer to be full")
        found = bytearray(head_of(made))
        for _ in range(8):
            found += received(made, 20_000)
            served.run(asyncio.sleep(0.1))  # for so long it takes nothing
        found += until_closed(made)
    assert found.endswith(BIG)


# A stop.


def stopping(served: Served) -> Future[None]:
    """Begun, and waiting for the last clients."""
    done = asyncio.run_coroutine_threadsafe(served.serving.stop(), served._loop)
    until(lambda: served.serving._clients.leaving, what="the stop")
    served.clients()
    return done


def test_a_stop_without_clients_is_at_once(served: Served) -> None:
    served.run(served.serving.stop(), within=1)


@pytest.mark.parametrize("sent", [b"", b"GET /rea", request("/ready"), b"\r\n"])
def test_who_is_not_being_answered_does_not_delay_a_stop(served: Served, sent: bytes) -> None:
    with served.connect() as made:
        made.sendall(sent)
        served.client()
        served.run(served.serving.stop(), within=3)
        assert until_closed(made).removesuffix(b"<reset>").count(b"HTTP/1.1 ") <= 1


def test_who_is_being_answered_is_answered_and_told_that_it_is_the_last(served: Served) -> None:
    with served.connect() as made, served.connect() as other:
        made.sendall(request("/held") + request("/ready"))
        until(lambda: [client for client in served.clients() if client._queue], what="the handler")
        done = stopping(served)
        assert other.recv(1) == b""
        assert not done.done()
        served.release()
        found = until_closed(made)
        assert found.count(b"HTTP/1.1 ") == found.count(b"connection: close\r\n") == 1
        done.result(3)


def test_a_running_upload_is_finished_in_a_stop(served: Served) -> None:
    with served.connect() as made:
        made.sendall(request("/echo", method="POST", headers="Content-Length: 6\r\n") + b"abc")
        until(lambda: served.client()._task, what="the handler")
        done = stopping(served)
        made.sendall(b"def")
        assert until_closed(made).endswith(b"connection: close\r\n\r\nabcdef")
        done.result(3)


def test_a_running_download_is_finished_in_a_stop(served: Served, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(BIG)
    served.talk.ready["/file"] = file_answer(tmp_path / "f")
    with served.connect(small=True) as made:
        made.sendall(request("/file"))
        head_of(made)
        done = stopping(served)
        assert until_closed(made) == BIG
        done.result(3)


@pytest.mark.parametrize("path", ["/big", "/file"])
def test_a_client_that_takes_nothing_does_not_keep_a_stop_for_ever(
    serve: Callable[..., Served], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr(serving, "_SWEEP", 0.1)
    monkeypatch.setattr(serving, "_GOODBYE", 0.1)
    served = prepare(serve(stall=0.3))
    (tmp_path / "f").write_bytes(BIG)
    served.talk.ready["/file"] = file_answer(tmp_path / "f")
    with served.connect(small=True) as made:
        made.sendall(request(path, headers="Connection: close\r\n"))
        head_of(made)
        stopping(served).result(20)


def test_a_client_that_goes_ends_the_stop(served: Served) -> None:
    with served.connect(small=True) as made:
        made.sendall(request("/big"))
        head_of(made)
        done = stopping(served)
        reset(made)
    done.result(3)


@pytest.mark.parametrize("headers", ["", "Connection: close\r\n"])
def test_a_slow_client_is_not_quiet_while_it_takes_its_answer(served: Served, headers: str) -> None:
    with served.connect(small=True) as made:
        made.sendall(request("/big", headers=headers))
        head_of(made)
        for at in range(9):
            served.sweep(11)
            assert received(made, 1_000_000) == BIG[at * 1_000_000 : (at + 1) * 1_000_000]


# TLS.


def secured(raw: socket.socket, certificate: Path) -> ssl.SSLSocket:
    context = ssl.create_default_context(cafile=str(certificate))
    return context.wrap_socket(raw, server_hostname="localhost", suppress_ragged_eofs=False)


def test_over_tls_everything_is_the_same(over_tls: Served, certificate: Path, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(BIG)
    over_tls.talk.ready["/file"] = file_answer(tmp_path / "f")
    with over_tls.connect() as raw, secured(raw, certificate) as made:
        for _ in range(2):
            made.sendall(request("/ready") + request("/file") + request("/echo", method="POST", body=b"abc"))
            head_of(made)
            assert received(made, 5) == b"ready"
            head_of(made)
            assert received(made, len(BIG)) == BIG
            head_of(made)
            assert received(made, 3) == b"abc"
        made.sendall(request("/ready", headers="Connection: close\r\n"))
        assert until_closed(made).endswith(b"ready")


@pytest.mark.parametrize("path", ["/ready", "/held"])
def test_a_client_that_says_goodbye_is_no_line_in_the_log(
    over_tls: Served, certificate: Path, caplog: pytest.LogCaptureFixture, path: str
) -> None:
    with over_tls.connect() as raw, secured(raw, certificate) as made:
        made.sendall(request(path))
        until(lambda: over_tls.client()._seen, what="it to be read")
        with suppress(ssl.SSLError):  # the answer comes before its goodbye
            made.unwrap()
    over_tls.release()
    gone(over_tls)
    assert not caplog.records


def test_a_slow_client_gets_all_of_a_last_answer(over_tls: Served, certificate: Path) -> None:
    """Also while it is swept: what waits for it lies in two buffers, of which one is hidden."""
    with over_tls.connect(small=True) as raw, secured(raw, certificate) as made:
        made.sendall(request("/big", headers="Connection: close\r\n"))
        found = bytearray(head_of(made))
        until(over_tls.client()._transport.is_closing, what="the end to be near")
        while len(found) < len(BIG):
            over_tls.sweep(1)  # what it reads may have come long ago: of that the server sees nothing
            found += received(made, 1_000_000)
        found += until_closed(made)
    assert found.endswith(BIG)


def test_a_client_that_takes_nothing_of_a_last_answer_is_cut_off(over_tls: Served, certificate: Path) -> None:
    with over_tls.connect(small=True) as raw, secured(raw, certificate) as made:
        made.sendall(request("/big", headers="Connection: close\r\n"))
        until(over_tls.client()._transport.is_closing, what="the end to be near")
        over_tls.sweep(15)
        gone(over_tls)


def test_pooled_connections_do_not_delay_a_stop(over_tls: Served, certificate: Path) -> None:
    """They do not answer a goodbye."""
    with over_tls.connect() as raw, secured(raw, certificate) as made:
        made.sendall(request("/ready"))
        head_of(made)
        over_tls.run(over_tls.serving.stop(), within=3)


def test_a_handshake_that_ends_after_the_stop_began_is_no_new_client(over_tls: Served, certificate: Path) -> None:
    with over_tls.connect() as raw, over_tls.connect() as late:
        with secured(raw, certificate) as made:
            made.sendall(request("/held"))
            until(lambda: over_tls.clients() and over_tls.client()._task, what="the handler")
            done = stopping(over_tls)
            with suppress(ssl.SSLError, ConnectionError), secured(late, certificate) as other:
                other.sendall(request("/ready"))
                assert other.recv(1) == b""
            assert not done.done()
            over_tls.release()
            assert b"/held" in until_closed(made)
        done.result(3)


def test_a_client_that_goes_in_the_handshake_leaves_nothing(over_tls: Served) -> None:
    for sent in (b"", b"\x16\x03\x01", request("/ready")):
        with over_tls.connect() as raw:
            raw.sendall(sent)
            reset(raw)
    assert not over_tls.clients()
    over_tls.run(over_tls.serving.stop(), within=3)
