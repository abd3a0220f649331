"""HTTP by hand over sockets: requests that no client would send."""

import http.client
import io
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.e2e.raw import Answer, Form, answer_of, basic
from tests.web.fronts import Front

RESET = b"<the connection was reset>"


@contextmanager
def connection(front: Front, *, peer: str = "127.0.0.1", small: bool = False) -> Iterator[socket.socket]:
    """A connection to the server; with `small`, one that takes only little until it is read."""
    with socket.socket() as made:
        if small:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        made.bind((peer, 0))
        made.settimeout(10)
        made.connect(("127.0.0.1", front.process.options.port))
        yield made


def until_closed(made: socket.socket) -> bytes:
    """All that comes until the server closes."""
    received = bytearray()
    try:
        while piece := made.recv(1 << 20):
            received += piece
    except ConnectionResetError:
        received += RESET
    return bytes(received)


def exchange(front: Front, sent: bytes, *, ended: bool = False) -> bytes:
    """What comes back for these bytes, until the server closes. With `ended` we say that we send no more."""
    with connection(front) as made:
        with suppress(OSError):  # it may answer and close before it has all
            made.sendall(sent)
            if ended:
                made.shutdown(socket.SHUT_WR)
        return until_closed(made)


class _Received(socket.socket):
    """Bytes for `http.client`, which wants a socket."""

    def __init__(self, stream: io.BytesIO) -> None:
        self._stream = stream

    def makefile(self, *_: object, **__: object) -> io.BytesIO:  # type: ignore[override]
        return self._stream


def answers(received: bytes, *, methods: str = "GET") -> list[Answer]:
    """The answers in what came back, to requests of these methods ("GET POST …"; the last counts for all others)."""
    stream, found = io.BytesIO(received), list[Answer]()
    wanted = methods.split()
    while stream.tell() < len(received):
        method = wanted[min(len(found), len(wanted) - 1)]
        stream.close = lambda: None  # type: ignore[method-assign]
        response = http.client.HTTPResponse(_Received(stream), method=method)
        response.begin()
        found.append(answer_of(response))
    return found


def read_answer(made: socket.socket, *, method: str = "GET") -> Answer:
    """The next answer on a connection that stays open."""
    response = http.client.HTTPResponse(made, method=method)
    response.begin()
    return answer_of(response)


def request(
    target: str = "/health", *, method: str = "GET", headers: str = "", body: bytes = b"", close: bool = True
) -> bytes:
    """A plain request; `headers` are lines that end in CRLF."""
    length = f"Content-Length: {len(body)}\r\n" if body else ""
    closing = "Connection: close\r\n" if close else ""
    return f"{method} {target} HTTP/1.1\r\nHost: localhost\r\n{closing}{length}{headers}\r\n".encode("latin-1") + body


def upload_head(
    form: Form, token: str, *, more: str = "", length: int | None = None, target: str = "/legacy/"
) -> bytes:
    """The head of an upload. `length` is what it announces, -1 for a chunked body."""
    size = form.headers["Content-Length"] if length is None else str(length)
    body = "Transfer-Encoding: chunked\r\n" if length == -1 else f"Content-Length: {size}\r\n"
    content_type = f"Content-Type: {form.headers['Content-Type']}\r\n"
    credentials = f"Authorization: {basic(token)}\r\n" if token else ""
    return f"POST {target} HTTP/1.1\r\nHost: localhost\r\n{content_type}{credentials}{body}{more}\r\n".encode()


def descriptors(front: Front) -> int:
    """How many files and connections the server's worker has open."""
    [worker] = front.process.workers()
    return len(os.listdir(f"/proc/{worker}/fd"))


def resident(front: Front) -> int:
    """The bytes of memory of the server's worker."""
    [worker] = front.process.workers()
    [line] = [line for line in Path(f"/proc/{worker}/status").read_text().splitlines() if line.startswith("VmRSS:")]
    return int(line.split()[1]) * 1024
