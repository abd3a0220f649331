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

import msgspec

_INTERVAL = 0.2
_MOST = 50_000  # lines that may wait
_PIECE = 4096  # bytes that a pipe takes in one go, so that the lines of several workers do not mix


# One request: time (s since 1970), client, method, path, status, size in bytes, duration in seconds, the public
# id of the caller's token, user agent. A bare tuple, since every request makes one.
Line = tuple[float, str, str, str, int, int, float, str, str | None]


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
    moment, client, method, path, status, size, duration, token, agent = line
    fields = {
        "time": _stamp(moment),
        "client": client,
        "method": method,
        "path": path,
        "status": status,
        "bytes": size,
        "ms": round(duration * 1000, 2),
        "token": token,
        "agent": agent or "",
    }
    return msgspec.json.encode(fields) + b"\n"


def as_text(line: Line) -> bytes:
    moment, client, method, path, status, size, duration, token, _ = line
    # repr escapes what could move the cursor or colour the screen of whoever reads it.
    shown = path if path.isprintable() else repr(path)
    clock = time.strftime("%H:%M:%S", time.localtime(moment))
    whose = f" token={token}" if token else ""
    return f"{clock} {client} {method} {shown} {status} {size}B {duration * 1000:.1f}ms{whose}\n".encode(
        "utf-8", "replace"
    )


def _stamp(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def to_stdout(kind: str) -> AccessLog | None:
    """The log that `[server] log` asks for; None for "off"."""
    if kind == "off":
        return None
    text = kind == "text" or (kind == "auto" and os.isatty(1))
    return AccessLog(1, as_text if text else as_json)
