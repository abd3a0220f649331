"""Files that are still being written.

They lie in a store's `staging` folder, in the file system of the store, so that they can be linked into
place. Whoever writes one holds a lock on it, which ends with the process: what is not locked is left over.
"""

import errno
import fcntl
import os
from contextlib import suppress
from pathlib import Path
from typing import Self

from entrepot.stores import failures, uniqueness
from entrepot.stores.ownership import adopt, file_mode

# Another file system, a file of another user, too many names, a file system without links.
_NO_LINK = frozenset({errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP})
_LEFT_OVER_AFTER = 3600.0  # seconds; long enough for a file to be created and then locked


class StagingFile:
    """An open, locked file with a name in `folder`. As a context manager it is removed at the end.

    Blocking, to be used in a thread. Raises `Unavailable`, with status 507 if the disk is full.
    """

    def __init__(self, folder: str, name: str, fd: int, *, linked: bool = False) -> None:
        self._folder = folder
        self.name: str | None = name
        self.fd = fd
        self.linked = linked  # to a file that was there before, and may be an object

    @property
    def path(self) -> Path:
        """Where it is, until it is closed or moved into place."""
        if self.name is None:
            raise ValueError("this staging file has no name any more")
        return Path(self.name)

    def write(self, data: bytes | memoryview) -> None:
        """Append all of `data`."""
        rest = memoryview(data)
        with failures.translated(failures.while_writing, "", self._folder):
            while rest:  # a disk that fills up takes a part first and then none
                rest = rest[os.write(self.fd, rest) :]

    def close_and_remove(self) -> None:
        """Close it and remove its name if it still has it. May be called again."""
        name, self.name = self.name, None
        fd, self.fd = self.fd, -1
        try:
            if name is not None:
                with failures.translated(failures.while_writing, "", self._folder):
                    remove(name)
        finally:
            if fd >= 0:
                os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close_and_remove()


def open_staging(folder: Path) -> StagingFile:
    """A new file in `folder`, which is a store's `traits.staging`. It takes the folder's owner and mode.

    Write to it, hand `Staged(path=staging.path, …)` to a store, and call `close_and_remove` at last.
    """
    with failures.translated(failures.while_writing, "", str(folder)):
        return create(str(folder), os.stat(folder))


def create(folder: str, holder: os.stat_result) -> StagingFile:
    """A new, empty file that belongs into the folder whose stat is `holder`."""
    name = new_name(folder)
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    staging = StagingFile(folder, name, os.open(name, flags, file_mode(holder)))
    try:
        fcntl.flock(staging.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        adopt(staging.fd, holder)
    except BaseException:
        staging.close_and_remove()
        raise
    return staging


def link(folder: str, source: Path, holder: os.stat_result) -> StagingFile | None:
    """Another name for the file `source`; None if it cannot have one here and must be copied."""
    name = new_name(folder)
    staging = StagingFile(folder, name, os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), linked=True)
    try:
        os.link(source, name)
        adopt(staging.fd, holder)
    except BaseException as error:
        staging.close_and_remove()
        if isinstance(error, OSError) and error.errno in _NO_LINK:
            return None
        raise
    return staging


def new_name(folder: str) -> str:
    """A path in `folder` that nobody else will come upon."""
    return f"{folder}/{uniqueness.name()}"


def remove(name: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(name)


def sweep(folder: str, now: float) -> None:
    """Remove what no living process writes, an hour after it was left."""
    for entry in list(os.scandir(folder)):
        with suppress(FileNotFoundError):
            # ctime and not mtime: nobody can set it, and a hard link, as `Staged` files get, renews it.
            left = now - entry.stat(follow_symlinks=False).st_ctime > _LEFT_OVER_AFTER
            if left and entry.is_file(follow_symlinks=False):
                _remove_unless_locked(entry.path)


def _remove_unless_locked(path: str) -> None:
    fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        with suppress(BlockingIOError):
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.unlink(path)
    finally:
        os.close(fd)
