"""Blocking work in threads."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


async def finished(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Runs the call in a thread; a cancellation waits until the thread is done.

    A thread cannot be interrupted. Were it left behind, its descriptors would be closed under its
    hands, and a write could appear after its caller was told that there is none.
    """
    work = asyncio.get_running_loop().run_in_executor(None, partial(call, *args, **kwargs))
    cancelled: asyncio.CancelledError | None = None
    while not work.done():
        try:
            await asyncio.wait((work,))
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is None:
        return work.result()
    work.exception()  # looked at, so that asyncio does not report it as lost
    raise cancelled
