"""One client's connection: order, pipelining, its ends, and requests that are known."""

import gc
import socket
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest

from entrepot.http1 import Exchange, Request
from entrepot.http1.connection import _PIPELINED
from entrepot.http1.known import Known
from tests.e2e.processes import until
from tests.http1.serving import (
    Served,
    answer,
    body_of,
    file_answer,
    head_of,
    received,
    request,
    reset,
    respond,
    until_closed,
)
from tests.web.sockets import answers

CLOSE = "Connection: close\r\n"
CHUNKED = "Transfer-Encoding: chunked\r\n"
LAST = request("/last", headers=CLOSE)


def bodies(sent: bytes, *, methods: str = "GET") -> list[str]:
    return [found.text for found in answers(sent, methods=methods)]


@pytest.fixture(autouse=True)
def talk(served: Served, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"file")
    served.talk.ready |= {"/ready": answer(b"ready"), "/last": answer(b"last"), "/file": file_answer(tmp_path / "file")}
    served.talk.work |= {"/echo": served.talk.echo, "/held": served.talk.held}


# Order.


def test_answers_come_in_the_order_of_their_requests(served: Served) -> None:
    echo = request("/echo", method="POST", body=b"echo")
    both = request("/ready") + echo + request("/file") + echo + request("/ready") + request("/ready") + LAST
    wanted = ["ready", "echo", "file", "echo", "ready", "ready", "last"]
    assert bodies(served.exchange(both)) == wanted
    with served.connect() as made:
        for at in range(0, len(both), 7):  # over the edges of the requests
            made.sendall(both[at : at + 7])
        assert bodies(until_closed(made)) == wanted


def test_what_is_behind_a_slow_answer_waits_for_it(served: Served) -> None:
    with served.connect() as made:
        made.sendall(request("/held") + request("/ready") + LAST)
        client = served.client()
        until(lambda: len(client._queue) == 2, what="two that wait")
        assert client._pauses == 1, "nothing is read meanwhile"
        served.release()
        assert bodies(until_closed(made)) == ["/held", "ready", "last"]


def test_who_has_said_all_is_answered_to_the_end(served: Served) -> None:
    """A client may close its half, and read on (RFC 9112 §9.6)."""
    with served.connect() as made:
        made.sendall(request("/held") * 3 + request("/ready"))
        made.shutdown(socket.SHUT_WR)
        until(lambda: len(served.client()._queue) == 3, what="three that wait")
        served.release()
        assert bodies(until_closed(made)) == ["/held", "/held", "/held", "ready"]


def test_more_than_some_hundred_pipelined_requests_are_refused(served: Served) -> None:
    """They were read in one go; each of them takes a hundred times the memory of its bytes."""
    with served.connect() as made:
        made.sendall(b"GET /held HTTP/1.1\r\nHost:a\r\n\r\n" * 5_000)
        until(lambda: served.client()._refused, what="the refusal")
        assert len(served.client()._queue) == _PIPELINED
        served.release()
        found = answers(until_closed(made).removesuffix(b"<reset>"))
    assert [one.status for one in found] == [200] * (_PIPELINED + 1) + [429]


def test_a_client_that_asks_and_never_reads_is_not_read_either(served: Served) -> None:
    served.talk.ready["/big"] = answer(b"x" * 1_000_000)
    with served.connect(small=True) as made:
        made.settimeout(0.2)
        with pytest.raises(TimeoutError):
            made.sendall(request("/big") * 500_000)
        client = served.client()
        assert client._pauses > 0
        assert served.call(client._transport.get_write_buffer_size) < 2_000_000
        assert len(client._queue) <= _PIPELINED


# Ends.


@pytest.mark.parametrize("path", ["/ready", "/file", "/echo", "/none"])
def test_the_connection_ends_when_the_client_says_so(served: Served, path: str) -> None:
    sent = served.exchange(request(path, headers=CLOSE) + request("/ready"))
    assert sent.count(b"HTTP/1.1 ") == 1
    assert b"\r\nconnection: close\r\n" in sent


def test_what_a_refused_client_still_sends_is_dropped_and_it_sees_no_reset(served: Served) -> None:
    with served.connect() as made:
        made.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert head_of(made).startswith(b"HTTP/1.1 400 ")
        for _ in range(100):
            made.sendall(b"x" * 10_000)
        assert b"<reset>" not in until_closed(made)
    until(lambda: not served.clients(), what="its end")


def test_a_request_behind_which_comes_rubbish_is_answered_and_then_refused(served: Served) -> None:
    found = answers(served.exchange(request("/ready") + request("/none") + b"GET rubbish\r\n\r\n"))
    assert [one.status for one in found] == [200, 404, 400]


def test_a_handler_that_leaves_a_body_unread_ends_the_connection(served: Served) -> None:
    with served.connect() as made:
        made.sendall(request("/none", method="POST", headers="Content-Length: 99\r\n") + b"abc")
        head = head_of(made)
        assert head.startswith(b"HTTP/1.1 404 ")
        received(made, len(b"/none\n"))
        assert made.recv(1) == b""
        made.sendall(request("/smuggled"))
    until(lambda: not served.clients(), what="its end")
    assert [line[1] for line in served.talk.noted if line[1] != "/none"] == []


def test_a_whole_body_that_nobody_took_does_not_stop_the_connection(served: Served) -> None:
    """More of it than may wait, so that the reading had stopped."""

    async def late(_: Request, exchange: Exchange) -> None:
        await served.talk.hold.wait()
        await respond(exchange, b"late")

    served.talk.work["/late"] = late
    with served.connect() as made:
        made.sendall(request("/late", method="POST", body=b"x" * 300_000))
        until(lambda: served.client()._pauses and served.client()._reader.at_rest, what="all of it")
        served.release()
        made.sendall(LAST)
        assert bodies(until_closed(made)) == ["late", "last"]


@pytest.mark.parametrize("times", [1, 3])
def test_a_broken_body_is_refused_where_the_handler_has_not_answered(served: Served, times: int) -> None:
    async def reading(_: Request, exchange: Exchange) -> None:
        if not (await body_of(exchange)).endswith(b"<cut>"):
            await respond(exchange, b"whole")

    served.talk.work["/read"] = reading
    whole = request("/read", method="POST", body=b"x")
    sent = whole * (times - 1) + request("/read", method="POST", headers=CHUNKED) + b"1\r\nabc"
    assert [one.status for one in answers(served.exchange(sent))] == [200] * (times - 1) + [400]


@pytest.mark.parametrize("sent", [b"", b"GET", request("/echo", method="POST", headers=CHUNKED), request("/held") * 9])
@pytest.mark.parametrize("how", ["end", "reset", "both"])
def test_a_client_may_go_at_any_time(served: Served, sent: bytes, how: str) -> None:
    with served.connect() as made:
        made.sendall(sent)
        served.client()
        if how != "end":
            reset(made)
        if how != "reset":
            made.shutdown(socket.SHUT_WR)
    served.release()
    until(lambda: not served.clients(), what="its end")


def test_a_client_that_goes_while_it_is_sent_to_ends_the_sending(served: Served) -> None:
    async def endless(_: Request, exchange: Exchange) -> None:
        await respond(exchange, b"x" * 100_000, more=True)
        while True:
            await exchange.send({"type": "http.response.body", "body": b"x" * 100_000, "more_body": True})

    served.talk.work["/endless"] = endless
    with served.connect(small=True) as made:
        made.sendall(request("/endless"))
        received(made, 10_000)
    until(lambda: not served.clients(), what="its end")


# Faults of the handler.


def test_a_handler_that_fails_at_once_is_a_500_and_logged(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    served.talk.ready["/bad"] = LookupError("bad")
    for _ in range(2):  # the second time by the known request
        with served.connect() as made:
            made.sendall(request("/bad"))
            assert head_of(made).startswith(b"HTTP/1.1 500 ")
            until_said = received(made, len(b"this is a fault of the server; its log says more\n"))
            assert until_said.startswith(b"this is a fault")
            made.sendall(LAST)
            assert bodies(until_closed(made)) == ["last"]
    assert caplog.text.count("LookupError: bad") == 2
    assert [line[:3] for line in served.talk.noted if line[1] == "/bad"] == [("GET", "/bad", 500)] * 2


def test_a_handler_that_fails_behind_a_slow_answer_is_a_500_too(served: Served) -> None:
    served.talk.ready["/bad"] = LookupError("bad")
    with served.connect() as made:
        made.sendall(request("/held") + request("/bad") + LAST)
        until(lambda: len(served.client()._queue) == 2, what="two that wait")
        served.release()
        assert [one.status for one in answers(until_closed(made))] == [200, 500, 200]


# Known requests.


@pytest.fixture
def known(served: Served) -> Callable[[], list[bytes]]:
    """Their bytes."""
    return lambda: served.call(lambda: list(served.serving._known._held))


def ask(served: Served, sent: bytes) -> bytes:
    return served.exchange(sent, ended=True)


def test_a_whole_request_is_known_the_second_time_and_answered_alike(
    served: Served, known: Callable[[], list[bytes]]
) -> None:
    first, second = (ask(served, request("/ready")) for _ in range(2))
    assert known() == [request("/ready")]
    assert bodies(first) == bodies(second) == ["ready"]


@pytest.mark.parametrize(
    "sent",
    [
        request("/ready") * 2,
        request("/ready") + b"G",
        request("/ready", headers=CLOSE),
        request("/ready", method="POST"),
        request("/ready", body=b"x"),
        request("/ready", headers="Content-Length: 1\r\n"),
        request("/ready", headers=CHUNKED) + b"0\r\n\r\n",
        request("/ready", headers="Connection: Upgrade\r\nUpgrade: h2c\r\n") + request("/ready"),
        request("/ready", headers="X: " + "a" * 2048 + "\r\n"),
        b"GET /ready HTTP/1.0\r\n\r\n",
        request("/ready")[:-2],
        b"\r\n\r\n",
    ],
)
def test_what_is_not_one_whole_request_without_a_body_is_not_known(
    served: Served, known: Callable[[], list[bytes]], sent: bytes
) -> None:
    first, second = (answers(served.exchange(sent, ended=True)) for _ in range(2))
    assert known() == []
    assert [(one.status, one.body) for one in first] == [(one.status, one.body) for one in second]


def test_the_rest_of_a_request_is_not_known_as_one(served: Served, known: Callable[[], list[bytes]]) -> None:
    sent = request("/ready")
    with served.connect() as made:
        made.sendall(sent[:30])
        until(lambda: served.client()._reader.in_head, what="the first part")
        made.sendall(sent[30:])
        made.shutdown(socket.SHUT_WR)
        assert bodies(until_closed(made)) == ["ready"]
    assert known() == []


def test_a_body_that_looks_like_a_known_request_is_a_body(served: Served, known: Callable[[], list[bytes]]) -> None:
    hidden = request("/ready")
    ask(served, hidden)
    assert known() == [hidden]
    head = request("/echo", method="POST", headers=f"Content-Length: {len(hidden)}\r\n{CLOSE}")
    with served.connect() as made:
        made.sendall(head)
        until(lambda: served.client()._task, what="the head")
        made.sendall(hidden)
        assert until_closed(made).endswith(b"\r\n\r\n" + hidden)


def test_a_known_request_waits_behind_a_slow_answer(served: Served, known: Callable[[], list[bytes]]) -> None:
    ask(served, request("/ready"))
    with served.connect() as made:
        made.sendall(request("/held"))
        client = served.client()
        until(lambda: client._task, what="the slow one")
        made.sendall(request("/ready"))
        until(lambda: client._queue, what="the second")
        served.release()
        made.shutdown(socket.SHUT_WR)
        assert bodies(until_closed(made)) == ["/held", "ready"]


def test_an_offer_to_upgrade_is_passed_over(served: Served) -> None:
    offer = request("/ready", headers="Connection: Upgrade\r\nUpgrade: h2c\r\n")
    for _ in range(2):
        assert bodies(served.exchange(offer + offer + LAST)) == ["ready", "ready", "last"]
        assert bodies(ask(served, offer)) == ["ready"]


def test_a_known_request_keeps_nothing_of_the_client_that_sent_it(
    served: Served, known: Callable[[], list[bytes]]
) -> None:
    with served.connect() as made:
        made.sendall(request("/ready"))
        head_of(made)
        client = weakref.ref(served.client())
    until(lambda: not served.clients(), what="its end")
    assert known() == [request("/ready")]
    served.call(gc.collect)
    assert client() is None


def test_the_oldest_known_request_goes_first() -> None:
    known = Known()
    asking = Request("GET", b"/", [(b"host", b"a")], "1.1", keep_alive=True)
    for number in range(Known._MOST + 2):
        known.keep(b"%d" % number, asking)
    assert len(known._held) == Known._MOST
    assert (known.get(b"1"), known.get(b"2")) == (None, asking)
