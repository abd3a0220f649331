"""The bytes of a distribution file, wherever they are: on the disk, or in memory."""

import os
from pathlib import Path
from types import TracebackType
from typing import Final, Self

# Most wheels: read at once, since thirty reads of headers cost more than the bytes.
_SMALL: Final = 1 << 20


class Contents:
    """`size` bytes that can be read from anywhere. Raises `OSError` if the file cannot be opened."""

    def __init__(self, file: Path | bytes) -> None:
        self._fd = -1
        self._whole: bytes | None = None
        if isinstance(file, bytes):
            self.size, self._whole = len(file), file
            return
        # No mmap: a file that is cut while it is read would kill the process.
        self._fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self.size = os.fstat(self._fd).st_size
            if self.size <= _SMALL:
                self._whole = os.pread(self._fd, _SMALL, 0)
        except BaseException:
            os.close(self._fd)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._fd >= 0:
            os.close(self._fd)

    def read(self, offset: int, size: int) -> bytes:
        """The `size` bytes at `offset`; fewer where the file ends, and none where no byte has that offset."""
        if not 0 <= offset < self.size:
            return b""
        if self._whole is not None:
            return self._whole[offset : offset + size]
        # Archives may name any size, and pread takes the memory for it first.
        return os.pread(self._fd, min(size, self.size - offset), offset)
