"""The archives of an index on a running entrepot server, with a token instead of the keys of its store."""

import asyncio
import base64
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any
from urllib.parse import SplitResult, quote, urlencode, urlsplit, urlunsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import msgspec
from msgspec import Struct
from yarl import URL

from entrepot.archives.model import (
    Archive,
    Offer,
    Summary,
    Version,
    check_channel,
    check_localname,
    check_name,
    check_version,
    exists,
)
from entrepot.archives.reading import pieces
from entrepot.errors import Conflict, Denied, EntrepotError, Invalid, NotFound, Unavailable
from entrepot.index import Body, Content, OnDisk, Span, Staged, Stream

_SILENCE = 120.0  # seconds without a byte
_PIECE = 1 << 18
_BODY = 1 << 16  # bytes of an error that are read
_KINDS: Mapping[int, type[EntrepotError]] = {401: Denied, 403: Denied, 404: NotFound, 409: Conflict}


class Listed(Struct, frozen=True, kw_only=True):
    """What `GET …/archives/` answers."""

    archives: tuple[Summary, ...]


class RemoteArchives:
    """Used inside `connected`. `url` is `https://host/{index}/archives/`."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self._url = url
        self._session = session

    async def summaries(self) -> AsyncIterator[Summary]:
        for summary in msgspec.json.decode(await self._json("GET", ""), type=Listed).archives:
            yield summary

    async def archive(self, name: str) -> Archive:
        check_name(name)
        try:
            return msgspec.json.decode(await self._json("GET", _path(name)), type=Archive)
        except msgspec.MsgspecError as error:
            raise Unavailable(f"the answer is not that of an entrepot server: {error}", at=self._url) from error

    async def init(self, name: str, localname: str) -> bool:
        check_name(name)
        check_localname(localname)
        return await self._done("PUT", _path(name), {"localname": localname}) == 201

    async def push(self, name: str, version: str, offer: Offer, *, channel: str | None = None) -> bool:
        check_name(name)
        check_version(version)
        check_localname(offer.filename)
        if await self._has(name, version, offer):  # then they need not travel
            if channel is not None:
                await self.promote(name, channel, version)
            return False
        query = {"filename": offer.filename} | ({"promote": channel} if channel is not None else {})
        digest = base64.b64encode(bytes.fromhex(offer.sha256)).decode()
        headers = {"Repr-Digest": f"sha-256=:{digest}:", "Content-Length": str(offer.size)}
        return await self._done("PUT", _path(name, version), query, headers, _sent(offer.body())) == 201

    async def promote(self, name: str, channel: str, version: str) -> None:
        check_name(name)
        check_channel(channel)
        await self._done("PUT", _path(name, channel), {"version": version})

    async def remove(self, name: str, version: str, *, by: str | None, now: datetime) -> None:  # noqa: ARG002
        check_name(name)
        await self._done("DELETE", _path(name, version))

    async def open(self, name: str, version: Version, span: Span | None = None) -> Content:
        headers = {"Accept-Encoding": "identity"}
        if span is not None:
            headers |= {"Range": f"bytes={span.start}-{span.stop - 1}", "If-Range": version.etag}
        response = await self._answer("GET", _path(name, version.version), {}, headers)
        if response.headers.get("ETag") != version.etag or response.status != (200 if span is None else 206):
            response.close()
            raise Conflict(f"version {version.version} of {name} was replaced since it was looked up", hint="try again")
        return Stream(body=_body(response, self._url), size=response.content_length)

    async def _has(self, name: str, version: str, offer: Offer) -> bool:
        """Whether these bytes are there already. Raises `Conflict` if others are."""
        try:
            known = (await self.archive(name)).version(version)
        except NotFound:
            return False
        if known.sha256 != offer.sha256:
            raise exists(name, version)
        return True

    async def _json(self, method: str, path: str) -> bytes:
        # Without an Accept for JSON, errors come as plain text.
        response = await self._answer(method, path, {}, {})
        async with response:
            return b"".join([piece async for piece in _body(response, self._url)])

    async def _done(
        self, method: str, path: str, query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None, body: Any = None,
    ) -> int:  # fmt: skip
        """The status of a success."""
        response = await self._answer(method, path, query or {}, headers or {}, body)
        async with response:
            return response.status

    async def _answer(
        self, method: str, path: str, query: Mapping[str, str], headers: Mapping[str, str], body: Any = None
    ) -> aiohttp.ClientResponse:
        """An answer that is a success. Raises what the server means."""
        url = self._url + path + (f"?{urlencode(query, quote_via=quote)}" if query else "")
        try:
            response = await self._session.request(
                method, URL(url, encoded=True), headers=dict(headers), data=body, allow_redirects=False
            )
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise Unavailable(f"the server cannot be reached: {error}", at=self._url) from error
        except TimeoutError as error:
            raise Unavailable("the server did not answer", at=self._url, status=504) from error
        if response.status in {200, 201, 206}:
            return response
        async with response:
            raise await _meant(response, self._url)


@asynccontextmanager
async def connected(url: str, token: str | None) -> AsyncIterator[RemoteArchives]:
    """The archives at a URL, which may hold the token as its password."""
    parts = urlsplit(url)
    bare = parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="")
    secret = token or parts.password
    headers = {"User-Agent": "entrepot"}
    if secret:
        headers["Authorization"] = "Basic " + base64.b64encode(f"__token__:{secret}".encode()).decode()
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=30, sock_read=_SILENCE)
    # The environment is asked for a netrc only where there is no token: aiohttp refuses to have both.
    async with aiohttp.ClientSession(
        headers=headers, timeout=timeout, trust_env=not secret, proxy=_proxy(parts) if secret else None
    ) as session:
        yield RemoteArchives(urlunsplit(bare).rstrip("/") + "/", session)


def _proxy(parts: SplitResult) -> str | None:
    """The proxy that the environment has for this server."""
    if proxy_bypass(parts.netloc.rpartition("@")[2]):
        return None
    return getproxies().get(parts.scheme)


def _path(*segments: str) -> str:
    return "/".join(quote(segment, safe="") for segment in segments)


async def _sent(body: Body) -> AsyncIterator[bytes]:
    """The bytes in pieces that do not hold up the event loop."""
    match body:
        case bytes():
            for at in range(0, len(body), _PIECE):
                yield body[at : at + _PIECE]
        case Staged(path=path, size=size, held=None):
            async for piece in pieces(OnDisk(path=path, size=size, mtime_ns=0)):
                yield piece
        case Staged(held=held):
            yield held or b""
        case _:
            async for piece in body:
                yield piece


async def _body(response: aiohttp.ClientResponse, at: str) -> AsyncIterator[bytes]:
    try:
        async for piece in response.content.iter_chunked(_PIECE):
            yield piece
    except (aiohttp.ClientError, OSError) as error:
        raise Unavailable(f"the server broke off: {error}", at=at, status=502) from error
    except (TimeoutError, asyncio.IncompleteReadError) as error:
        raise Unavailable("the server fell silent", at=at, status=504) from error
    finally:
        response.close()


async def _meant(response: aiohttp.ClientResponse, at: str) -> EntrepotError:
    """The error that an answer stands for, in the server's words."""
    said = (await response.content.read(_BODY)).decode("utf-8", "replace").strip()
    text, bracket, hint = (said or f"the server answered {response.status}").partition(" (")
    hint = hint.removesuffix(")") if bracket else ""
    if response.status in _KINDS:
        return _KINDS[response.status](text, hint=hint)
    if 400 <= response.status < 500:
        return Invalid(text, hint=hint, status=413 if response.status == 413 else 400)
    return Unavailable(text, at=at, hint=hint)
