"""Downloads: a file is opened only through a page that shows it, and leaves by path where the server can."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import assert_never
from urllib.parse import quote

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import Receive, Scope, Send

from entrepot.index import Content, Elsewhere, Mounted, OnDisk, Revision, Span, Stream
from entrepot.model import File, Project
from entrepot.stores import failures
from entrepot.stores.documents import gathered
from entrepot.stores.pieces import Pieces
from entrepot.web import answers
from entrepot.web.answers import Headers, Kept
from entrepot.web.cache import Ready, ReadyCache
from entrepot.web.hot import is_unchanged
from entrepot.web.pages import identified, moved, named
from entrepot.web.site import Site, check_read
from entrepot.wire import ranges

_METADATA = ".metadata"


class Sent:
    """A file as a Starlette response: whole or a range of it, by path or by pieces."""

    def __init__(self, ready: Ready, content: Content, size: int | None, part: range | None, *, sendable: bool) -> None:
        self._ready = ready
        self._content = content
        self._size = size
        self._part = part
        self._sendable = sendable

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        ready = self._ready
        headers = dict(scope["headers"])
        private = b"authorization" in headers
        wanted = headers.get(b"if-none-match")
        if wanted is not None and is_unchanged(wanted, ready.etag):
            await self._end(send, ready.unchanged_private if private else ready.unchanged)
            return
        start = ready.start_private if private else ready.start
        if self._part is not None and self._size is not None:
            start = _partial(start, self._part, self._size)
        if scope["method"] == "HEAD":
            await self._end(send, start)
            return
        match self._content:
            case OnDisk(path=path) if self._sendable and self._part is None:
                await send(start)
                await send({"type": "http.response.pathsend", "path": str(path)})
            case OnDisk(path=path, size=size):
                await _send_pieces(send, start, await _pieces_of(path, self._part or range(size)))
            case Stream(body=body):
                await _send_pieces(send, start, body)
            case Elsewhere():
                raise AssertionError("redirects are answered before")
            case _:
                assert_never(self._content)

    async def _end(self, send: Send, start: object) -> None:
        if isinstance(self._content, Stream):
            close = getattr(self._content.body, "aclose", None)
            if close is not None:
                await close()
        await send(start)  # type: ignore[arg-type]
        await send({"type": "http.response.body", "body": b""})


class Files(Struct, frozen=True):
    """The handlers of downloads."""

    site: Site
    cache: ReadyCache

    async def file(self, request: Request) -> Response | Kept | Sent:
        """`GET /{index}/files/{project}/{filename}`, with `.metadata` behind it for the companion."""
        mounted, name = self.site.mounted(request), named(request)
        if request.path_params["project"] != name:
            return moved(self.site, request, name)
        caller = await identified(self.site, request)
        check_read(mounted, caller, name)
        filename: str = request.path_params["filename"]
        revision = await mounted.index.revision(name)
        page = await mounted.index.project(name)
        if filename.endswith(_METADATA):
            file = page.file(filename.removesuffix(_METADATA))
            return await self._companion(request, mounted, page, revision, file)
        return await self._bytes(request, mounted, page, revision, page.file(filename))

    async def _companion(
        self, request: Request, mounted: Mounted, page: Project, revision: Revision, file: File
    ) -> Kept:
        """The exact bytes of METADATA (PEP 658): small, so they are kept in memory like a page."""
        content = await self.site.catalog.sources[file.origin].open_metadata(page.name, file)
        body = await gathered(content)
        digest = file.core_metadata["sha256"] if isinstance(file.core_metadata, dict) else ""
        etag = f'"{digest}"'.encode() if digest else b""
        headers = _headers(b"text/plain; charset=utf-8", len(body))
        ready = answers.file(
            mounted, page.name, revision, headers=headers, etag=etag, size=len(body), kept=None, body=body,
            valid_until=page.valid_until,
        )  # fmt: skip
        return Kept(ready, request, self.cache, None)

    async def _bytes(
        self, request: Request, mounted: Mounted, page: Project, revision: Revision, file: File
    ) -> Response | Sent:
        digest = file.hashes.get("sha256", "")
        etag = f'"{digest}"' if digest else ""
        wanted = _range(request, file, etag)
        if isinstance(wanted, ranges.Unsatisfiable):
            fields = {"Content-Range": wanted.content_range, "X-Content-Type-Options": "nosniff"}
            return Response(status_code=416, headers=fields)
        source = self.site.catalog.sources[file.origin]
        span = Span(wanted.start, wanted.stop) if wanted is not None else None
        content = await source.open(page.name, file, span)
        ready = answers.file(
            mounted, page.name, revision, headers=_file_headers(file), etag=etag.encode(),
            size=file.size or 0, kept=_kept(content, span), valid_until=page.valid_until,
        )  # fmt: skip
        sendable = "http.response.pathsend" in request.scope.get("extensions", {})
        if ready.file is not None and sendable and not request.url.query:
            self.cache.put(request.scope["raw_path"], None, ready)
        if isinstance(content, Elsewhere):
            return RedirectResponse(content.url, 302, headers={"Cache-Control": "no-store"})
        return Sent(ready, content, file.size, wanted, sendable=sendable)


def _range(request: Request, file: File, etag: str) -> range | ranges.Unsatisfiable | None:
    if file.size is None or request.method != "GET":
        return None
    if not ranges.if_range_allows(request.headers.get("if-range"), etag=etag or None, last_modified=None):
        return None
    return ranges.parse(request.headers.get("range"), file.size)


def _headers(content_type: bytes, size: int) -> Headers:
    return [
        (b"content-type", content_type),
        (b"content-length", str(size).encode()),
        (b"x-content-type-options", b"nosniff"),
    ]


def _file_headers(file: File) -> Headers:
    disposition = f'attachment; filename="{quote(file.filename, safe="+!~")}"'
    headers: Headers = [
        (b"content-type", b"application/octet-stream"),
        (b"content-disposition", disposition.encode()),
        (b"x-content-type-options", b"nosniff"),
    ]
    if file.size is not None:
        headers += [(b"content-length", str(file.size).encode()), (b"accept-ranges", b"bytes")]
    return headers


def _kept(content: Content, span: Span | None) -> OnDisk | None:
    return content if isinstance(content, OnDisk) and span is None else None


def _partial(start: dict[str, object], part: range, size: int) -> dict[str, object]:
    fields = [pair for pair in start["headers"] if pair[0] != b"content-length"]  # type: ignore[attr-defined]
    fields.append((b"content-length", str(len(part)).encode()))
    fields.append((b"content-range", ranges.content_range(part, size).encode()))
    return {**start, "status": 206, "headers": fields}


async def _send_pieces(send: Send, start: object, body: AsyncIterator[bytes]) -> None:
    await send(start)  # type: ignore[arg-type]
    async for piece in body:
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def _pieces_of(path: Path, part: range) -> Pieces:
    """The bytes of a local file that the server cannot send by itself: a range, or all of it without `pathsend`."""
    key, root = path.name, str(path.parent)
    with failures.translated(failures.while_reading, key, root):
        fd = await asyncio.to_thread(os.open, path, os.O_RDONLY | os.O_CLOEXEC)
    return Pieces(fd, Span(part.start, part.stop), key=key, root=root)
