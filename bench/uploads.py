"""Uploads as twine sends them, from processes of their own with ready-made requests."""

import base64
import hashlib
import socket
import time
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from urllib.parse import urlsplit

from bench.corpus import Wheel
from bench.processes import Unmeasured

BOUNDARY = "bench-5f0c1a9e"
PATIENCE = 60  # seconds that one answer may take
_Outcome = tuple[float, float, list[float]]  # begun, ended (both on the monotonic clock), seconds of each


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """Where uploads go, and as whom."""

    url: str
    user: str = ""
    password: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Uploaded:
    seconds: float  # from the first request to the last answer
    each: list[float] = field(default_factory=list)  # seconds per upload, in order per connection


def upload(door: Door, wheels: list[Wheel], connections: int = 1) -> Uploaded:
    """All the wheels over that many connections, each of which keeps its projects to itself."""
    names = {name: number for number, name in enumerate(dict.fromkeys(wheel.name for wheel in wheels))}
    if len(names) < connections:  # one project: its files are dealt out
        shares = [wheels[number::connections] for number in range(connections)]
    else:
        shares = [[w for w in wheels if names[w.name] % connections == n] for n in range(connections)]
    context = get_context("fork")
    barrier = context.Barrier(connections)
    pipes, workers = [], []
    for share in shares:
        receiving, sending = context.Pipe(duplex=False)
        worker = context.Process(target=_send_share, args=(door, share, barrier, sending), daemon=True)
        worker.start()
        sending.close()
        pipes.append(receiving)
        workers.append(worker)
    answers = [_outcome(pipe) for pipe in pipes]
    for worker in workers:
        worker.join()
    failures = sorted((text for text in answers if isinstance(text, str)), key=_is_consequence)
    if failures:
        raise Unmeasured(failures[0])
    outcomes = [answer for answer in answers if not isinstance(answer, str)]
    begun = min(begin for begin, _, _ in outcomes)
    ended = max(end for _, end, _ in outcomes)
    return Uploaded(seconds=ended - begun, each=[one for _, _, each in outcomes for one in each])


def request(door: Door, wheel: Wheel) -> bytes:
    """The whole HTTP request that uploads one wheel."""
    parts = urlsplit(door.url)
    fields = {
        ":action": "file_upload",
        "protocol_version": "1",
        "metadata_version": "2.1",
        "name": wheel.name,
        "version": wheel.version,
        "filetype": "bdist_wheel",
        "pyversion": "py3",
        "requires_python": ">=3.9",
        "md5_digest": hashlib.md5(wheel.body).hexdigest(),
        "sha256_digest": hashlib.sha256(wheel.body).hexdigest(),
        "blake2_256_digest": hashlib.blake2b(wheel.body, digest_size=32).hexdigest(),
    }
    head = "".join(
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    )
    head += (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="content"; filename="{wheel.filename}"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    )
    body = head.encode() + wheel.body + f"\r\n--{BOUNDARY}--\r\n".encode()
    lines = [
        f"POST {parts.path} HTTP/1.1",
        f"Host: {parts.netloc}",
        f"Content-Type: multipart/form-data; boundary={BOUNDARY}",
        f"Content-Length: {len(body)}",
        "User-Agent: entrepot-bench",
    ]
    if door.user:
        secret = base64.b64encode(f"{door.user}:{door.password}".encode()).decode()
        lines.append(f"Authorization: Basic {secret}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def _send_share(door: Door, share: list[Wheel], barrier: Barrier, result: Connection) -> None:
    try:
        ready = [request(door, wheel) for wheel in share]
        barrier.wait(PATIENCE)
        result.send(_send(urlsplit(door.url).port or 80, ready))
    except Exception as error:  # noqa: BLE001 — whatever it is, the parent must hear of it
        barrier.abort()
        result.send(f"{type(error).__name__}: {error}")


def _send(port: int, requests: list[bytes]) -> _Outcome:
    each: list[float] = []
    begun = time.monotonic()
    peer = socket.create_connection(("127.0.0.1", port), PATIENCE)
    for one in requests:
        start = time.monotonic()
        peer.sendall(one)
        status, stays, text = answer_of(peer)
        each.append(time.monotonic() - start)
        if status != 200:
            raise Unmeasured(f"an upload was answered {status}: {text[:300]!r}")
        if not stays:
            peer.close()
            peer = socket.create_connection(("127.0.0.1", port), PATIENCE)
    peer.close()
    return begun, time.monotonic(), each


def answer_of(peer: socket.socket) -> tuple[int, bool, bytes]:
    """Status, whether the connection stays, and what was read of the body."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += _more(peer)
    head, _, body = data.partition(b"\r\n\r\n")
    first, *fields = head.decode("latin-1").lower().split("\r\n")
    named = dict(line.split(": ", 1) for line in fields if ": " in line)
    if "content-length" in named:
        while len(body) < int(named["content-length"]):
            body += _more(peer)
    elif named.get("transfer-encoding") == "chunked":
        while not body.endswith(b"0\r\n\r\n"):
            body += _more(peer)
    stays = named.get("connection") != "close" and first.startswith("http/1.1")
    return int(first.split()[1]), stays, body


def _more(peer: socket.socket) -> bytes:
    data = peer.recv(65536)
    if not data:
        raise Unmeasured("the server closed the connection in the middle of an answer")
    return data


def _outcome(pipe: Connection) -> _Outcome | str:
    """What a client process reports; a text says why it failed."""
    try:
        got = pipe.recv()
    except EOFError:
        return "a client process ended without a word"
    if isinstance(got, str):
        return got
    begun, ended, each = got
    return float(begun), float(ended), list(each)


def _is_consequence(failure: str) -> bool:
    return failure.startswith("BrokenBarrierError")
