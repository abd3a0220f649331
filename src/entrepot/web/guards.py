"""What is refused before anything is looked at: rebound Host names and writes that a web page sent."""

from collections.abc import Callable
from functools import lru_cache

_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
_SAME = frozenset({"none", "same-origin"})
_READS = frozenset({"GET", "HEAD", "OPTIONS"})
_LONGEST = 300  # characters: a name of the DNS has at most 253, and a port follows


class HostGuard:
    """Answers Host names on a loopback bind: a name that somebody else controls may have been rebound to us."""

    def __init__(self, hosts: tuple[str, ...]) -> None:
        self._allowed = frozenset(host.lower() for host in (*_LOOPBACK, *hosts))
        self._remembered = lru_cache(maxsize=256)(self._allows)

    def allows(self, host: str) -> bool:
        # A header may have 400 kB: nothing of that size is remembered.
        return len(host) <= _LONGEST and self._remembered(host)

    def _allows(self, host: str) -> bool:
        name, colon, port = host.lower().rpartition(":")
        return (name if colon and port.isdigit() else host.lower()) in self._allowed


def is_cross_site_write(method: str, header: Callable[[str], str | None]) -> bool:
    """A web page must not publish to a developer's index: browsers tell where a write comes from, clients do not."""
    if method in _READS:
        return False
    site = header("sec-fetch-site")
    return header("origin") is not None or (site is not None and site not in _SAME)
