"""The worker processes: forked, replaced when they die, ended together."""

import ctypes
import logging
import mmap
import multiprocessing
import multiprocessing.connection
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.context import ForkContext, ForkProcess

from entrepot import units
from entrepot.cli import worker
from entrepot.config import Config
from entrepot.errors import EntrepotError

log = logging.getLogger("entrepot")

_FRUITLESS = 10  # deaths in a row of workers that did not get as far as serving
_LONGEST_PAUSE = 2.0  # seconds before the next try
_PR_SET_PDEATHSIG = 1  # prctl(2)


def supervise(config: Config, listeners: list[socket.socket]) -> int:
    """Serve with a worker for each listener until SIGTERM; returns the exit code.

    A worker that died is replaced, and its clients wait meanwhile: the parent has its listener too. After a second
    SIGTERM, or when the grace is over, those that are still at work are killed.
    """
    _log_to_stderr(debug=config.server.debug)
    crew = Crew(config, listeners)
    with _told() as wake:
        while True:
            crew.fill()
            if crew.fruitless >= _FRUITLESS:
                log.error("no worker came to serve in %d attempts; giving up", _FRUITLESS)
                crew.stop(wake)
                return 1
            if _was_told(crew.wait(wake), wake):
                crew.stop(wake)
                return 0
            crew.bury()


@dataclass
class Place:
    """One listener and the process that serves it."""

    number: int
    listener: socket.socket
    process: ForkProcess | None = None


class Crew:
    """The workers. `fruitless`: how many of them died in a row before they could serve."""

    def __init__(self, config: Config, listeners: list[socket.socket]) -> None:
        self._config = config
        self._places = [Place(number, listener) for number, listener in enumerate(listeners)]
        self._came_up = mmap.mmap(-1, len(listeners))  # shared with the workers
        self._context: ForkContext = multiprocessing.get_context("fork")
        self.fruitless = 0
        self._next_try = 0.0  # by time.monotonic

    def fill(self) -> None:
        """Start a worker wherever one is missing, unless it is too early for another try."""
        for place in self._places:
            if place.process is None and time.monotonic() >= self._next_try:
                place.process = self._started(place)

    def _started(self, place: Place) -> ForkProcess | None:
        self._came_up[place.number] = 0
        process = self._context.Process(target=self._work, args=(place, os.getpid()))
        # A signal that comes before the worker has its handlers must not be lost.
        signal.pthread_sigmask(signal.SIG_BLOCK, worker.ENDINGS)
        try:
            process.start()
        except OSError as error:  # no memory, or too many processes: those that serve go on
            log.error("a worker could not be started: %s", error.strerror)  # noqa: TRY400 - the line says all
            self._next_try = time.monotonic() + _LONGEST_PAUSE
            return None
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, worker.ENDINGS)
        return process

    def _in_vain(self) -> None:
        """A worker never served: the next may try a little later, each time."""
        self.fruitless += 1
        self._next_try = time.monotonic() + min(_LONGEST_PAUSE, 0.05 * 2**self.fruitless)

    def _work(self, place: Place, parent: int) -> None:
        """In the child."""
        _end_with(parent)
        for ending in worker.ENDINGS:
            signal.signal(ending, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)
        for other in self._places:
            if other is not place:
                other.listener.close()

        def came_up() -> None:
            self._came_up[place.number] = 1

        try:
            worker.work(self._config, place.listener, started=came_up)
        except EntrepotError as error:
            log.error("a worker could not serve: %s", error)  # noqa: TRY400 - expected, so without a trace
            sys.exit(1)

    def wait(self, wake: socket.socket) -> list[object]:
        """Until a worker dies, a signal comes, or another may be started."""
        missing = any(place.process is None for place in self._places)
        left = max(0.0, self._next_try - time.monotonic()) if missing else None
        return list(multiprocessing.connection.wait([wake, *self._sentinels()], left))

    def _sentinels(self) -> list[int]:
        return [place.process.sentinel for place in self._places if place.process is not None]

    def bury(self) -> None:
        """Make room where a worker died."""
        for place in self._places:
            process = place.process
            if process is None or process.is_alive():
                continue
            process.join()
            log.warning("worker %d ended with %d and is replaced", process.pid or 0, process.exitcode or 0)
            place.process = None
            if self._came_up[place.number]:
                self.fruitless = 0
            else:
                self._in_vain()

    def stop(self, wake: socket.socket) -> None:
        """Nobody is accepted any more; what is running may end within the grace."""
        end = time.monotonic() + units.seconds(self._config.server.grace)
        for place in self._places:
            place.listener.close()
        self._signal(signal.SIGTERM)
        while (sentinels := self._sentinels()) and (left := end - time.monotonic()) > 0:
            ready = multiprocessing.connection.wait([wake, *sentinels], left)
            if _was_told(list(ready), wake):
                break
            self._forget_ended()
        self._signal(signal.SIGKILL)
        for place in self._places:
            if place.process is not None:
                place.process.join()

    def _forget_ended(self) -> None:
        for place in self._places:
            if place.process is not None and not place.process.is_alive():
                place.process = None

    def _signal(self, number: signal.Signals) -> None:
        for place in self._places:
            if place.process is not None and place.process.pid is not None and place.process.is_alive():
                os.kill(place.process.pid, number)


@contextmanager
def _told() -> Iterator[socket.socket]:
    """A socket that becomes readable with SIGTERM and SIGINT."""
    read, write = socket.socketpair()
    read.setblocking(False)
    write.setblocking(False)
    before = signal.set_wakeup_fd(write.fileno(), warn_on_full_buffer=False)
    handlers = {ending: signal.signal(ending, lambda *_: None) for ending in worker.ENDINGS}
    try:
        yield read
    finally:
        for ending, handler in handlers.items():
            signal.signal(ending, handler)
        signal.set_wakeup_fd(before)
        read.close()
        write.close()


def _was_told(ready: list[object], wake: socket.socket) -> bool:
    return wake in ready and any(number in worker.ENDINGS for number in wake.recv(64))


def _end_with(parent: int) -> None:
    """Workers whose parent was killed end too: else they would hold the port, and nobody would stop them."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it died before the line above
            os.kill(os.getpid(), signal.SIGKILL)


def _log_to_stderr(*, debug: bool) -> None:
    """Everything but the access log."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    for name, level in (("entrepot", logging.DEBUG if debug else logging.INFO), ("asyncio", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(level)
