"""What of bytes becomes a request, however they are cut, and what is refused."""

import tracemalloc
from dataclasses import dataclass, field
from itertools import pairwise

import httptools
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entrepot.http1.bodies import NOTHING, Body
from entrepot.http1.requests import Reader, Refused, Request
from tests.http1.serving import chunked, request


@dataclass
class Read:
    """A reader, what came out of it, and what it said in the end."""

    requests: list[Request] = field(default_factory=list)
    refused: Refused | None = None

    def __post_init__(self) -> None:
        self.reader = Reader(self.requests.append, lambda: Body(lambda: None, lambda: None))

    def feed(self, *pieces: bytes) -> "Read":
        for piece in pieces:
            if self.refused is None:
                try:
                    self.reader.feed(piece)
                except Refused as refused:
                    self.refused = refused
        return self

    @property
    def status(self) -> int:
        """Of the refusal; 0 without one."""
        return self.refused.status if self.refused is not None else 0

    def told(self) -> list[tuple[object, ...]]:
        """All that is known of the requests, to compare."""
        return [
            (one.method, one.raw_path, one.query, one.path, one.lines, one.version, one.keep_alive, one.waits,
             one.brings_body, b"".join(one.body._pieces), one.body.ended)
            for one in self.requests
        ]  # fmt: skip


def read(*pieces: bytes) -> Read:
    return Read().feed(*pieces)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:stop] for start, stop in pairwise(edges)]


# One after the other, of every sort: what is left over from one must not get into the next.
CONVERSATION = b"".join(
    [
        b"\r\n",
        request("/a?b=c&d", headers="X-Empty:\r\nX-Long: 1 2 3\r\nAccept: a\r\nAccept: b\r\n"),
        request("/caf%C3%A9/%2F", method="HEAD", headers="Expect: 100-continue\r\n"),
        request("/up", method="POST", body=b"GET / HTTP/1.1\r\n\r\n"),
        request("/h2", headers="Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"),
        request("/ch", method="PUT", headers="Transfer-Encoding: Chunked\r\n"),
        chunked(b"one", b"two" * 9, trailers="X-Host: evil\r\nX-Last:\r\n"),
        b"GET http://other.example:80/absolute?q HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"OPTIONS * HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        request("/last", headers="Connection: close\r\n"),
    ]
)
WHOLE = read(CONVERSATION).told()


def test_a_conversation_is_read_as_what_it_is() -> None:
    assert [(one[0], one[3]) for one in WHOLE] == [
        ("GET", "/a"), ("HEAD", "/café//"), ("POST", "/up"), ("GET", "/h2"), ("PUT", "/ch"), ("GET", "/absolute"),
        ("OPTIONS", "*"), ("GET", "/last"),
    ]  # fmt: skip
    first, head, post, upgrade, put, absolute, options, last = read(CONVERSATION).requests
    assert (first.query, first.header("x-empty"), first.header("accept")) == (b"b=c&d", "", "a")
    assert first.joined(b"accept") == "a, b"
    assert (head.waits, head.brings_body, head.body is NOTHING) == (True, False, True)
    assert b"".join(post.body._pieces) == b"GET / HTTP/1.1\r\n\r\n"
    assert upgrade.keep_alive
    assert b"".join(put.body._pieces) == b"one" + b"two" * 9
    assert put.header("x-host") is None, "a trailer is no header"
    assert (absolute.query, absolute.header("host"), absolute.header("x-last")) == (b"q", "localhost", None)
    assert (options.version, options.keep_alive, last.keep_alive) == ("1.0", True, False)
    assert all(one.body.ended for one in (first, head, post, upgrade, put, absolute, options, last))


@given(st.lists(st.integers(0, len(CONVERSATION)), max_size=12))
def test_where_the_bytes_are_cut_changes_nothing(places: list[int]) -> None:
    again = read(*cut(CONVERSATION, places))
    assert (again.told(), again.status) == (WHOLE, 0)


def test_byte_by_byte_it_is_the_same() -> None:
    again = read(*(CONVERSATION[at : at + 1] for at in range(len(CONVERSATION))))
    assert (again.told(), again.status) == (WHOLE, 0)
    assert again.reader.at_rest


WORDS = st.sampled_from(
    [
        b"GET ", b"POST ", b"/", b"*", b"http://", b" HTTP/1.1", b" HTTP/1.0", b" HTTP/2.0", b"\r\n", b"\r", b"\n",
        b"Host: a\r\n", b"Host:", b"Content-Length: 3\r\n", b"Content-Length: 99999999999999999999\r\n",
        b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: x\r\n", b"Connection: close\r\n", b"Expect: 100-continue\r\n",
        b"Connection: upgrade\r\nUpgrade: h2c\r\n", b"0\r\n", b"5\r\n", b"ffffffffffffffff\r\n", b"abc", b"\0", b"\xff", b": ",
        b"CONNECT a:1 HTTP/1.1\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", request("/a"), request("/b", method="POST", body=b"x"),
    ]
)  # fmt: skip


@given(st.lists(WORDS | st.binary(max_size=9), max_size=30).map(b"".join), st.lists(st.integers(0, 999), max_size=5))
@settings(max_examples=600, deadline=None)
def test_any_bytes_are_requests_or_refused_wherever_they_are_cut(data: bytes, places: list[int]) -> None:
    """And nothing else is ever raised."""
    whole, again = read(data), read(*cut(data, places))
    assert again.told() == whole.told()
    # Only which of two faults is found first may differ.
    assert (again.refused is None) == (whole.refused is None)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
        (b"GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: user@a\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a:port\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: \xff\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
        (b"GET http:///path HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"BREW / HTTP/1.1\r\nHost: a\r\n\r\n", 501),
        (b"GET / HTTP/1.1\nHost: a\n\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n", 400),
        (request("/", method="POST", headers="Content-Length: 1\r\nContent-Length: 1\r\n") + b"x", 400),
        (request("/", method="POST", headers="Content-Length: 1, 1\r\n") + b"x", 400),
        (request("/", method="POST", headers="Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"), 400),
        (request("/", method="POST", headers="Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"), 400),
        (request("/", method="POST", headers="Transfer-Encoding: gzip, chunked\r\n"), 501),
        (request("/", method="POST", headers="Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n"), 501),
        (request("/", method="POST", headers="Transfer-Encoding: chunked, gzip\r\n"), 400),
        (request("/", method="POST", headers="Transfer-Encoding:\r\n"), 400),
        (request("/", method="POST", headers="Transfer-Encoding: chunked\r\n") + b"5\nabcde\r\n", 400),
        (request("/", method="POST", headers="Transfer-Encoding: chunked\r\n") + b"-1\r\n", 400),
    ],
)
def test_what_could_be_read_in_two_ways_is_refused(sent: bytes, status: int) -> None:
    assert read(sent).status == status


@pytest.mark.parametrize("connection", ["", "Connection: keep-alive\r\n"])
def test_chunks_of_http_1_0_are_refused(connection: str) -> None:
    """RFC 9112 §6.1: its framing counts as faulty, since what passed it on may know of no chunks."""
    head = b"POST / HTTP/1.0\r\nHost: a\r\n" + connection.encode() + b"Transfer-Encoding: chunked\r\n\r\n"
    refused = read(head + chunked(b"x"))
    assert (refused.status, refused.requests) == (400, [])


def test_a_body_behind_an_offer_to_upgrade_is_refused_and_not_taken_for_empty() -> None:
    offer = "Connection: Upgrade\r\nUpgrade: h2c\r\n"
    for headers, body in ((offer, b"hello"), (offer + "Transfer-Encoding: chunked\r\n", b"")):
        refused = read(request("/", method="POST", headers=headers, body=body) + request("/smuggled"))
        assert (refused.status, refused.requests) == (501, [])


def test_http_1_0_is_not_told_to_continue() -> None:
    """RFC 9110 §10.1.1."""
    [old] = read(b"POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n").requests
    assert not old.waits


def test_what_follows_a_last_request_is_none() -> None:
    both = read(request("/a", headers="Connection: close\r\n") + request("/b"))
    assert [one.path for one in both.requests] == ["/a"]
    assert both.status == 400


# Sizes.


def test_a_head_may_have_64_kib_and_128_lines() -> None:
    assert read(request("/", headers="X: " + "a" * 65_000 + "\r\n")).status == 0
    assert read(request("/", headers="X: " + "a" * 66_000 + "\r\n")).status == 431
    assert read(request("/" + "a" * 66_000)).status == 431
    assert read(request("/", headers="X: 1\r\n" * 127)).status == 0
    assert read(request("/", headers="X: 1\r\n" * 128)).status == 431


@pytest.mark.parametrize(
    ("begin", "more"),
    [
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: ", b"a"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX", b"a"),
        (b"GET / HTTP/1.1\r\nHost: a\r\n", b"X: 1\r\n"),
        (b"GET /", b"a"),
        (b"", b"\r\n"),
        (request("/", method="POST", headers="Transfer-Encoding: chunked\r\n") + b"0\r\nX: ", b"a"),
        (request("/", method="POST", headers="Transfer-Encoding: chunked\r\n") + b"0\r\n", b"X: 1\r\n"),
        (request("/", method="POST", headers="Transfer-Encoding: chunked\r\n") + b"1;", b"a"),
    ],
    ids=["value", "name", "lines", "target", "nothing", "trailer", "trailers", "extension"],
)
def test_what_does_not_end_is_refused_before_it_costs_memory(begin: bytes, more: bytes) -> None:
    piece = more * (60_000 // len(more))
    endless = read(begin)
    tracemalloc.start()
    for _ in range(50):
        endless.feed(piece)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert endless.status in {400, 431}
    assert peak < 4_000_000


def test_a_long_body_is_no_head() -> None:
    long = read(request("/", method="POST", headers="Transfer-Encoding: chunked\r\n"))
    for _ in range(50):
        long.feed(b"%x\r\n" % 60_000, b"a" * 60_000, b"\r\n")
    long.feed(chunked(trailers="X: 1\r\n"), request("/next"))
    assert long.status == 0
    assert [one.path for one in long.requests] == ["/", "/next"]
    assert long.requests[0].body._size == 3_000_000


def test_a_fault_of_ours_is_not_the_clients() -> None:
    def broken(_: Request) -> None:
        raise LookupError("ours")

    with pytest.raises(httptools.HttpParserCallbackError) as raised:
        Reader(broken, lambda: Body(lambda: None, lambda: None)).feed(request())
    assert isinstance(raised.value.__context__, LookupError)


def test_a_body_is_cut_with_its_connection() -> None:
    half = read(request("/", method="POST", headers="Content-Length: 9\r\n") + b"abc", request()[:0])
    half.reader.cut()
    [cut_off] = half.requests
    assert (cut_off.body.cut, cut_off.body.ended) == (True, False)
    whole = read(request())
    whole.reader.cut()
    assert not whole.requests[0].body.cut
