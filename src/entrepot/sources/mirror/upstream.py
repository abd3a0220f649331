"""The HTTP client of a mirror: retries, a circuit, and who may see what.

Credentials go to the configured host only. Redirects lead to https or stay on their host. Addresses in private networks
are refused, except those of the configured host itself, unless the configuration allows them.
"""

import asyncio
import base64
import ipaddress
import logging
import re
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

from entrepot.errors import NotFound, Unavailable
from entrepot.sources.mirror.address import Address
from entrepot.threads import finished

if TYPE_CHECKING:
    import aiohttp

log = logging.getLogger(__name__)

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_PASSING = frozenset({429, 500, 502, 503, 504})  # worth another attempt
_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/")
_MOST_REDIRECTS = 5
_ATTEMPTS = 3
_PAUSE = 0.2  # seconds before the second attempt, twice as much before the third
_FAILURES = 3  # in a row, then upstream is left alone
_OPEN_FIRST, _OPEN_MOST = 2.0, 60.0  # seconds for which it is


class _Unreached(Unavailable):
    """Nobody was there, which is known at once: worth another attempt."""


class Circuit:
    """Whether a host is worth asking. After some silences in a row nobody asks for a while, then one may try.

    Whatever a host answers, it is there: one page that is always 500 must not take the others along.
    """

    def __init__(self) -> None:
        self._failures = 0
        self._closed_at = 0.0
        self._pause = _OPEN_FIRST
        self._trying = False

    def check(self) -> None:
        """Raises `Unavailable` while nobody should ask."""
        if self._failures < _FAILURES:
            return
        left = self._closed_at - time.monotonic()
        if left > 0 or self._trying:
            raise Unavailable("upstream did not answer a moment ago", status=503, retry_after=max(1, round(left)))
        self._trying = True

    def succeeded(self) -> None:
        self._failures, self._pause, self._trying = 0, _OPEN_FIRST, False

    def forgone(self) -> None:
        """Whoever tried did not wait for the answer: somebody else may try."""
        self._trying = False

    def failed(self) -> None:
        self._failures += 1
        if self._failures >= _FAILURES:
            self._closed_at = time.monotonic() + self._pause
            self._pause = min(_OPEN_MOST, self._pause * 2)
            self._trying = False


class Upstream:
    """Answers of one upstream and of the hosts to which it leads. Must be closed at the end.

    `timeout`: seconds for an answer to begin, and for every silence in it. Raises `NotFound` for 404 and 410, else
    `Unavailable`: 502 for an answer that is a failure, 503 while it is left alone, 504 for none in time.
    """

    def __init__(self, address: Address, *, via: str, timeout: float, private: bool) -> None:
        self.address = address
        self._via = via
        self._timeout = timeout
        self._private = private
        self._session: aiohttp.ClientSession | None = None
        self._auth = (address.user, address.password) if address.user else None
        self._errors: tuple[type[Exception], ...] = ()  # what the session raises
        self._asked_keyring = False
        self._circuits: dict[str, Circuit] = {}

    async def close(self) -> None:
        """Let go of the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    @asynccontextmanager
    async def get(self, url: str, headers: Mapping[str, str] | None = None) -> "AsyncIterator[aiohttp.ClientResponse]":
        """An answer with status 200, 206 or 304; its body is read within the block."""
        response = await self._answered(url, headers or {})
        try:
            yield response
        except self._errors as error:
            self._circuit(url).failed()
            raise Unavailable(f"upstream broke off: {_said(error)}", at=url, status=502) from error
        except TimeoutError as error:
            self._circuit(url).failed()
            raise Unavailable("upstream fell silent", at=url, status=504) from error
        finally:
            # Not `release`: what is left of a body is not worth waiting for.
            response.close() if not response.content.at_eof() else response.release()

    async def _answered(self, url: str, headers: Mapping[str, str]) -> "aiohttp.ClientResponse":
        for attempt in range(_ATTEMPTS):
            try:
                response = await self._followed(url, headers)
            except _Unreached:
                if attempt == _ATTEMPTS - 1:
                    raise
                await asyncio.sleep(_PAUSE * 2**attempt)
                continue
            if response.status == 401 and await self._unlocked():
                response.release()
                continue
            if response.status not in _PASSING:
                return _checked(response, url)
            pause = _retry_after(response)
            response.release()
            if attempt == _ATTEMPTS - 1 or (pause is not None and pause > 2):
                raise Unavailable(
                    f"upstream answered {response.status}", at=url, status=502, retry_after=round(pause or 5)
                )
            await asyncio.sleep(pause if pause is not None else _PAUSE * 2**attempt)
        raise AssertionError("unreachable")

    async def _unlocked(self) -> bool:
        """Whether the machine's keyring has credentials for the configured index, which answered 401 without any."""
        if self._auth is not None or self._asked_keyring:
            return False
        self._asked_keyring = True
        found = await finished(_from_keyring, self.address.url)
        self._auth = found
        return found is not None

    async def _followed(self, url: str, headers: Mapping[str, str]) -> "aiohttp.ClientResponse":
        """The answer behind all redirects."""
        for _ in range(_MOST_REDIRECTS + 1):
            self._check(url)
            response = await self._asked(url, headers)
            target = response.headers.get("Location")
            if response.status not in _REDIRECTS or target is None:
                return response
            response.release()
            before, url = url, _joined(url, target)
            if urlsplit(url).scheme != "https" and urlsplit(url).netloc != urlsplit(before).netloc:
                raise Unavailable("upstream redirects to another host without https", at=before, status=502)
        raise Unavailable(f"upstream redirects more than {_MOST_REDIRECTS} times", at=url, status=502)

    async def _asked(self, url: str, headers: Mapping[str, str]) -> "aiohttp.ClientResponse":
        own = urlsplit(url).netloc == self.address.host
        auth = {"Authorization": _basic(*self._auth)} if own and self._auth is not None else {}
        circuit = self._circuit(url)
        circuit.check()
        try:
            async with asyncio.timeout(self._timeout):
                response = await self._opened().get(
                    url, headers={"Via": f"1.1 {self._via}", **headers, **auth}, allow_redirects=False
                )
        except ValueError as error:
            circuit.forgone()
            raise Unavailable(f"upstream leads to what is no URL: {_said(error)}", at=url, status=502) from error
        except self._errors as error:
            circuit.failed()
            raise _Unreached(f"upstream cannot be reached: {_said(error)}", at=url, status=502) from error
        except TimeoutError as error:
            circuit.failed()
            words = f"upstream did not answer within {self._timeout:g} seconds"
            # Not tried again: whoever waits for us has waited long enough, and gives up before a third time.
            raise Unavailable(words, at=url, status=504) from error
        except BaseException:
            circuit.forgone()
            raise
        circuit.succeeded()
        return response

    def _opened(self) -> "aiohttp.ClientSession":
        if self._session is None:
            # Imported when it is used: a command that asks no upstream starts in half the time.
            from entrepot.sources.mirror import session  # noqa: PLC0415

            self._errors = session.ERRORS
            self._session = session.opened(self.address, timeout=self._timeout, private=self._private)
        return self._session

    def _circuit(self, url: str) -> Circuit:
        return self._circuits.setdefault(urlsplit(url).netloc, Circuit())

    # Private networks.

    def _check(self, url: str) -> None:
        """An address in the URL itself is never resolved, so it is looked at here."""
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise Unavailable("upstream leads to what is no web address", at=url, status=502)
        if self._private or parts.netloc == self.address.host:
            return
        try:
            address = ipaddress.ip_address(parts.hostname)
        except ValueError:
            return
        if not address.is_global:
            raise _private(parts.hostname)


def _basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def _from_keyring(url: str) -> tuple[str, str] | None:
    """What the package keyring knows of the index, if it is installed; asked as pip asks it."""
    try:
        import keyring  # noqa: PLC0415 - an extra
    except ImportError:
        return None
    for service in (url, urlsplit(url).netloc):
        found = keyring.get_credential(service, None)
        if found is not None and found.username and found.password:
            return found.username, found.password
    return None


def _private(host: str) -> Unavailable:
    hint = "private-addresses = true on the mirror allows it"
    return Unavailable(f"upstream leads to {host}, which is in a private network", hint=hint, status=502)


def _checked(response: "aiohttp.ClientResponse", url: str) -> "aiohttp.ClientResponse":
    if response.status in {200, 206, 304}:
        return response
    response.release()
    if response.status in {404, 410}:
        raise NotFound("upstream does not have it", at=url)
    if response.status in {401, 403}:
        hint = "see `credentials` of the mirror"
        raise Unavailable(f"upstream refuses us with {response.status}", at=url, hint=hint, status=502)
    raise Unavailable(f"upstream answered {response.status}", at=url, status=502)


def _joined(base: str, target: str) -> str:
    try:
        url = urljoin(base, target)
        urlsplit(url)
    except ValueError as error:
        raise Unavailable(f"upstream redirects to what is no URL: {error}", at=base, status=502) from error
    return url


def begins_at(response: "aiohttp.ClientResponse") -> int | None:
    """Where the bytes of a 206 begin, as it says itself; None if it does not."""
    found = _CONTENT_RANGE.match(response.headers.get("Content-Range", ""))
    return int(found[1]) if found is not None else None


def _retry_after(response: "aiohttp.ClientResponse") -> float | None:
    text = response.headers.get("Retry-After", "")
    return float(text) if text.isdecimal() else None


def _said(error: Any) -> str:
    return str(error) or type(error).__name__
