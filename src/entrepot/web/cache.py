"""Ready answers: what the hot path sends without asking anybody but the index for its revision."""

from collections import OrderedDict
from collections.abc import Callable

from msgspec import Struct

from entrepot.http1 import Head
from entrepot.index import Index, OnDisk, Revision
from entrepot.model import ProjectName
from entrepot.wire.negotiate import Format

# Of a path with several forms the one meant: see `variant`. None: the path has one form only.
Variant = str | None


class Ready(Struct, kw_only=True):
    """One answer, with its headers made beforehand. It holds while `index` says `revision` for `name`.

    `file` is set for one that is sent by path; then `body` is empty. `size` is in bytes.
    """

    index: Index
    name: ProjectName | None
    revision: Revision
    valid_until: float | None  # seconds since 1970
    guarded: tuple[str, ...]
    etag: str
    public: Head  # of a 200
    private: Head  # of a 200 when credentials were sent
    unchanged: Head  # of a 304
    unchanged_private: Head
    body: bytes
    size: int
    file: OnDisk | None = None
    # The index's pulse when its revision was last asked for, and until when that may be believed (monotonic).
    pulse: Callable[[], object] | None = None
    beat: object = None
    believed: float = 0.0
    believed_for: float = 0.5  # seconds

    @property
    def weight(self) -> int:
        """What keeping it costs, in bytes: the body, and about this much for headers and bookkeeping."""
        return len(self.body) + 2048


def variant(format_: Format | None, coding: str) -> str:
    """A simple page has a form for each format and content coding ("" for none), other pages for each coding."""
    return f"{format_.name if format_ is not None else ''}+{coding}"


class ReadyCache:
    """The ready answers of one worker, least recently used first out, up to `limit` bytes."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._weight = 0
        self._held: OrderedDict[tuple[str, Variant], Ready] = OrderedDict()

    def get(self, key: tuple[str, Variant]) -> Ready | None:
        """The answer for a request's path and a variant of it."""
        ready = self._held.get(key)
        if ready is not None:
            self._held.move_to_end(key)
        return ready

    def put(self, path: str, variant: Variant, ready: Ready) -> None:
        self.drop(path, variant)
        if ready.weight > self._limit:
            return  # it would push out everything else, and then itself
        self._held[path, variant] = ready
        self._weight += ready.weight
        while self._weight > self._limit:
            _, oldest = self._held.popitem(last=False)
            self._weight -= oldest.weight

    def drop(self, path: str, variant: Variant) -> None:
        before = self._held.pop((path, variant), None)
        if before is not None:
            self._weight -= before.weight
