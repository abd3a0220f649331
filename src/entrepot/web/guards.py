"""What is refused before anything is looked at: rebound Host names and writes that a web page sent."""

from collections.abc import Mapping
from functools import lru_cache

_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
_SAME = frozenset({"none", "same-origin"})
_READS = frozenset({"GET", "HEAD", "OPTIONS"})


class HostGuard:
    """Answers Host names on a loopback bind: a name that somebody else controls may have been rebound to us."""

    def __init__(self, hosts: tuple[str, ...]) -> None:
        self._allowed = frozenset(host.lower().encode() for host in (*_LOOPBACK, *hosts))
        self.allows = lru_cache(maxsize=256)(self._allows)

    def _allows(self, host: bytes) -> bool:
        name, colon, port = host.lower().rpartition(b":")
        return (name if colon and port.isdigit() else host.lower()) in self._allowed


def is_cross_site_write(method: str, headers: Mapping[bytes, bytes]) -> bool:
    """A web page must not publish to a developer's index: browsers tell where a write comes from, clients do not."""
    if method in _READS:
        return False
    if b"origin" in headers:
        return True
    return headers.get(b"sec-fetch-site", b"none").decode("latin-1") not in _SAME
