"""One line for each request: text on a terminal, JSON otherwise.

A line costs the request path one append. A thread of its own writes them out five times a second, so that a
reader of our output who is slow, or gone, never makes a client wait; then lines are dropped and counted.
"""

import contextlib
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec

_INTERVAL = 0.2
_MOST = 50_000  # lines that may wait
_PIECE = 4096  # bytes that a pipe takes in one go, so that the lines of several workers do not mix


class Line(NamedTuple):
    """One request: times in seconds, size in bytes, `token` the public id of the caller's token."""

    time: float
    client: str
    method: str
    path: str
    status: int
    size: int
    duration: float
    token: str
    agent: str


class AccessLog:
    """Collects lines and writes them to a file descriptor. `add` may be called from any thread."""

    def __init__(self, fd: int, render: Callable[[Line], bytes]) -> None:
        self._fd = fd
        self._render = render
        self._lines: deque[Line] = deque()
        self._dropped = 0
        self._stop = threading.Event()
        # A daemon: a reader that never reads again must not keep the server from stopping.
        self._thread = threading.Thread(target=self._run, name="access-log", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Write what is left, for at most a second."""
        self._stop.set()
        self._thread.join(timeout=1)

    def add(self, line: Line) -> None:
        if len(self._lines) < _MOST:
            self._lines.append(line)
        else:
            self._dropped += 1

    def _run(self) -> None:
        # A closed output ends the log, not the server.
        with contextlib.suppress(OSError):
            while not self._stop.wait(_INTERVAL):
                self._write_out()
            self._write_out()

    def _write_out(self) -> None:
        dropped, self._dropped = self._dropped, 0
        piece = b""
        for _ in range(len(self._lines)):
            rendered = self._render(self._lines.popleft())
            if len(piece) + len(rendered) > _PIECE:
                os.write(self._fd, piece)
                piece = b""
            piece += rendered
        if dropped:
            piece += b'{"dropped-lines":%d}\n' % dropped
        if piece:
            os.write(self._fd, piece)


def as_json(line: Line) -> bytes:
    return (
        msgspec.json.encode(
            {
                "time": _stamp(line.time),
                "client": line.client,
                "method": line.method,
                "path": line.path,
                "status": line.status,
                "bytes": line.size,
                "ms": round(line.duration * 1000, 2),
                "token": line.token,
                "agent": line.agent,
            }
        )
        + b"\n"
    )


def as_text(line: Line) -> bytes:
    # repr escapes what could move the cursor or colour the screen of whoever reads it.
    path = line.path if line.path.isprintable() else repr(line.path)
    clock = time.strftime("%H:%M:%S", time.localtime(line.time))
    token = f" token={line.token}" if line.token else ""
    text = (
        f"{clock} {line.client} {line.method} {path} {line.status} {line.size}B {line.duration * 1000:.1f}ms{token}\n"
    )
    return text.encode("utf-8", "replace")


def _stamp(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def to_stdout(kind: str) -> AccessLog | None:
    """The log that `[server] log` asks for; None for "off"."""
    if kind == "off":
        return None
    text = kind == "text" or (kind == "auto" and os.isatty(1))
    return AccessLog(1, as_text if text else as_json)
