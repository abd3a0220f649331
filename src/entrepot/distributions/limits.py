"""How much an archive may cost us: the limits, and what is left of them while one is read."""

import time
from typing import Final

from msgspec import Struct

from entrepot.errors import Invalid


class Limits(Struct, frozen=True, kw_only=True):
    """Sizes are in bytes. A bomb unpacks to more than `free` and to more than `ratio` times its own size."""

    free: int = 64 << 20
    ratio: int = 50
    unpacked: int = 8 << 30
    members: int = 100_000
    seconds: float = 60.0
    pace: int = 4 << 20  # what is read per second at least: large files may take longer than `seconds`
    metadata: int = 8 << 20  # METADATA, PKG-INFO
    record: int = 32 << 20  # RECORD has a line for each member
    small: int = 1 << 20  # WHEEL, entry_points.txt, an extended tar header
    directory: int = 32 << 20  # the central directory of a ZIP archive


DEFAULT: Final = Limits()


class Budget:
    """What reading an archive of `packed` bytes may still cost. Raises `Invalid` when that is spent."""

    def __init__(self, limits: Limits, packed: int) -> None:
        self.limits = limits
        self.allowed = min(limits.unpacked, max(limits.free, limits.ratio * packed))
        self.unpacked = 0
        self._seconds = limits.seconds + packed / limits.pace
        self._deadline = time.monotonic() + self._seconds

    def spend(self, unpacked: int) -> None:
        """Account for bytes that came out of the archive; called for every piece, it watches the time too."""
        self.unpacked += unpacked
        if self.unpacked > self.allowed:
            raise Invalid(bomb(self.limits, self.unpacked, self.allowed), at="content")
        self.tick()

    def tick(self) -> None:
        if time.monotonic() > self._deadline:
            raise Invalid(
                f"reading the archive took longer than {self._seconds:.0f} seconds",
                at="content",
                hint="archives that need longer have very many members or are built to waste time",
            )


def bomb(limits: Limits, unpacked: int, allowed: int) -> str:
    """Why so much output is refused."""
    why = "the most there may be" if allowed == limits.unpacked else f"over {limits.ratio} times its own size"
    return f"the archive unpacks to {unpacked} bytes or more: more than {allowed}, {why}"
