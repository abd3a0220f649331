"""One line for each request: text on a terminal, JSON otherwise.

A line costs the request path one append. A thread of its own writes them out five times a second, so that a
reader of our output who is slow, or gone, never makes a client wait; then lines are dropped and counted.
"""

import contextlib
import json
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import lru_cache

_INTERVAL = 0.2
_MOST = 50_000  # lines that may wait
_PIECE = 4096  # bytes that a pipe takes in one go, so that the lines of several workers do not mix
# Characters of a path and of a user agent that are kept: a line with both fits into a piece whatever they hold, and
# lines that wait take little memory. Our own longest paths have some 350, pip's user agent 400.
_PATH, _AGENT = 480, 500


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
        if len(line[3]) > _PATH or len(line[8] or "") > _AGENT:
            line = _cut(line)
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


def _cut(line: Line) -> Line:
    moment, client, method, path, status, size, duration, token, agent = line
    return moment, client, method, _begun(path, _PATH), status, size, duration, token, _begun(agent or "", _AGENT)


def _begun(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]}…"


def as_json(line: Line) -> bytes:
    """Written out by hand: 40,000 requests a second leave a microsecond for each line."""
    moment, client, method, path, status, size, duration, token, agent = line
    second = int(moment)
    return (
        b'{"time":"%b.%03dZ","client":%b,"method":%b,"path":%b,"status":%d,"bytes":%d,"ms":%.2f,"token":%b,"agent":%b}\n'
    ) % (
        _second(second),
        int((moment - second) * 1000),
        _quoted(client),
        _quoted(method),
        _quoted(path),
        status,
        size,
        duration * 1000,
        _quoted(token),
        _quoted(agent or ""),
    )


@lru_cache(maxsize=4096)
def _quoted(text: str) -> bytes:
    """In ASCII: some readers take U+0085 or U+2028 for the end of a line, and terminals U+009B for a command."""
    return json.dumps(text).encode()


@lru_cache(maxsize=4)
def _second(moment: int) -> bytes:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(moment)).encode()


def as_text(line: Line) -> bytes:
    moment, client, method, path, status, size, duration, token, _ = line
    # repr escapes what could move the cursor or colour the screen of whoever reads it; its quotes keep a path with
    # spaces from passing for more fields.
    shown = path if path.isprintable() and " " not in path else repr(path)
    clock = time.strftime("%H:%M:%S", time.localtime(moment))
    whose = f" token={token}" if token else ""
    return f"{clock} {client} {method} {shown} {status} {size}B {duration * 1000:.1f}ms{whose}\n".encode(
        "utf-8", "replace"
    )


def to_stdout(kind: str) -> AccessLog | None:
    """The log that `[server] log` asks for; None for "off"."""
    if kind == "off":
        return None
    text = kind == "text" or (kind == "auto" and os.isatty(1))
    return AccessLog(1, as_text if text else as_json)
