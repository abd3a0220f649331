"""Requests that came through a proxy, and the proxies whose word about the client is believed."""

import ipaddress
import re
from collections.abc import Mapping

from entrepot.errors import Invalid

_MARKS = ("forwarded", "x-forwarded-for", "via", "x-forwarded-host", "x-forwarded-proto", "x-real-ip")
_PREFIX = re.compile(r"(?:/[A-Za-z0-9._~-]+)*/?\Z")  # the form of our own `--path`; "/" is the root

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Proxies:
    """The addresses and networks given as `[server] trusted-proxies`."""

    def __init__(self, trusted: tuple[str, ...]) -> None:
        self._networks: tuple[Network, ...] = tuple(map(_network, trusted))

    def trusts(self, peer: str) -> bool:
        if not self._networks:
            return False
        address = _address(peer)
        return address is not None and any(address in network for network in self._networks)

    def was_forwarded(self, headers: Mapping[str, str]) -> bool:
        """Whether a proxy says that it passed this on; anybody may say so, and then gets less, never more."""
        return any(mark in headers for mark in _MARKS)

    def client(self, peer: str, forwarded_for: str) -> str:
        """The address of the client: the last hop in X-Forwarded-For that is not itself a trusted proxy."""
        last = peer
        for hop in reversed(forwarded_for.split(",")):
            # What is no address was not written by a proxy that we trust, and could be anything.
            if not self.trusts(last) or _address(hop.strip()) is None:
                break
            last = hop.strip()
        return last

    def base(self, peer: str, headers: Mapping[str, str], *, scheme: str) -> str:
        """Scheme and host as the client sees them: "https://packages.example.org"."""
        host = headers.get("host", "localhost")
        if self.trusts(peer):
            given = _first(headers, "x-forwarded-proto").lower()
            scheme = given if given in {"http", "https"} else scheme
            host = _first(headers, "x-forwarded-host") or host
        return f"{scheme}://{host}"

    def prefix(self, peer: str, headers: Mapping[str, str], own: str) -> str:
        """The sub-path as the client sees it."""
        given = _first(headers, "x-forwarded-prefix") if self.trusts(peer) else ""
        # Proxies pass on what they do not know: "//evil.example" must not become the host of a redirect.
        return given.rstrip("/") if given and _PREFIX.match(given) else own


def _first(headers: Mapping[str, str], name: str) -> str:
    """Each proxy of several appends its own word; the first one spoke with the client."""
    return headers.get(name, "").partition(",")[0].strip()


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """None for what is none, as a Unix socket's peer. A dual-stack socket tells of 10.0.0.1 as ::ffff:10.0.0.1."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _network(text: str) -> Network:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError as error:
        raise Invalid(
            f"{text!r} is no address or network", at="server.trusted-proxies", hint='for example "10.0.0.0/8"'
        ) from error
