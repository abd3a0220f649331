"""Reading what the kernel has in memory already, without a thread: such a read waits for no disk."""

import errno
import os

SMALL = 128 << 10  # bytes of which a copy is cheaper than another two system calls
_UNSUPPORTED = frozenset({errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS})

# Filled and emptied without a pause in between, so one is enough for all who read in the event loop's thread.
view = memoryview(bytearray(512 << 10))


def fetched(fd: int, at: int, size: int) -> int:
    """How many bytes of the file are in `view` now; 0 if reading them waits for the disk. Raises `OSError`."""
    try:
        return os.preadv(fd, [view[:size]], at, os.RWF_NOWAIT)
    except BlockingIOError:
        return 0
    except OSError as error:
        if error.errno in _UNSUPPORTED:
            return 0
        raise


def at_hand(fd: int, start: int, stop: int) -> bytes | None:
    """A copy of the bytes if they are few and in memory."""
    if stop - start > SMALL:
        return None
    try:
        read = fetched(fd, start, stop - start)
    except OSError:
        return None  # whoever waits for them will hear of it
    return bytes(view[:read]) if read == stop - start else None
