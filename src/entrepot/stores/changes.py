"""What changed in a disk store, told to every process of the machine through shared memory.

A warm page asks for the stat of its record, thousands of times a second. Instead of the file system it asks
here: 4,096 marks stand for all keys, and every write of a key changes its mark before it is acknowledged. The
marks lie in `locks/changes`, which readers map into their memory and writers write to. Writers do not map it: a full
disk would kill them where a `write` raises an error.
"""

import mmap
import os
import sys
import time
import weakref

from entrepot.errors import NotFound
from entrepot.index import Entry
from entrepot.stores import keys, uniqueness
from entrepot.stores.ownership import adopt, file_mode

_SLOTS = 4096  # `keys.place`: keys of different stripes never share a mark, so the stripe's lock guards it
_ANY = _SLOTS  # the mark that changes with every write of any key
_SIZE = 8 * (_SLOTS + 1)
# Seconds for which a mark is believed. Who changes a store without us (a restore, another machine on a network file
# system) changes no mark, and is noticed after this long.
_BELIEVED = 0.5
_MOST = 50_000  # keys remembered
_MOST_TOLD = 16  # stores whose marks are kept open


class Changes:
    """The marks of one store, and the stats that hold while they do. For one process."""

    def __init__(self, root: str) -> None:
        _told.pop(root, None)
        fd = _open(root, os.stat(root))
        try:
            if os.fstat(fd).st_size < _SIZE:
                os.ftruncate(fd, _SIZE)
            self._marks = memoryview(mmap.mmap(fd, _SIZE, prot=mmap.PROT_READ)).cast("Q")
        finally:
            os.close(fd)
        self._seen: dict[str, tuple[int, int, float, Entry | None]] = {}

    def recall(self, key: str) -> Entry | None:
        """The stat of the key if it still holds, None if it has to be asked for. Raises `NotFound` if that holds."""
        seen = self._seen.get(key)
        if seen is None:
            return None
        slot, mark, until, entry = seen
        if self._marks[slot] != mark or time.monotonic() >= until:
            return None
        if entry is None:
            raise NotFound("no such object", at=key)
        return entry

    def watch(self, key: str) -> tuple[int, int]:
        """To be called before the file system is asked, so that a change in between is not missed."""
        slot = keys.place(key)
        return slot, self._marks[slot]

    def pulse(self) -> int:
        """Changes with every write to the store. Costs a look into memory."""
        return self._marks[_ANY]

    def remember(self, key: str, watched: tuple[int, int], entry: Entry | None) -> None:
        if len(self._seen) >= _MOST:
            self._seen.clear()
        self._seen[key] = (*watched, time.monotonic() + _BELIEVED, entry)


def tell(root: str, key: str, holder: os.stat_result) -> None:
    """Change the mark of the key. Under the lock of its stripe, after the change, before anybody is told of it."""
    told = _told.get(root)
    if told is None or time.monotonic() >= told.until:
        told = _tell_anew(root, holder)
    # Not the old mark plus one: nobody can come back to an old mark, whoever made the file anew.
    mark = uniqueness.number().to_bytes(8, sys.byteorder)
    os.pwrite(told.fd, mark, 8 * keys.place(key))
    # Second: who sees this one unchanged has not missed the first.
    os.pwrite(told.fd, mark, 8 * _ANY)


class _Told:
    """The marks of a store, open for writing; closed when no thread uses them any more.

    Opened again by their name as often as readers ask the file system again: if somebody made the file anew, those
    who map the new one miss nothing for longer than that.
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.until = time.monotonic() + _BELIEVED
        weakref.finalize(self, os.close, fd)


_told: dict[str, _Told] = {}
os.register_at_fork(after_in_child=_told.clear)


def _tell_anew(root: str, holder: os.stat_result) -> _Told:
    if len(_told) >= _MOST_TOLD:
        _told.clear()
    told = _told[root] = _Told(_open(root, holder))
    return told


def _open(root: str, holder: os.stat_result) -> int:
    fd = os.open(f"{root}/locks/changes", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, file_mode(holder))
    try:
        adopt(fd, holder)
    except BaseException:
        os.close(fd)
        raise
    return fd
