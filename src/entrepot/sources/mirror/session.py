"""The HTTP session of a mirror, in terms of aiohttp."""

import errno
import ipaddress
import os
import socket
import ssl
import urllib.request
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

from entrepot.sources.mirror.address import Address

ERRORS: tuple[type[Exception], ...] = (aiohttp.ClientError,)


def opened(address: Address, *, timeout: float, private: bool) -> aiohttp.ClientSession:
    """A session to the upstream and the hosts to which it leads. `timeout`: seconds of silence in an answer."""
    tls = ssl.create_default_context(cafile=address.certificates)
    resolver = ThreadedResolver() if private else _Public(urlsplit(address.url).hostname or "")
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=100, limit_per_host=50, resolver=resolver, ssl=tls, keepalive_timeout=60),
        timeout=aiohttp.ClientTimeout(total=None, sock_read=timeout),
        headers={"User-Agent": "entrepot"},
        trust_env=_environment_matters(),
        cookie_jar=aiohttp.DummyCookieJar(),
        read_bufsize=1 << 18,
    )


class _Public(AbstractResolver):
    """Refuses names that lead into a private network, except to the machine that the configured one leads to."""

    def __init__(self, own: str) -> None:
        self._own = own
        self._inner = ThreadedResolver()
        self._trusted: frozenset[str] | None = None

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self._inner.resolve(host, port, family)
        private = {each["host"] for each in found if not ipaddress.ip_address(each["host"]).is_global}
        if host != self._own and private and not private <= await self._own_addresses(port, family):
            raise OSError(errno.EACCES, f"{host} is in a private network; private-addresses = true allows it")
        return found

    async def _own_addresses(self, port: int, family: socket.AddressFamily) -> frozenset[str]:
        if self._trusted is None:
            self._trusted = frozenset(each["host"] for each in await self._inner.resolve(self._own, port, family))
        return self._trusted

    async def close(self) -> None:
        await self._inner.close()


def _environment_matters() -> bool:
    """Whether there are proxies or a netrc, as every client of packages obeys them; looked up for each request."""
    netrc = os.environ.get("NETRC") or os.path.expanduser("~/.netrc")
    return bool(urllib.request.getproxies()) or os.path.exists(netrc)
