"""Blocking work in threads, for a third of what `asyncio.to_thread` costs.

An upload goes to a thread and back some six times, each time for a few system calls. `ThreadPoolExecutor`
spends more on its own locks and on copying one kind of future into another than on that work.
"""

import _thread
import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, Generic, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

# Most of them wait for a disk: a node reads and checks 16 uploads at once, and serves beside.
_MOST = 40


async def finished(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Runs the call in a thread; a cancellation waits until the thread is done.

    A thread cannot be interrupted. Were it left behind, its descriptors would be closed under its
    hands, and a write could appear after its caller was told that there is none.
    """
    work = _Work(lambda: call(*args, **kwargs))
    _pool.start(work)
    try:
        return await work.outcome
    except asyncio.CancelledError:
        await work.end()
        raise


class _Work(Generic[T]):
    """A call, and the future of its outcome. The event loop's thread alone looks at anything but the call."""

    def __init__(self, call: Callable[[], T]) -> None:
        self.call = call
        self.loop = asyncio.get_running_loop()
        # A task that is cancelled cancels what it waits for: this one may be done before the call is.
        self.outcome: asyncio.Future[T] = self.loop.create_future()
        self._over = False
        self._end: asyncio.Future[None] | None = None

    async def end(self) -> None:
        """Returns when the call is over, whoever cancels meanwhile."""
        while not self._over:
            self._end = self.loop.create_future()
            with suppress(asyncio.CancelledError):
                await self._end

    def succeed(self, result: T) -> None:
        if not self.outcome.done():
            self.outcome.set_result(result)
        self._finish()

    def fail(self, error: BaseException) -> None:
        if not self.outcome.done():
            self.outcome.set_exception(error)
        self._finish()

    def _finish(self) -> None:
        self._over = True
        if self._end is not None and not self._end.done():
            self._end.set_result(None)


class _Pool:
    """Threads that take work from one queue. Used by one event loop at a time; at the end nobody waits for them."""

    def __init__(self) -> None:
        self._queue: SimpleQueue[_Work[Any]] = SimpleQueue()
        self._threads = 0
        self._busy = 0  # changed by the event loop's thread only, so it needs no lock

    def start(self, work: _Work[Any]) -> None:
        self._busy += 1
        if self._busy > self._threads and self._threads < _MOST:
            self._threads += 1
            # `threading.Thread` would wait here until the new thread has had its first turn.
            _thread.start_new_thread(self._run, ())
        self._queue.put(work)

    def _run(self) -> None:
        while True:
            work = self._queue.get()
            try:
                result = work.call()
            except BaseException as error:  # noqa: BLE001 - raised again where it is awaited
                self._hand_over(work, work.fail, error)
            else:
                self._hand_over(work, work.succeed, result)
                del result
            del work  # nothing is kept alive while the next work is waited for

    def _hand_over(self, work: _Work[Any], report: Callable[[Any], None], outcome: object) -> None:
        with suppress(RuntimeError):  # the loop was closed: nobody waits any more
            work.loop.call_soon_threadsafe(self._report, report, outcome)

    def _report(self, report: Callable[[Any], None], outcome: object) -> None:
        self._busy -= 1
        report(outcome)


_pool = _Pool()


def _forget() -> None:
    """Threads do not survive a fork, and the workers are forked."""
    global _pool  # noqa: PLW0603 - one for each process, as the standard library's default executor
    _pool = _Pool()


os.register_at_fork(after_in_child=_forget)
