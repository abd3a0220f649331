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
_LOOK = 0.1

Job = Callable[[], Coroutine[Any, Any, None]]


class Behind:
    """Jobs in their order. `stir` says that somebody is waiting for something."""

    def __init__(self) -> None:
        self._jobs: deque[tuple[float, Job]] = deque()
        self._more = asyncio.Event()
        self._stirred = 0.0

    def stir(self) -> None:
        self._stirred = time.monotonic()

    def add(self, job: Job) -> None:
        self._jobs.append((time.monotonic(), job))
        self._more.set()

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            await self._more.wait()
            since, job = self._jobs[0]
            now = time.monotonic()
            if now - self._stirred < _QUIET and now - since < _LONGEST:
                await asyncio.sleep(_LOOK)
                continue
            self._jobs.popleft()
            if not self._jobs:
                self._more.clear()
            await self._do(job)

    async def finish(self, within: float) -> None:
        """Do what is left, for at most so many seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within):
                while self._jobs:
                    await self._do(self._jobs.popleft()[1])

    async def _do(self, job: Job) -> None:
        try:
            await job()
        except EntrepotError as error:
            log.warning("what was to be kept was not: %s", error)
