"""How an answer says where it ends, and what becomes of the connection then."""

import os
from pathlib import Path

import pytest

from entrepot.http1 import Exchange, Request, answers, head
from tests.e2e.processes import until
from tests.http1.serving import (
    Served,
    Work,
    answer,
    body_of,
    chunked,
    file_answer,
    head_of,
    received,
    request,
    reset,
    respond,
)
from tests.web.sockets import answers as read_answers

CLOSE = "Connection: close\r\n"


def told(*messages: dict[str, object]) -> Work:
    """Sends these messages."""

    async def telling(request: Request, exchange: Exchange) -> None:
        for message in messages:
            await exchange.send(dict(message))

    return telling


def start(*headers: tuple[bytes, bytes], status: int = 200) -> dict[str, object]:
    return {"type": "http.response.start", "status": status, "headers": list(headers)}


def piece(body: bytes, *, more: bool = False) -> dict[str, object]:
    return {"type": "http.response.body", "body": body, "more_body": more}


def path_of(path: Path, *span: int) -> dict[str, object]:
    return {"type": "http.response.pathsend", "path": str(path), **({"span": span} if span else {})}


def fields_of(sent: bytes) -> dict[str, str]:
    lines = sent.partition(b"\r\n\r\n")[0].decode().split("\r\n")[1:]
    return {name: value for name, _, value in (line.partition(": ") for line in lines)}


# Where it ends.


def test_an_answer_in_one_piece_says_its_length(served: Served) -> None:
    served.talk.work["/"] = told(start(), piece(b"abc"))
    sent = served.exchange(request(headers=CLOSE))
    assert fields_of(sent)["content-length"] == "3"
    assert sent.endswith(b"\r\n\r\nabc")


def test_an_answer_of_unknown_length_comes_in_chunks(served: Served) -> None:
    served.talk.work["/"] = told(start(), piece(b"abc", more=True), piece(b"", more=True), piece(b"de"))
    sent = served.exchange(request(headers=CLOSE))
    assert (fields_of(sent)["transfer-encoding"], "content-length" in fields_of(sent)) == ("chunked", False)
    assert sent.endswith(b"\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")


def test_to_http_1_0_it_ends_with_the_connection(served: Served) -> None:
    served.talk.work["/"] = told(start(), piece(b"abc", more=True), piece(b"de"))
    sent = served.exchange(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    assert "transfer-encoding" not in fields_of(sent)
    assert fields_of(sent)["connection"] == "close"
    assert sent.endswith(b"\r\n\r\nabcde")


def test_http_1_0_may_keep_its_connection_if_it_asks(served: Served) -> None:
    served.talk.ready["/"] = answer(b"abc")
    asking = b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
    for _ in range(2):  # the second time it is known
        with served.connect() as made:
            for _ in range(2):
                made.sendall(asking)
                assert b"\r\nconnection: keep-alive\r\n" in head_of(made)
                assert received(made, 3) == b"abc"
    assert served.exchange(b"GET / HTTP/1.0\r\n\r\n").endswith(b"connection: close\r\n\r\nabc")


def test_an_announced_length_is_kept(served: Served) -> None:
    length = (b"content-length", b"5")
    served.talk.work["/"] = told(start(length), piece(b"abc", more=True), piece(b"de"))
    sent = served.exchange(request(headers=CLOSE))
    assert "transfer-encoding" not in fields_of(sent)
    assert sent.endswith(b"\r\n\r\nabcde")


@pytest.mark.parametrize("headers", ["", CLOSE])
def test_too_few_bytes_end_the_connection_so_that_nobody_takes_them_for_all(served: Served, headers: str) -> None:
    served.talk.work["/"] = told(start((b"content-length", b"5")), piece(b"abc"))
    assert served.exchange(request(headers=headers) + b"").endswith((b"abc", b"<reset>"))


def test_too_many_bytes_are_not_sent(served: Served, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"abcdef")
    length = (b"content-length", b"3")
    for messages in ((piece(b"abcdef"),), (piece(b"abc", more=True), piece(b"def")), (path_of(tmp_path / "f"),)):
        served.talk.work["/"] = told(start(length), *messages)
        assert b"def" not in served.exchange(request())


@pytest.mark.parametrize("status", [204, 304])
@pytest.mark.parametrize("more", [False, True])
def test_some_answers_have_no_body_whatever_the_app_sends(
    served: Served, tmp_path: Path, status: int, *, more: bool
) -> None:
    (tmp_path / "f").write_bytes(b"abc")
    served.talk.work["/"] = told(start(status=status), piece(b"abc", more=more), piece(b""))
    served.talk.work["/path"] = told(start(status=status), path_of(tmp_path / "f"))
    sent = served.exchange(request() + request("/path") + request(headers=CLOSE))
    assert sent.count(b"HTTP/1.1 ") == 3
    assert b"abc" not in sent
    assert b"transfer-encoding" not in sent


def test_head_is_answered_as_get_without_the_body(served: Served, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"abc")
    length = (b"content-length", b"3")
    served.talk.work |= {
        "/one": told(start(), piece(b"abc")),
        "/many": told(start(), piece(b"a", more=True), piece(b"bc")),
        "/path": told(start(length), path_of(tmp_path / "f")),
    }
    served.talk.ready |= {"/ready": answer(b"abc"), "/file": file_answer(tmp_path / "f")}
    paths = ["/one", "/many", "/path", "/ready", "/file", "/ready"]
    sent = served.exchange(b"".join(request(path, method="HEAD") for path in paths) + request("/x", headers=CLOSE))
    found = read_answers(sent, methods="HEAD " * len(paths) + "GET")
    assert [one.status for one in found] == [200] * len(paths) + [404]
    assert b"abc" not in sent
    assert [one.headers.get("content-length") for one in found[2:-1]] == ["3"] * 4


# What it must not contain.


@pytest.mark.parametrize("bad", ["a\r\nset-cookie: x", "a\nb", "a\rb", "a\0", "\u2026", "a\r\n\r\nHTTP/1.1 200 OK"])
def test_a_header_that_ends_its_line_is_never_sent(served: Served, bad: str, caplog: pytest.LogCaptureFixture) -> None:
    for pair in (("x", bad), (bad, "x")):
        with pytest.raises(ValueError, match=r"line break|codec"):
            head(200, [pair])
    served.talk.work["/"] = told(start((b"x", bad.encode("utf-8")), (b"y", b"\r\n")), piece(b""))
    sent = served.exchange(request())
    assert sent.startswith(b"HTTP/1.1 500 ")
    assert b"set-cookie" not in sent
    assert "/" in caplog.text


def test_every_head_has_one_date(served: Served) -> None:
    served.talk.ready["/"] = answer(b"")
    sent = served.exchange(request() + request("/none", headers=CLOSE))
    assert sent.count(b"\r\ndate: ") == sent.count(b"HTTP/1.1 ") == 2


@pytest.mark.parametrize(("status", "line"), [(200, "200 OK"), (299, "299 "), (507, "507 Insufficient Storage")])
def test_the_status_line_has_its_second_space_without_a_phrase_too(status: int, line: str) -> None:
    """RFC 9112 §4."""
    assert answers.rendered(status, []) == f"HTTP/1.1 {line}\r\n".encode()


# What becomes of the connection.


def test_a_close_that_the_app_asks_for_is_said_once(served: Served) -> None:
    served.talk.work["/"] = told(start((b"connection", b"close")), piece(b"x"))
    assert served.exchange(request()).count(b"connection: close\r\n") == 1


def test_a_handler_that_says_nothing_is_a_500(served: Served) -> None:
    served.talk.work["/"] = told()
    assert served.exchange(request()).startswith(b"HTTP/1.1 500 ")


def test_a_handler_that_fails_is_a_500_or_a_cut_answer(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    async def failing(request: Request, exchange: Exchange) -> None:
        if request.path == "/late":
            await respond(exchange, b"abc", more=True)
        raise LookupError(request.path)

    served.talk.work |= {"/early": failing, "/late": failing}
    early = served.exchange(request("/early"))
    assert early.startswith(b"HTTP/1.1 500 ")
    assert early.endswith(b"connection: close\r\n\r\nthis is a fault of the server; its log says more\n")
    assert not served.exchange(request("/late")).endswith(b"0\r\n\r\n")
    assert caplog.text.count("LookupError: /") == 2


# The request's body.


@pytest.mark.parametrize("sent", [b"", b"abc", b"x" * 1_000_000])
def test_a_body_arrives_with_a_length_and_in_chunks(served: Served, sent: bytes) -> None:
    served.talk.work["/"] = served.talk.echo
    plainly = request(method="POST", body=sent)
    in_chunks = request(method="POST", headers="Transfer-Encoding: chunked\r\n")
    in_chunks += chunked(*(sent[at : at + 70_000] for at in range(0, len(sent), 70_000)), trailers="X: y\r\n")
    with served.connect() as made:
        for one in (plainly, in_chunks, plainly):
            made.sendall(one)
            assert fields_of(head_of(made))["content-length"] == str(len(sent))
            assert received(made, len(sent)) == sent


def test_a_client_that_waits_is_told_to_continue_when_its_body_is_wanted(served: Served) -> None:
    served.talk.work["/"] = served.talk.echo
    with served.connect() as made:
        made.sendall(request(method="POST", headers="Expect: 100-continue\r\nContent-Length: 3\r\n"))
        assert head_of(made) == b"HTTP/1.1 100 Continue\r\n\r\n"
        made.sendall(b"abc")
        assert b" 200 OK" in head_of(made)
        assert received(made, 3) == b"abc"
        made.sendall(request("/none"))
        assert b" 404 " in head_of(made)


def test_a_client_that_waits_is_not_told_to_continue_when_the_answer_is_known(served: Served) -> None:
    """It may send its body or not (RFC 9110 §10.1.1): nobody could tell what comes next, so the connection ends."""
    served.talk.work["/"] = told(start(status=403), piece(b"no"))
    with served.connect() as made:
        made.sendall(request(method="POST", headers="Expect: 100-continue\r\nContent-Length: 3\r\n"))
        found = head_of(made)
        assert found.startswith(b"HTTP/1.1 403 ")
        assert b"\r\nconnection: close\r\n" in found
        made.sendall(request("/smuggled")[:3])
        assert received(made, 2) == b"no"
        assert made.recv(1) == b""


def test_a_body_that_came_already_needs_no_continue(served: Served) -> None:
    served.talk.work["/"] = served.talk.echo
    sent = served.exchange(request(method="POST", headers=f"Expect: 100-continue\r\n{CLOSE}", body=b"abc"))
    assert sent.startswith(b"HTTP/1.1 200 ")


def test_a_body_that_the_client_breaks_off_is_told_as_cut(served: Served) -> None:
    got = list[bytes]()

    async def taking(_: Request, exchange: Exchange) -> None:
        got.append(await body_of(exchange))
        got.append(await body_of(exchange))  # and again, without waiting for ever

    served.talk.work["/"] = taking
    served.exchange(request(method="POST", headers="Content-Length: 9\r\n") + b"abc", ended=True)
    assert got == [b"abc<cut>", b"<cut>"]


def test_whoever_waits_for_the_clients_end_hears_of_it(served: Served) -> None:
    ended = list[str]()

    async def waiting(_: Request, exchange: Exchange) -> None:
        await body_of(exchange)
        ended.append((await exchange.receive())["type"])
        ended.append((await exchange.receive())["type"])

    served.talk.work["/"] = waiting
    with served.connect() as made:
        made.sendall(request())
        served.client()
        reset(made)
    until(lambda: ended == ["http.disconnect"] * 2, what="the news")


# Files.


def test_a_descriptor_is_closed_though_the_client_was_gone_before_the_head(served: Served, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"abc")
    given = list[int]()

    async def answering(_: Request, exchange: Exchange) -> None:
        await served.talk.hold.wait()
        given.append(os.open(tmp_path / "f", os.O_RDONLY))
        await exchange.answer(file_answer(tmp_path / "f"), given[0])

    served.talk.work["/"] = answering
    with served.connect() as made:
        made.sendall(request())
        reset(made)
        served.client()
    until(lambda: not served.clients(), what="the client's end")
    served.release()
    until(lambda: given, what="the answer")
    served.clients()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(given[0])
