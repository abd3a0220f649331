"""Uploads that are too large, too slow, too many, cut off or refused: a clear answer, and nothing left behind."""

import asyncio
import http.client
import secrets
import select
import socket
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest
import requests

from entrepot.web import upload
from tests.e2e.processes import until
from tests.e2e.raw import Form, basic
from tests.web.fronts import Front, fresh, wheel
from tests.web.sockets import (
    answers,
    connection,
    descriptors,
    exchange,
    read_answer,
    request,
    until_closed,
    upload_head,
)

TWENTY_MB = 20_000_000
LIMIT = "the file is larger than 1 MiB, the limit of this server"
Receive = Callable[[], Coroutine[Any, Any, dict[str, Any]]]


def large(name: str, size: int) -> Form:
    return Form(wheel(name).filename, secrets.token_bytes(size))


def chunked(body: bytes) -> bytes:
    pieces = [body[at : at + 100_000] for at in range(0, len(body), 100_000)]
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


# Too large.


def test_a_file_over_the_limit_is_413_naming_it(front: Front) -> None:
    name = fresh()
    answer = front.upload(large(name, 1_100_000))
    assert answer.status == 413
    assert LIMIT in answer.text
    assert front.filenames(name) == []
    assert front.staging == []


def test_without_an_announced_length_too(asgi: Front, process: Front) -> None:
    form = large(fresh(), 3_000_000)
    body = b"".join(form.body())
    headers = {"Content-Type": form.headers["Content-Type"], "Authorization": basic(asgi.uploader)}
    answer = asgi.loop.run(asgi.driver.request("POST", "/legacy/", headers, given(body)))
    assert (answer.status, LIMIT in answer.text) == (413, True)
    head = upload_head(form, process.uploader, length=-1, more="Connection: close\r\n")
    [answer] = answers(exchange(process, head + chunked(body)))
    assert (answer.status, LIMIT in answer.text) == (413, True)
    assert asgi.staging == process.staging == []


@pytest.mark.parametrize("where", ["before", "behind", "ignored"])
def test_bytes_that_count_for_nothing_cannot_go_on_for_ever(process: Front, where: str) -> None:
    """Around the form, and in parts that are dropped: 18 MB of them, where the largest form has 17.8 MB."""
    name = fresh()
    form = wheel(name).form()
    body, filling = b"".join(form.body()), b"x" * 18_000_000
    boundary = body.split(b"\r\n", 1)[0]
    ignored = boundary + b'\r\nContent-Disposition: form-data; name="gpg_signature"; filename="x"\r\n\r\n'
    sent = {"before": filling + b"\r\n" + body, "behind": body + filling, "ignored": ignored + filling + b"\r\n" + body}
    head = upload_head(form, process.uploader, length=-1, more="Connection: close\r\n")
    [answer] = answers(exchange(process, head + chunked(sent[where])))
    assert answer.status in {400, 413}
    assert process.filenames(name) == []


def test_a_length_over_the_limit_is_refused_before_a_byte_is_sent(asgi: Front, process: Front) -> None:
    form = large(fresh(), 10)
    for length in (10**8, 10**12, 10**18):
        with connection(process) as made:
            made.sendall(upload_head(form, process.uploader, length=length))
            answer = read_answer(made)
        assert (answer.status, LIMIT in answer.text) == (413, True)
    headers = {"Content-Type": "multipart/form-data; boundary=b", "Authorization": basic(asgi.uploader)}
    for digits in ("1" + "0" * 30, "9" * 5000):
        answer = asgi.ask("POST", "/legacy/", {**headers, "Content-Length": digits}, b"x")
        assert answer.status == 413


def test_a_file_of_just_the_limit_is_judged_by_its_content(front: Front) -> None:
    answer = front.upload(large(fresh(), 1 << 20))
    assert answer.status == 400
    answer = front.upload(large(fresh(), (1 << 20) + 1))
    assert answer.status == 413


def given(body: bytes, end: dict[str, Any] | None = None) -> Receive:
    """A body that comes in pieces, and then `end`: what is left, or that the client has gone."""
    pieces = [body[at : at + 50_000] for at in range(0, len(body), 50_000)]
    messages: Iterator[dict[str, Any]] = iter(
        [
            *({"type": "http.request", "body": piece, "more_body": True} for piece in pieces),
            end or {"type": "http.request", "body": b"", "more_body": False},
        ]
    )

    async def receive() -> dict[str, Any]:
        return next(messages, {"type": "http.disconnect"})

    return receive


# Refused while the client is still sending: it must see the answer and not a reset connection.

REFUSALS = [
    ("/legacy/", {"Authorization": basic("entrepot_0_0")}, 401, "not known here"),
    ("/legacy/", {}, 401, "needs a token"),
    ("/nowhere/legacy/", {}, 404, "no index"),
    ("/simple/", {}, 405, "Not Allowed"),
    ("/nowhere", {}, 404, "Not Found"),
    ("/legacy/", {"Origin": "http://evil.example"}, 403, "web page"),
    ("/legacy/", {"Host": "evil.example"}, 421, "evil.example"),
]


@pytest.mark.parametrize(("target", "headers", "status", "text"), REFUSALS)
@pytest.mark.parametrize("client", ["http.client", "requests", "httpx"])
def test_a_client_that_is_still_sending_sees_why_it_is_refused(
    process: Front, client: str, target: str, headers: dict[str, str], status: int, text: str
) -> None:
    form = large(fresh(), TWENTY_MB)
    body = b"".join(form.body())
    url = process.process.origin + target
    every = {**form.headers, **headers}
    if client == "http.client":
        answer = process.ask("POST", target, every, body)
        seen = answer.status, answer.text
    elif client == "requests":
        with requests.post(url, body, headers=every, timeout=30) as response:
            seen = response.status_code, response.text
    else:
        got = httpx.post(url, content=body, headers=every, timeout=30, trust_env=False)
        seen = got.status_code, got.text
    assert seen[0] == status
    assert text in seen[1]
    assert process.staging == []


def test_a_connection_is_good_for_another_request_after_a_refused_upload(process: Front) -> None:
    """What was refused is read to its end, so nothing of it is taken for a request."""
    name = fresh()
    trap = b"GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n" * 2000
    with connection(process) as made:
        for _ in range(3):
            made.sendall(request("/legacy/", method="POST", body=trap, close=False))
            assert read_answer(made).status == 401
        made.sendall(request("/health", close=False))
        assert read_answer(made).text == "alive\n"
        form = wheel(name).form()
        made.sendall(upload_head(form, process.uploader) + b"".join(form.body()))
        assert read_answer(made).status == 200
    assert not process.lines("/smuggled")


def test_who_waits_for_permission_to_send_is_refused_without_sending(process: Front) -> None:
    form = wheel(fresh()).form()
    with connection(process) as made:
        made.sendall(upload_head(form, "entrepot_0_0", more="Expect: 100-continue\r\n"))
        received = until_closed(made)
    assert received.startswith(b"HTTP/1.1 401 ")
    assert b"100 Continue" not in received


def test_who_waits_for_permission_to_send_gets_it(process: Front) -> None:
    form = wheel(fresh()).form()
    with connection(process) as made:
        made.sendall(upload_head(form, process.uploader, more="Expect: 100-continue\r\n"))
        assert made.recv(100).startswith(b"HTTP/1.1 100 ")
        made.sendall(b"".join(form.body()))
        assert read_answer(made).status == 200


def test_an_app_server_reads_what_is_left_before_the_answer_goes_out(asgi: Front) -> None:
    """Other ASGI servers close the connection once they have the answer."""
    taken = 0
    receive = given(bytes(5_000_000))

    async def counted() -> dict[str, Any]:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        return message

    headers = {"Content-Type": "multipart/form-data; boundary=b", "Content-Length": "5000000"}
    assert asgi.loop.run(asgi.driver.request("POST", "/legacy/", headers, counted)).status == 401
    assert taken == 5_000_000
    # But it does not make a client send that has asked first.
    taken, receive = 0, given(bytes(5_000_000))
    asked = {**headers, "Expect": "100-continue"}
    assert asgi.loop.run(asgi.driver.request("POST", "/legacy/", asked, counted)).status == 401
    assert taken == 0


# Too slow.


def test_an_upload_that_stalls_is_cut_with_408(process: Front) -> None:
    name = fresh()
    form = wheel(name).form()
    body = b"".join(form.body())
    for sent in (0, 10, len(body) // 2, len(body) - 1):
        with connection(process) as made:
            began = time.monotonic()
            made.sendall(upload_head(form, process.uploader) + body[:sent])
            received = until_closed(made)
            took = time.monotonic() - began
        [answer] = answers(received)
        assert answer.status == 408
        assert "nothing came for 1 seconds" in answer.text
        assert 0.9 < took < 3
    assert process.filenames(name) == []
    assert process.staging == []


def test_a_stall_under_another_server_too(make: Callable[..., Front]) -> None:
    front = make("asgi", stall=0.05)
    name = fresh()
    form = wheel(name).form()
    body = b"".join(form.body())
    headers = {**form.headers, "Authorization": basic(front.uploader)}
    sent = given(body[:500])

    async def stalling() -> dict[str, Any]:
        message = await sent()
        if not message["body"]:
            await asyncio.Event().wait()
        return message

    answer = front.loop.run(front.driver.request("POST", "/legacy/", headers, stalling))
    assert (answer.status, answer.headers["connection"]) == (408, "close")
    assert front.staging == []


# Cut off.


def test_an_upload_that_is_cut_leaves_nothing(process: Front) -> None:
    name = fresh()
    form = wheel(name).form()
    body = b"".join(form.body())
    process.get("/health")
    before = descriptors(process)
    for length in (None, -1):
        head = upload_head(form, process.uploader, length=length)
        sent = body if length is None else b"%x\r\n%b" % (len(body), body)
        for part in (0, 1, 200, len(body) // 2, len(body) - 3):
            with connection(process) as made:
                made.sendall(head + sent[:part])
    until(lambda: descriptors(process) <= before, what="the connections to be closed")
    assert process.staging == []
    assert process.filenames(name) == []
    assert not (process.settings.store_folder / "private" / "projects" / f"{name}.json").exists()


def test_an_upload_that_is_reset_leaves_nothing(process: Front) -> None:
    name = fresh()
    form = large(name, 900_000)
    body = b"".join(form.body())
    before = descriptors(process)
    for _ in range(10):
        with connection(process) as made:
            made.sendall(upload_head(form, process.uploader) + body[:-10])
            made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")  # close by RST
    until(lambda: descriptors(process) <= before and not process.staging, what="everything to be closed")
    assert process.filenames(name) == []


@pytest.mark.parametrize("part", [0, 300, 1_000])
def test_under_another_server_too(asgi: Front, part: int) -> None:
    name = fresh()
    form = wheel(name).form()
    body = b"".join(form.body())
    headers = {**form.headers, "Authorization": basic(asgi.uploader)}
    gone = given(body[:part], {"type": "http.disconnect"})
    asgi.loop.run(asgi.driver.request("POST", "/legacy/", headers, gone))
    assert asgi.staging == []
    assert asgi.filenames(name) == []


def test_an_upload_whose_length_is_a_lie_publishes_nothing(process: Front) -> None:
    """Complete by its own boundaries, but shorter than announced: who knows what else is missing."""
    name = fresh()
    form = wheel(name).form()
    body = b"".join(form.body())
    with connection(process) as made:
        made.sendall(upload_head(form, process.uploader, length=len(body) + 10) + body)
        made.shutdown(socket.SHUT_WR)
        until_closed(made)
    assert process.filenames(name) == []
    assert process.staging == []


# Too many.


def test_no_more_uploads_run_at_once_than_configured(every: Any) -> None:
    front: Front = every.below("http1")  # two
    assert front.upload(wheel(fresh()).form()).status == 200  # it knows the token now, and need not read it first
    names = [fresh() for _ in range(3)]
    forms = [wheel(name).form() for name in names]
    with ExitStack() as open_ones:
        made = [open_ones.enter_context(connection(front)) for _ in forms]
        bodies = [b"".join(form.body()) for form in forms]
        target = "/sub/pypi/legacy/"
        for one, form, body in zip(made[:2], forms[:2], bodies[:2], strict=True):
            one.sendall(upload_head(form, front.uploader, target=target) + body[:-200])
        until(lambda: front.ask("GET", "/health").status == 200, what="the server")
        made[2].sendall(upload_head(forms[2], front.uploader, target=target) + bodies[2])
        # The third has sent everything and waits; others are served meanwhile.
        assert select.select([made[2]], [], [], 0.4) == ([], [], [])
        assert front.get("/simple/").status == 200
        made[0].sendall(bodies[0][-200:])
        assert read_answer(made[0]).status == 200
        assert read_answer(made[2]).status == 200
        assert select.select([made[1]], [], [], 0) == ([], [], [])
        made[1].sendall(bodies[1][-200:])
        assert read_answer(made[1]).status == 200
    assert [len(front.filenames(name)) for name in names] == [1, 1, 1]


def test_who_waits_too_long_for_a_place_is_told_to_try_again(every: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload, "_WAIT_FOR_A_PLACE", 0.05)
    front: Front = every.below("asgi")  # two
    assert front.upload(wheel(fresh()).form()).status == 200  # it knows the token now, and need not read it first
    name = fresh()
    form = wheel(name).form()
    held = asyncio.Event()

    async def waiting() -> dict[str, Any]:
        await held.wait()
        return {"type": "http.disconnect"}

    async def all_three() -> tuple[int, str]:
        headers = {**form.headers, "Authorization": basic(token)}
        asked = [front.driver.request("POST", "/sub/pypi/legacy/", headers, waiting) for _ in range(2)]
        running = [asyncio.create_task(one) for one in asked]
        await asyncio.sleep(0)
        third = await front.driver.request("POST", "/sub/pypi/legacy/", headers, given(b"".join(form.body())))
        held.set()
        await asyncio.gather(*running)
        return third.status, third.headers["retry-after"]

    token = front.uploader
    assert front.loop.run(all_three()) == (503, "10")
    assert front.upload(form).status == 200


def test_a_cut_upload_gives_its_place_back(every: Any) -> None:
    front: Front = every.below("http1")
    for _ in range(5):
        form = wheel(fresh()).form()
        with connection(front) as made:
            made.sendall(upload_head(form, front.uploader, target="/sub/pypi/legacy/") + b"".join(form.body())[:-99])
    assert front.upload(wheel(fresh()).form()).status == 200


def test_places_are_given_back_whatever_happens(every: Any) -> None:
    for kind in ("asgi", "http1"):
        front: Front = every.below(kind)
        for _ in range(3):
            assert front.upload(wheel(fresh()).form(sha256_digest="0" * 64)).status == 400
            assert front.ask("POST", "/sub/pypi/legacy/", {"Content-Type": "x"}, b"x").status == 400
        assert front.upload(wheel(fresh()).form()).status == 200


def test_a_hundred_uploads_at_once_all_succeed(process: Front) -> None:
    """More than there are places, over as many connections."""
    files = [wheel(fresh("many")) for _ in range(100)]
    connections = [http.client.HTTPConnection("127.0.0.1", process.process.options.port, timeout=30) for _ in files]
    for one, file in zip(connections, files, strict=True):
        form = file.form()
        one.request(
            "POST", "/legacy/", b"".join(form.body()), {**form.headers, "Authorization": basic(process.uploader)}
        )
    assert [one.getresponse().status for one in connections] == [200] * 100
    for one in connections:
        one.close()
    assert process.staging == []
