"""Many things at once, but not too many."""

import asyncio
from collections.abc import AsyncIterable, Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


async def each(items: AsyncIterable[T], work: Callable[[T], Awaitable[None]], places: asyncio.Semaphore) -> None:
    """Do the work for each item, as many at once as there are places. The first error ends it all and is raised.

    Items are taken only when there is a place for them: memory does not grow with their number.
    """

    async def one(item: T) -> None:
        try:
            await work(item)
        finally:
            places.release()

    try:
        async with asyncio.TaskGroup() as group:
            async for item in items:
                await places.acquire()
                group.create_task(one(item))
    except ExceptionGroup as errors:
        first: Exception = errors
        while isinstance(first, ExceptionGroup):  # of an `each` within this one
            first = first.exceptions[0]
        raise first from None
