"""What goes wrong upstream: per path, from one moment to another, or for so many requests."""

import asyncio
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from tests.e2e.processes import until


class Gate:
    """Where answers wait until a test lets them go on."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._opened = asyncio.Event()
        self._waiting = 0
        self._lock = threading.Lock()

    def reached(self, count: int = 1, *, within: float = 10) -> None:
        """Return when so many answers wait here, or have passed."""
        until(lambda: self._waiting >= count, within=within, what=f"{count} answers at the gate")

    @property
    def waiting(self) -> int:
        """How many answers ever came here."""
        return self._waiting

    def open(self) -> None:
        """For good."""
        self._loop.call_soon_threadsafe(self._opened.set)

    async def passed(self) -> None:
        with self._lock:
            self._waiting += 1
        await self._opened.wait()


@dataclass(kw_only=True)
class Fault:
    """What becomes of the requests that match. Ends with `end()` or with its `with` block."""

    match: str
    status: int = 0  # instead of the answer
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    delay: float = 0  # seconds before the head
    rate: int = 0  # bytes per second
    cut: int | None = None  # the connection breaks after so many bytes of body
    drop: bool = False  # it breaks before the head
    change: Callable[[bytes], bytes] | None = None  # of the whole body
    redirect: str = ""  # where to: a path, or a URL
    chunked: bool = False  # no Content-Length
    before: Gate | None = None  # it waits here before the head,
    within: Gate | None = None  # or here after
    after: int = 0  # so many bytes of body
    method: str = ""
    ranged: bool | None = None  # of requests with a Range alone, or without one
    times: int | None = None  # of so many requests
    active: bool = True

    def end(self) -> None:
        self.active = False
        for gate in (self.before, self.within):
            if gate is not None:
                gate.open()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()


def other_bytes(data: bytes) -> bytes:
    """As many, and not one as it was."""
    return bytes(byte ^ 0x5A for byte in data)
