"""How often this disk makes a new small file durable: what every upload must pay several times."""

import os
import tempfile
import threading
import time
from pathlib import Path

SIZE = 1_700


def fsync_rate(folder: Path, threads: int, seconds: float) -> float:
    """Small files created, written and fsynced per second by `threads` at once."""
    counts = [0] * threads
    failures: list[OSError] = []

    def loop(number: int, scratch: str) -> None:
        end = time.monotonic() + seconds
        try:
            while time.monotonic() < end:
                _durable(f"{scratch}/{number}-{counts[number]}")
                counts[number] += 1
        except OSError as error:
            failures.append(error)

    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        begun = time.monotonic()
        workers = [threading.Thread(target=loop, args=(number, scratch)) for number in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        taken = time.monotonic() - begun
    if failures:
        raise failures[0]
    return sum(counts) / taken


def _durable(path: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    try:
        os.write(descriptor, bytes(SIZE))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
