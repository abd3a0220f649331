"""The locks of a disk store, and the time stamps that they guard.

256 lock files stand for all keys. `flock` and not `lockf`: the latter does not exclude the other threads
of a process, and drops the lock when any of its descriptors of the file is closed.
"""

import fcntl
import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from entrepot.stores.ownership import adopt, file_mode

_STEP = 1_000  # ns


@contextmanager
def locked(root: str, key: str, holder: os.stat_result) -> Iterator[int]:
    """Holds the lock of the key's stripe; gives its descriptor. `holder` is the stat of `root`."""
    name = f"{root}/locks/{hashlib.sha256(key.encode()).hexdigest()[:2]}"
    fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, file_mode(holder))
    try:
        adopt(fd, holder)
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield fd
    finally:
        os.close(fd)  # and so unlocks it


def renew(fd: int, lock: int, existing: os.stat_result | None) -> os.stat_result:
    """Give the open file a modification time that its key never had; returns its stat.

    An etag is (mtime, size, inode). Inodes are used again at once, sizes are often equal, and clocks and
    file systems count in steps of up to 2 s: so the time goes up with every write of the key, read back
    until the file system has kept a greater one. The lock file remembers the times of deleted objects.
    """
    times = [os.fstat(lock).st_mtime_ns, os.fstat(fd).st_mtime_ns]
    if existing is not None:
        times.append(existing.st_mtime_ns)
    previous = max(times)
    step = _STEP
    now = time.time_ns()
    os.utime(fd, ns=(now, max(now, previous + step)))
    while (found := os.fstat(fd)).st_mtime_ns <= previous:
        step *= 2
        os.utime(fd, ns=(now, previous + step))
    return found


def remember(lock: int, existing: os.stat_result) -> None:
    """Keep the time of an object that is about to be deleted, for when its key is written again."""
    if os.fstat(lock).st_mtime_ns < existing.st_mtime_ns:
        os.utime(lock, ns=(existing.st_atime_ns, existing.st_mtime_ns))
