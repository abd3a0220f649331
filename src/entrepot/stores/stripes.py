"""The locks of a disk store, and the time stamps that they guard.

256 lock files stand for all keys. `flock` and not `lockf`: the latter does not exclude the other threads
of a process, and drops the lock when any of its descriptors of the file is closed.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

from entrepot.stores import keys
from entrepot.stores.ownership import adopt, file_mode

_STEP = 1_000  # ns


class Lock(NamedTuple):
    """A stripe's open, locked file, and the time stamp that it remembers."""

    fd: int
    mtime_ns: int


@contextmanager
def locked(root: str, key: str, holder: os.stat_result) -> Iterator[Lock]:
    """Holds the lock of the key's stripe. `holder` is the stat of `root`."""
    fd = _open(f"{root}/locks/{keys.place(key) >> 4:02x}", holder)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        # Under the lock, since whoever had it may have left a time there.
        yield Lock(fd, adopt(fd, holder).st_mtime_ns)
    finally:
        os.close(fd)  # and so unlocks it


def _open(name: str, holder: os.stat_result) -> int:
    with suppress(FileNotFoundError):
        return os.open(name, os.O_RDWR | os.O_CLOEXEC)
    fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, file_mode(holder))
    try:
        adopt(fd, holder)  # at once: others may not be able to open it before
    except BaseException:
        os.close(fd)
        raise
    return fd


def renew(fd: int, previous: int) -> os.stat_result:
    """Give the open file a modification time after `previous`, the latest that its key ever had; returns its stat.

    An etag is (mtime, size, inode). Inodes are used again at once, sizes are often equal, and clocks and
    file systems count in steps of up to 2 s: so the time goes up with every write of the key, read back
    until the file system has kept a greater one. The lock file remembers the times of deleted objects.
    """
    step = _STEP
    now = time.time_ns()
    os.utime(fd, ns=(now, max(now, previous + step)))
    while (found := os.fstat(fd)).st_mtime_ns <= previous:
        step *= 2
        os.utime(fd, ns=(now, previous + step))
    return found


def remember(lock: Lock, existing: os.stat_result) -> None:
    """Keep the time of an object that is about to be deleted, for when its key is written again."""
    if lock.mtime_ns < existing.st_mtime_ns:
        os.utime(lock.fd, ns=(existing.st_atime_ns, existing.st_mtime_ns))
