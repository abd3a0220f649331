"""Requests that were seen before."""

from entrepot.http1.requests import Request

_READS = frozenset({"GET", "HEAD"})


class Known:
    """Requests by their bytes: a client asks for the same page in the same words, and needs no parser for it.

    Only whole ones without a body are kept; the oldest goes first.
    """

    _MOST, _LONGEST = 4096, 2048  # requests, and bytes of one

    def __init__(self) -> None:
        self._held: dict[bytes, Request] = {}
        self.get = self._held.get

    def keep(self, data: bytes, request: Request) -> None:
        if len(data) > self._LONGEST or request.method not in _READS or request.brings_body or not request.keep_alive:
            return
        if len(self._held) >= self._MOST:
            del self._held[next(iter(self._held))]
        self._held[data] = request
