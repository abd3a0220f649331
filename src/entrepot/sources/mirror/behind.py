"""Work that nobody waits for: one job at a time, while nobody is waiting for anything else."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

from entrepot.errors import EntrepotError

log = logging.getLogger(__name__)

_QUIET = 0.5  # seconds without a request
_LONGEST = 20.0  # seconds after which a job is done all the same
_LOOK = 0.1  # seconds
_HEAVY = 16 << 20  # bytes that may wait

Job = Callable[[], Coroutine[Any, Any, None]]


class Behind:
    """Jobs in their order. `stir` says that somebody is waiting for something."""

    def __init__(self) -> None:
        self._jobs: deque[tuple[float, int, Job]] = deque()
        self._weight = 0
        self._more = asyncio.Event()
        self._stirred = 0.0

    def stir(self) -> None:
        self._stirred = time.monotonic()

    def add(self, job: Job, *, weight: int = 0) -> None:
        """`weight` is how many bytes the job holds in memory: when they are many, it is done at once."""
        self._jobs.append((time.monotonic(), weight, job))
        self._weight += weight
        self._more.set()

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            await self._more.wait()
            since, weight, job = self._jobs[0]
            now = time.monotonic()
            if now - self._stirred < _QUIET and now - since < _LONGEST and self._weight < _HEAVY:
                await asyncio.sleep(_LOOK)
                continue
            self._jobs.popleft()
            self._weight -= weight
            if not self._jobs:
                self._more.clear()
            await self._do(job)

    async def finish(self, within: float) -> None:
        """Do what is left, for at most so many seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within):
                while self._jobs:
                    await self._do(self._jobs.popleft()[2])

    async def _do(self, job: Job) -> None:
        try:
            await job()
        except EntrepotError as error:
            log.warning("what was to be kept was not: %s", error)
