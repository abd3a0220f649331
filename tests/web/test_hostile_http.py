"""Requests that no client would send, on a real socket: refused or answered, never a 5xx, and the next one is served."""

import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.web.fronts import HTML, JSON, Front, fresh, sdist, wheel
from tests.web.sockets import answers, connection, exchange, read_answer, request

CLOSE = "Connection: close\r\n"


def status_line(received: bytes) -> int:
    """0 for a connection that was closed without a word."""
    return int(received.split(b" ", 2)[1]) if received.startswith(b"HTTP/1.") else 0


@pytest.mark.parametrize(
    "sent",
    [
        b"\r\n\r\n\r\n",
        b"\0" * 100 + b"\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",  # TLS
        b"GET\r\n\r\n",
        b"GET /\r\n\r\n",  # HTTP/0.9
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1 \r\n\r\n",
        b"FOO / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n",
        b"POST /legacy/ HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"G\xc3\x8bT / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX : 1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n folded: 1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: a\0b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX\0: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nno colon\r\n\r\n",
        b"GET /a b HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /\0 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET http:// HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"POST /legacy/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"POST /legacy/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: +5\r\n\r\nabcde",
        b"POST /legacy/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0x5\r\n\r\nabcde",
        b"POST /legacy/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5, 6\r\n\r\nabcde",
        b"POST /legacy/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcde",
        b"POST /legacy/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999999999999\r\n\r\nabcde",
        b"POST /legacy/ HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip\r\n\r\nabcde",
        b"POST /legacy/ HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 2_000_000 + b"\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: localhost\r\n" + b"X: 1\r\n" * 150 + b"\r\n",
        b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: localhost\r\n" + b"X" * 2_000_000,
    ],
)  # fmt: skip
def test_what_is_no_http_is_refused_and_the_connection_closed(process: Front, sent: bytes) -> None:
    received = exchange(process, sent, ended=True)
    assert status_line(received) in {0, 400, 405, 413, 414, 431, 501, 505}
    assert process.get("/health").status == 200


@pytest.mark.parametrize("size", ["zz", "-1", "ffffffffffffffffff", "", "5;" + "x" * 20_000])
def test_a_broken_chunk_is_refused(process: Front, size: str) -> None:
    head = request("/legacy/", method="POST", headers="Transfer-Encoding: chunked\r\n")
    received = exchange(process, head + f"{size}\r\nabcde\r\n0\r\n\r\n".encode())
    assert status_line(received) in {0, 400, 401, 413}
    assert process.get("/health").status == 200


def test_two_lengths_smuggle_nothing(process: Front) -> None:
    """Content-Length and chunked at once (RFC 9112 §6.3): whatever a proxy believed, no second request comes of it."""
    hidden = b"GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n"
    chunked = b"0\r\n\r\n" + hidden
    head = (
        f"POST /legacy/ HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nContent-Length: {len(chunked)}\r\n"
    )
    received = exchange(process, head.encode() + b"\r\n" + chunked, ended=True)
    assert received.count(b"HTTP/1.1 ") == 1
    assert not process.lines("/smuggled")


def test_two_spaces_in_the_request_line_count_as_one(process: Front) -> None:
    """As RFC 9112 §3 allows, and as the proxies do that would be in front."""
    assert (
        status_line(exchange(process, b"GET  /health  HTTP/1.1\r\nHost: localhost\r\n" + CLOSE.encode() + b"\r\n"))
        == 200
    )


def test_pipelined_requests_are_answered_in_order(process: Front) -> None:
    name = fresh()
    file = wheel(name)
    process.publish(file)
    targets = [
        "/health",
        f"/simple/{name}/",
        f"/files/{name}/{file.filename}",
        "/nowhere",
        f"/simple/{name}/",
        "/ready",
    ]
    sent = b"".join(request(target, close=target == "/ready") for target in targets)
    received = answers(exchange(process, sent))
    assert [answer.status for answer in received] == [200, 200, 200, 404, 200, 200]
    assert received[0].text == "alive\n"
    assert received[2].body == file.data
    assert received[1].body == received[4].body
    assert received[5].text == "ready\n"


def test_a_pipelined_head_has_no_body_that_shifts_the_rest(process: Front) -> None:
    name = fresh()
    process.publish(wheel(name), sdist(name))
    methods = ["HEAD", "GET"] * 4
    sent = b"".join(
        request(f"/simple/{name if number < 4 else 'nobody'}/", method=method, close=number == 7)
        for number, method in enumerate(methods)
    )
    received = answers(exchange(process, sent), methods=" ".join(methods))
    assert [bool(answer.body) for answer in received] == [False, True] * 4
    assert [answer.status for answer in received] == [200] * 4 + [404] * 4


def test_http_1_0_is_answered_and_closed(process: Front) -> None:
    received = exchange(process, b"GET /health HTTP/1.0\r\nHost: localhost\r\n\r\n")
    assert status_line(received) == 200
    assert received.endswith(b"alive\n")


@pytest.mark.parametrize(("version", "status"), [("1.0", 421), ("1.1", 400)])
def test_a_request_without_host_is_refused(process: Front, version: str, status: int) -> None:
    """HTTP/1.1 must have one (RFC 9112 §3.2); without one nobody knows whether the name was rebound."""
    received = exchange(process, f"GET /health HTTP/{version}\r\n{CLOSE}\r\n".encode())
    assert status_line(received) == status


def test_an_absolute_target_does_not_stand_in_for_the_host(process: Front) -> None:
    for host, status in (("localhost", 200), ("evil.example", 421)):
        sent = f"GET http://localhost/health HTTP/1.1\r\nHost: {host}\r\n{CLOSE}\r\n"
        assert status_line(exchange(process, sent.encode())) == status


def test_errors_leave_the_connection_open(process: Front) -> None:
    name = fresh()
    file = wheel(name)
    process.publish(file)
    download = f"/files/{name}/{file.filename}"
    with connection(process) as made:
        for sent, status in (
            (request("/nowhere", close=False), 404),
            (request("/simple/", method="POST", body=b"x" * 70_000, close=False), 405),
            (request("/legacy/", method="POST", body=b"x" * 70_000, close=False), 401),
            (request("/legacy/", method="POST", body=b"x", headers="Origin: x\r\n", close=False), 403),
            (request("/simple/", headers="Accept: image/png\r\n", close=False), 406),
            (request(download, headers="Range: bytes=999999-\r\n", close=False), 416),
            (request(f"/simple/{name}", close=False), 301),
            (request(f"/simple/{name}/", headers="If-None-Match: *\r\n", close=False), 304),
            (request(download, headers="Range: bytes=1-5\r\n", close=False), 206),
            (request("/secret/simple/", close=False), 401),
            (request("/secret/simple/", headers="Authorization: Bearer x\r\n", close=False), 401),
            (request("/health", close=False), 200),
        ):
            made.sendall(sent)
            assert read_answer(made).status == status


def test_a_get_with_a_body_is_answered_and_its_body_skipped(process: Front) -> None:
    body = b"GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n"
    received = answers(exchange(process, request("/health", body=body, close=False) + request("/health")))
    assert [answer.status for answer in received] == [200, 200]
    assert not process.lines("/smuggled")


# Paths. None of them leads out of the store, and none is a fault of ours.

TRICKS = [
    "//", "///simple///", "/./simple/", "/simple/./", "/simple//demo/", "/simple/../../etc/passwd", "/..", "/%2e%2e/",
    "/simple/%2e%2e/", "/files/%2e%2e/%2e%2e/entrepot.json", "/files/demo/..%2f..%2f..%2fetc%2fpasswd",
    "/files/demo/%2fetc%2fpasswd", "/files/..%5c..%5cetc/passwd", "/files/demo/....//....//etc/passwd",
    "/files/demo/%00", "/files/demo/x%00.whl", "/files/demo/%0d%0aSet-Cookie:%20x", "/simple/%", "/simple/%z/",
    "/simple/%ff%fe/", "/simple/%c0%ae%c0%ae/", "/simple/%u002e/", "/simple/%252e%252e/", "/simple/demo%2F", "/simple;x/",
    "/simple/demo;v=1/", "/simple/~root/", "/private/blobs/", "/private/projects/", "/store/entrepot.json", "/access/tokens.json",
    "/.git/config", "/first-token", "/wheels/files/withheld/..%2Fwithheld-1.0-py3-none-any.whl", "/pypi/%2e%2e/json",
    "/pypi/demo/%2e%2e/json", "/simple/" + "%41" * 5000 + "/", "/" + "a/" * 10_000, "/simple/\u202e/", "/\\..\\..\\etc\\passwd",
]  # fmt: skip


@pytest.mark.parametrize("target", TRICKS, ids=lambda target: target[:40])
def test_a_path_leads_nowhere_but_to_packages(front: Front, target: str) -> None:
    safe = "".join(letter if letter.isascii() else "%E2%80%AE" for letter in target)
    for method in ("GET", "HEAD", "POST"):
        answer = front.ask(method, safe)
        assert 300 < answer.status < 500
        assert b"root:" not in answer.body
        assert b"sha256" not in answer.body
        assert "set-cookie" not in answer.headers


@given(st.binary(max_size=60))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_path_is_a_fault_of_ours(asgi: Front, process: Front, raw: bytes) -> None:
    encoded = "".join(chr(byte) if chr(byte).isalnum() and byte < 128 else f"%{byte:02x}" for byte in raw)
    for prefix in ("/", "/simple/", "/files/demo/", "/pypi/demo/", "/simple/?format="):
        seen = {front.ask("GET", f"{prefix}{encoded}").status for front in (asgi, process)}
        assert len(seen) == 1
        assert max(seen) < 500


@pytest.mark.parametrize(
    "raw", [b"\xff", b"\xc3\xa9", b"\xe2\x80\xa6", b"a=\xff&format=text/html", b"\xf0\x9f\x98\x80"]
)
def test_a_query_that_is_not_encoded_is_no_fault_of_ours(asgi: Front, process: Front, raw: bytes) -> None:
    for target in ("/simple/", "/simple", "/health", "/nowhere"):
        sent = f"GET {target}?".encode() + raw + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        assert status_line(exchange(process, sent)) in {200, 301, 400, 404}
        assert asgi.get(f"{target}?{raw.decode('latin-1')}").status in {200, 301, 404}


# Headers.


@pytest.mark.parametrize("name", ["Accept", "Accept-Encoding", "If-None-Match", "User-Agent", "Authorization", "Range"])
@pytest.mark.parametrize(
    "value", [b"\xff", b"\xe2\x80\xa6", b"\x80\x9b31m", b"caf\xe9", b"\t", b";;,,==", b'"', b",", b";q=1"]
)
def test_odd_bytes_in_a_header_are_no_fault_of_ours(asgi: Front, process: Front, name: str, value: bytes) -> None:
    for target in ("/simple/", "/health"):
        sent = (
            f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{name}: ".encode() + value + b"\r\n\r\n"
        )
        assert status_line(exchange(process, sent)) in {200, 401, 406}
        assert asgi.get(target, {name: value.decode("latin-1")}).status in {200, 401, 406}


def test_of_a_repeated_header_the_first_counts_warm_or_not(front: Front) -> None:
    name = fresh()
    front.publish(wheel(name))
    repeated = [("Accept", JSON), ("Accept", HTML), ("Accept-Encoding", "identity"), ("Accept-Encoding", "gzip")]
    for _ in range(2):
        assert front.get(f"/simple/{name}/", repeated).headers["content-type"] == JSON
    for _ in range(2):
        assert "+html" in front.get(f"/simple/{name}/", repeated[1::-1]).headers["content-type"]
    etag = front.get(f"/simple/{name}/", {"Accept": JSON}).headers["etag"]
    known = [("Accept", JSON), ("If-None-Match", '"other"'), ("If-None-Match", etag)]
    for _ in range(2):
        assert front.get(f"/simple/{name}/", known).status == 200
        assert front.get(f"/simple/{name}/", [known[0], *known[:0:-1]]).status == 304


def test_headers_as_large_as_they_may_be_cost_little(front: Front) -> None:
    """Other servers let 400 kB through: parsed and remembered as they are, they would be a way to stop the server."""
    name = fresh()
    front.publish(wheel(name))
    front.get(f"/simple/{name}/")
    began = time.monotonic()
    for number in range(30):
        for header in ("Accept", "Accept-Encoding"):
            value = f"a/b;q=0.{number},{'a/b;q=0.5,' * 5_000}"
            assert front.get(f"/simple/{name}/", {header: value}).status in {200, 406}
    assert time.monotonic() - began < 3


def test_what_comes_first_in_a_large_header_still_counts(front: Front) -> None:
    name = fresh()
    front.publish(wheel(name))
    answer = front.get(f"/simple/{name}/", {"Accept": f"{JSON},{'a/b,' * 15_000}"})
    assert (answer.status, answer.headers["content-type"]) == (200, JSON)
