"""Ready answers: what the hot path sends without asking anybody but the index for its revision."""

from collections import OrderedDict
from typing import Any

from msgspec import Struct

from entrepot.index import Index, OnDisk, Revision
from entrepot.model import ProjectName
from entrepot.wire.negotiate import Format

# A page's variant: format and content coding ("" for none). None: the path has one form only.
Variant = tuple[Format, str] | str | None
Message = dict[str, Any]


class Ready(Struct, frozen=True, kw_only=True):
    """One answer, with its ASGI messages made beforehand. It holds while `index` says `revision` for `name`.

    `file` is set for one that is sent by path; then `body` is empty.
    """

    index: Index
    name: ProjectName | None
    revision: Revision
    valid_until: float | None  # seconds since 1970
    guarded: tuple[str, ...]
    etag: bytes
    start: Message  # 200, for everybody
    start_private: Message  # 200, when credentials were sent
    unchanged: Message  # 304
    unchanged_private: Message
    body: Message
    size: int  # of the body in bytes
    file: OnDisk | None = None

    @property
    def weight(self) -> int:
        """What keeping it costs, in bytes: the body, and about this much for headers and bookkeeping."""
        return len(self.body.get("body", b"")) + 2048


class ReadyCache:
    """The ready answers of one worker, least recently used first out, up to `limit` bytes."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._weight = 0
        self._held: OrderedDict[tuple[bytes, Variant], Ready] = OrderedDict()

    def get(self, path: bytes, variant: Variant) -> Ready | None:
        key = (path, variant)
        ready = self._held.get(key)
        if ready is not None:
            self._held.move_to_end(key)
        return ready

    def put(self, path: bytes, variant: Variant, ready: Ready) -> None:
        self.drop(path, variant)
        self._held[path, variant] = ready
        self._weight += ready.weight
        while self._weight > self._limit and self._held:
            _, oldest = self._held.popitem(last=False)
            self._weight -= oldest.weight

    def drop(self, path: bytes, variant: Variant) -> None:
        before = self._held.pop((path, variant), None)
        if before is not None:
            self._weight -= before.weight
