"""The body of a request while it comes."""

import asyncio
from collections import deque
from collections.abc import Callable


class Body:
    """Bytes between the connection that reads them and whoever takes them. At most `_MUCH` wait, and one read more.

    `pause` and `resume` are told when the connection should stop reading, and when it may go on.
    """

    _MUCH, _LITTLE = 256 << 10, 64 << 10  # bytes

    def __init__(self, pause: Callable[[], None], resume: Callable[[], None]) -> None:
        self._pause = pause
        self._resume = resume
        self._pieces: deque[bytes] = deque()
        self._size = 0
        self._paused = False
        self._waiting: asyncio.Future[None] | None = None
        self.ended = False  # all of it has come
        self.cut = False  # no more will come, though it has not ended

    @property
    def empty(self) -> bool:
        return not self._pieces

    def add(self, piece: bytes) -> None:
        self._pieces.append(piece)
        self._size += len(piece)
        if self._size > self._MUCH and not self._paused:
            self._paused = True
            self._pause()
        self._wake()

    def end(self) -> None:
        self.ended = True
        self._wake()

    def break_off(self) -> None:
        """The connection is lost."""
        self.cut = not self.ended
        self._wake()

    async def take(self) -> bytes | None:
        """The next piece; waits for it. Empty: it has ended. None: it was cut. For one taker at a time."""
        while not self._pieces and not self.ended and not self.cut:
            assert self._waiting is None, "two take the same body"
            self._waiting = asyncio.get_running_loop().create_future()
            try:
                await self._waiting
            finally:
                self._waiting = None
        if not self._pieces:
            return b"" if self.ended else None
        taken = self._pieces.popleft()
        self._size -= len(taken)
        self._go_on()
        return taken

    def forget(self) -> None:
        """Nobody takes any more."""
        self._pieces.clear()
        self._size = 0
        self._go_on()

    def _go_on(self) -> None:
        if self._paused and self._size < self._LITTLE:
            self._paused = False
            self._resume()

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)


def _ended() -> Body:
    body = Body(lambda: None, lambda: None)
    body.end()
    return body


NOTHING = _ended()  # of all requests that bring no body
