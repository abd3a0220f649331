"""Requests that came through a proxy, and the proxies whose word about the client is believed."""

import ipaddress
from collections.abc import Mapping

from entrepot.errors import Invalid

_MARKS = ("forwarded", "x-forwarded-for", "via")

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Proxies:
    """The addresses and networks given as `[server] trusted-proxies`."""

    def __init__(self, trusted: tuple[str, ...]) -> None:
        self._networks: tuple[Network, ...] = tuple(map(_network, trusted))

    def trusts(self, peer: str) -> bool:
        if not self._networks:
            return False
        try:
            address = ipaddress.ip_address(peer)
        except ValueError:
            return False  # a Unix socket has no address
        return any(address in network for network in self._networks)

    def was_forwarded(self, headers: Mapping[str, str]) -> bool:
        """Whether a proxy says that it passed this on; anybody may say so, and then gets less, never more."""
        return any(mark in headers for mark in _MARKS)

    def client(self, peer: str, forwarded_for: str) -> str:
        """The address of the client: the last hop in X-Forwarded-For that is not itself a trusted proxy."""
        if not self.trusts(peer):
            return peer
        for hop in reversed(forwarded_for.split(",")):
            address = hop.strip()
            if address and not self.trusts(address):
                return address
        return peer

    def base(self, peer: str, headers: Mapping[str, str], *, scheme: str) -> str:
        """Scheme and host as the client sees them: "https://pypi.example.org"."""
        host = headers.get("host", "localhost")
        if self.trusts(peer):
            scheme = headers.get("x-forwarded-proto", scheme)
            host = headers.get("x-forwarded-host", host)
        return f"{scheme}://{host}"

    def prefix(self, peer: str, headers: Mapping[str, str], own: str) -> str:
        """The sub-path as the client sees it."""
        return headers.get("x-forwarded-prefix", own).rstrip("/") if self.trusts(peer) else own


def _network(text: str) -> Network:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError as error:
        raise Invalid(
            f"{text!r} is no address or network", at="server.trusted-proxies", hint='for example "10.0.0.0/8"'
        ) from error
