"""Downloads: a file is opened only through a page that shows it, and leaves by path where the server can."""

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import assert_never
from urllib.parse import quote

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import Receive, Scope, Send

from entrepot.errors import NotFound, Unavailable
from entrepot.http1 import Answer, Headers, head
from entrepot.index import Content, Elsewhere, Mounted, OnDisk, Revision, Span, Stream
from entrepot.model import File, Project
from entrepot.stores import failures
from entrepot.stores.documents import gathered
from entrepot.stores.pieces import Pieces
from entrepot.threads import finished
from entrepot.web import answers, problems
from entrepot.web.answers import Kept, cache_path
from entrepot.web.asgi import can_send_paths, can_send_spans, encoded, send_answer
from entrepot.web.cache import Ready, ReadyCache
from entrepot.web.pages import identified, moved, named
from entrepot.web.site import Site, check_read
from entrepot.web.warm import is_unchanged
from entrepot.wire import ranges

_METADATA = ".metadata"


class Sent:
    """A file as a Starlette response: whole or a range of it, by path or by pieces."""

    def __init__(self, ready: Ready, content: Content, size: int | None, part: range | None) -> None:
        self._ready = ready
        self._content = content
        self._size = size
        self._part = part

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        answer = self._answer(scope)
        content, part = self._content, self._part
        if answer.status == 304 or scope["method"] == "HEAD":
            if isinstance(content, Stream):
                await close(content.body)
            await send_answer(send, answer)
            return
        match content:
            case OnDisk() if part is None and can_send_paths(scope):
                await send_answer(send, Answer(answer.head, file=content))
            case OnDisk(path=path) if part is not None and can_send_spans(scope):
                await send({"type": "http.response.start", "status": 206, "headers": encoded(answer.headers)})
                await send({"type": "http.response.pathsend", "path": str(path), "span": (part.start, part.stop)})
            case OnDisk(path=path, size=size):
                await _send_pieces(send, answer, await _pieces_of(path, part or range(size)))
            case Stream(body=body):
                await _send_pieces(send, answer, body)
            case Elsewhere():
                raise AssertionError("redirects are answered before")
            case _:
                assert_never(content)

    def _answer(self, scope: Scope) -> Answer:
        """The head: 304, 206 or 200."""
        unchanged = answers.unchanged(self._ready, scope)
        if unchanged is not None:
            return unchanged
        whole = answers.fields(self._ready, scope)
        if self._part is None or self._size is None:
            return Answer(whole)
        fields = [pair for pair in whole.headers if pair[0] != "content-length"]
        fields += [
            ("content-length", str(len(self._part))),
            ("content-range", ranges.content_range(self._part, self._size)),
        ]
        return Answer(head(206, fields))


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
        if not file.core_metadata:
            raise NotFound(f"{file.filename} has no metadata file")
        with problems.lost(f"{file.filename}{_METADATA}"):
            body = await gathered(await self.site.catalog.sources[file.origin].open_metadata(page.name, file))
        digest = file.core_metadata["sha256"] if isinstance(file.core_metadata, dict) else ""
        etag = f'"{digest}"' if digest else ""
        headers = _metadata_headers(len(body))
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
        part = asked_part(request, file.size, etag)
        if isinstance(part, ranges.Unsatisfiable):
            return beyond(part)
        content = await self._opened(page, file, part)
        # Of a mirrored file the answer of upstream may be the first to tell it.
        size = content.size if file.size is None and not isinstance(content, Elsewhere) else file.size
        ready = answers.file(
            mounted, page.name, revision, headers=_file_headers(file, size), etag=etag, size=size or 0,
            kept=content if isinstance(content, OnDisk) else None, valid_until=page.valid_until,
        )  # fmt: skip
        if isinstance(content, Elsewhere):
            return RedirectResponse(content.url, 302, headers={"Cache-Control": "no-store"})
        if ready.file is not None and not request.url.query:
            self.cache.put(cache_path(request), None, ready)
        return Sent(ready, content, size, part)

    async def _opened(self, page: Project, file: File, part: range | None) -> Content:
        """The whole file where it can be sent by path, of which a part goes out without a copy in our memory."""
        source = self.site.catalog.sources[file.origin]
        with problems.lost(file.filename):
            content = await source.open(page.name, file)
            size = file.size
            if part is not None and isinstance(content, Stream):
                await close(content.body)
                content = await source.open(page.name, file, Span(part.start, part.stop))
                size = len(part)
        found = None if isinstance(content, Elsewhere) else content.size
        if found is not None and size is not None and found != size:
            hint = "`entrepot check` says more"
            raise Unavailable(f"{file.filename} has {found} bytes and not {size}", hint=hint)
        return content


def asked_part(request: Request, size: int | None, etag: str) -> range | ranges.Unsatisfiable | None:
    """The range that the request asks of a file of that size; None for all of it."""
    if size is None or request.method != "GET":
        return None
    # If-None-Match comes first (RFC 9110 §13.2.2): who has the file already is told so.
    unchanged = request.headers.get("if-none-match")
    if unchanged is not None and is_unchanged(unchanged, etag):
        return None
    if not ranges.if_range_allows(request.headers.get("if-range"), etag=etag or None, last_modified=None):
        return None
    return ranges.parse(request.headers.get("range"), size)


def beyond(part: ranges.Unsatisfiable) -> Response:
    fields = {"Content-Range": part.content_range, "X-Content-Type-Options": "nosniff"}
    return Response(status_code=416, headers=fields)


def _metadata_headers(size: int) -> Headers:
    return [
        ("content-type", "text/plain; charset=utf-8"),
        ("content-length", str(size)),
        ("x-content-type-options", "nosniff"),
    ]


def attached(filename: str) -> str:
    """A Content-Disposition under which browsers keep the file and do not show it."""
    return f'attachment; filename="{quote(filename, safe="+!~")}"'


def _file_headers(file: File, size: int | None) -> Headers:
    headers = [
        ("content-type", "application/octet-stream"),
        ("content-disposition", attached(file.filename)),
        ("x-content-type-options", "nosniff"),
    ]
    if size is not None:
        headers.append(("content-length", str(size)))
    if file.size is not None:
        headers.append(("accept-ranges", "bytes"))
    return headers


async def _send_pieces(send: Send, answer: Answer, body: AsyncIterator[bytes]) -> None:
    """Headers, then the pieces as they come. A failure in between cuts the connection: the length is announced."""
    await send({"type": "http.response.start", "status": answer.status, "headers": encoded(answer.headers)})
    try:
        async for piece in body:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
    except OSError:
        return  # the client went away: drivers raise our own errors
    finally:
        await close(body)
    await send({"type": "http.response.body", "body": b""})


async def close(body: AsyncIterator[bytes]) -> None:
    """Let go of what the stream holds now, not when the garbage collector comes by."""
    close = getattr(body, "aclose", None)
    if close is not None:
        await close()


async def _pieces_of(path: Path, part: range) -> Pieces:
    """The bytes of a local file that the server cannot send by itself: a range, or all of it without `pathsend`."""
    key, root = path.name, str(path.parent)
    with failures.translated(failures.while_reading, key, root):
        fd = await finished(os.open, path, os.O_RDONLY | os.O_CLOEXEC)
    return Pieces(fd, Span(part.start, part.stop), key=key, root=root)
