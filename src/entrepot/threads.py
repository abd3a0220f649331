"""Blocking work in threads, for a third of what `asyncio.to_thread` costs.

An upload goes to a thread and back some six times, each time for a few system calls. `ThreadPoolExecutor`
spends more on its own locks and on copying one kind of future into another than on that work.
"""

import asyncio
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

# Most of them wait for a disk: a node reads and checks 16 uploads at once, and serves beside.
_MOST = 40


async def finished(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Runs the call in a thread; a cancellation waits until the thread is done.

    A thread cannot be interrupted. Were it left behind, its descriptors would be closed under its
    hands, and a write could appear after its caller was told that there is none.
    """
    work: asyncio.Future[T] = _pool.start(call, args, kwargs)
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        while not work.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait((work,))
        work.exception()  # looked at, so that asyncio does not report it as lost
        raise


class _Pool:
    """Daemon threads that take work from one queue. Used by one event loop at a time."""

    def __init__(self) -> None:
        self._queue: SimpleQueue[tuple[asyncio.Future[Any], Callable[[], Any]]] = SimpleQueue()
        self._threads = 0
        self._busy = 0  # changed by the event loop's thread only, so it needs no lock

    def start(self, call: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any]) -> asyncio.Future[T]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._busy += 1
        if self._busy > self._threads and self._threads < _MOST:
            self._threads += 1
            threading.Thread(target=self._run, name=f"blocking-{self._threads}", daemon=True).start()
        self._queue.put((future, lambda: call(*args, **kwargs)))
        return future

    def _run(self) -> None:
        while True:
            future, work = self._queue.get()
            loop = future.get_loop()
            try:
                result = work()
            except BaseException as error:  # noqa: BLE001 - raised again where it is awaited
                self._hand_over(loop, self._fail, future, error)
            else:
                self._hand_over(loop, self._succeed, future, result)
                del result
            del future, work  # nothing is kept alive while the next work is waited for

    @staticmethod
    def _hand_over(loop: asyncio.AbstractEventLoop, *callback: Any) -> None:
        with suppress(RuntimeError):  # the loop was closed: nobody waits any more
            loop.call_soon_threadsafe(*callback)

    def _succeed(self, future: asyncio.Future[Any], result: object) -> None:
        self._busy -= 1
        if not future.done():
            future.set_result(result)

    def _fail(self, future: asyncio.Future[Any], error: BaseException) -> None:
        self._busy -= 1
        if not future.done():
            future.set_exception(error)


_pool = _Pool()


def _forget() -> None:
    """Threads do not survive a fork, and the workers are forked."""
    global _pool  # noqa: PLW0603 - one for each process, as the standard library's default executor
    _pool = _Pool()


os.register_at_fork(after_in_child=_forget)
