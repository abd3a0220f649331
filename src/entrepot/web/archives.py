"""`/{index}/archives/…`: versioned files that are no packages, their channels, and pushing them."""

import base64
import binascii
import hashlib
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import quote

import msgspec
from msgspec.structs import replace
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from entrepot.access import Caller, Permission
from entrepot.archives.model import Archive, Archives, Offer, Version, check_channel, check_version, exists
from entrepot.errors import Denied, Invalid, NotFound
from entrepot.http1 import Headers
from entrepot.index import Content, Elsewhere, Mounted, OnDisk, Revision, Span, Staged, Stream
from entrepot.model import ProjectName, normalise
from entrepot.web import answers, files, problems
from entrepot.web.files import Sent
from entrepot.web.pages import identified, peer
from entrepot.web.site import Site, allowed_on, check_read, may
from entrepot.web.upload import Intake, Uploads, chunks, patiently
from entrepot.web.warm import is_unchanged
from entrepot.wire import ranges

# RFC 9530: of several digests the one that we know. Content-Digest is the same here: nothing is coded.
_DIGEST = re.compile(r"(?:^|[\s,])sha-256=:([A-Za-z0-9+/=]{44}):")
_HEX = re.compile(r"[0-9a-fA-F]{64}\Z")


class ArchivePages:
    """The handlers."""

    def __init__(self, site: Site, uploads: Uploads) -> None:
        self._site = site
        self._uploads = uploads

    def routes(self, index: str) -> list[Route]:
        one, version = f"{index}/archives/{{name}}", f"{index}/archives/{{name}}/{{version:path}}"
        return [
            Route(f"{index}/archives/", self.listed, methods=["GET"]),
            Route(one, self.archive, methods=["GET", "PUT"]),
            Route(f"{one}/", self.archive, methods=["GET", "PUT"]),
            Route(version, self.version, methods=["GET", "PUT", "DELETE"]),
        ]

    async def listed(self, request: Request) -> Response:
        """`GET /{index}/archives/`"""
        mounted, archives = self._place(request)
        caller = await identified(self._site, request)
        if not mounted.guarded or caller.token is None:
            check_read(mounted, caller)
        found = [
            summary
            async for summary in archives.summaries()
            if caller.may_read(mounted.guarded, normalise(summary.name))
        ]
        return self._json(request, mounted, {"archives": found})

    async def archive(self, request: Request) -> Response:
        """`GET /{index}/archives/{name}`, and PUT to make an empty one."""
        mounted, archives = self._place(request)
        name: str = request.path_params["name"]
        if request.method == "PUT":
            await self._writer(request, mounted, "upload")
            localname = request.query_params.get("localname")
            if localname is None:
                raise Invalid("says what the file is called locally, and is missing", at="?localname=")
            made = await archives.init(name, localname)
            return _said(f"{'Initialized' if made else 'Already Initialized'}: {name}", 201 if made else 200)
        check_read(mounted, await identified(self._site, request), normalise(name))
        found = await archives.archive(name)
        # Who pushed it is told by the commands, to those who may read the store.
        shown = replace(found, versions=tuple(replace(one, by=None) for one in found.versions))
        return self._json(request, mounted, shown)

    async def version(self, request: Request) -> Response | Sent:
        """`/{index}/archives/{name}/{version}`; a channel in place of a version leads to it."""
        match request.method:
            case "PUT":
                return await patiently(self._put, request, self._site)
            case "DELETE":
                return await self._delete(request)
            case _:
                return await self._get(request)

    async def _get(self, request: Request) -> Response | Sent:
        mounted, archives = self._place(request)
        name: str = request.path_params["name"]
        check_read(mounted, await identified(self._site, request), normalise(name))
        archive = await archives.archive(name)
        text: str = request.path_params["version"]
        if text in archive.channels:
            return self._moved(request, text, archive.channels[text])
        return await self._file(request, mounted, archives, archive, archive.version(text))

    async def _file(
        self, request: Request, mounted: Mounted, archives: Archives, archive: Archive, version: Version
    ) -> Response | Sent:
        part = files.asked_part(request, version.size, version.etag)
        if isinstance(part, ranges.Unsatisfiable):
            return files.beyond(part)
        with problems.lost(f"version {version.version} of {archive.name}"):
            if request.method == "HEAD":  # whether they are there, without reading any
                content = await archives.open(archive.name, version, Span(0, 0))
            else:
                content = await _opened(archives, archive.name, version, part)
        if isinstance(content, Elsewhere):
            return RedirectResponse(content.url, 302, headers={"Cache-Control": "no-store"})
        ready = answers.file(
            mounted, ProjectName(archive.name), Revision(""), headers=_headers(archive, version), etag=version.etag,
            size=version.size, kept=content if isinstance(content, OnDisk) else None,
        )  # fmt: skip
        return Sent(ready, content, version.size, part)

    async def _put(self, request: Request) -> Response:
        mounted, archives = self._place(request)
        caller = await self._writer(request, mounted, "upload")
        name: str = request.path_params["name"]
        text: str = request.path_params["version"]
        target = request.query_params.get("version")
        if target is not None:
            await archives.promote(name, text, target)
            return _said(f"{text} of {name} is version {target}", 200)
        channel = request.query_params.get("promote")
        check_version(text)
        if channel is not None:
            check_channel(channel)
        self._uploads.refuse_too_large(request)
        told = _told(request)
        if told is not None and await _has(archives, name, text, told):
            added, sha256 = False, told  # the body need not come
            if channel is not None:
                await archives.promote(name, channel, text)
        else:
            async with self._uploads.place(), self._offered(request, mounted, caller, told) as offer:
                added, sha256 = await archives.push(name, text, offer, channel=channel), offer.sha256
        words = "Pushed" if added else "Already here, with the same bytes"
        return _said(f"{words}: {name} {text}, sha256 {sha256}", 201 if added else 200, {"ETag": f'"{sha256}"'})

    async def _delete(self, request: Request) -> Response:
        mounted, archives = self._place(request)
        caller = await self._writer(request, mounted, "manage")
        name, version = request.path_params["name"], request.path_params["version"]
        await archives.remove(name, version, by=caller.name, now=self._site.clock())
        return _said(f"Deleted: {name} {version}", 200)

    @asynccontextmanager
    async def _offered(
        self, request: Request, mounted: Mounted, caller: Caller, told: str | None
    ) -> AsyncIterator[Offer]:  # fmt: skip
        """What the body brings, staged for as long as the block runs, and of the digest that was announced."""
        assert mounted.sink is not None
        intake = Intake(mounted.sink.staging, self._site.max_upload, only_sha256=True)
        try:
            async for chunk in chunks(request, self._site):
                await intake.take(chunk)
            staged = await intake.stage()
            if told not in {None, staged.sha256}:
                words = f"the body has the sha256 {staged.sha256} and not {told}"
                raise Invalid(words, at="Repr-Digest", hint="it was changed on its way: send it again")
            yield self._offer(request, caller, staged)
        finally:
            await intake.drop()

    def _offer(self, request: Request, caller: Caller, staged: Staged) -> Offer:
        return Offer(
            filename=request.query_params.get("filename", request.path_params["name"]),
            size=staged.size,
            sha256=staged.sha256,
            body=lambda: staged,
            by=caller.name,
            now=self._site.clock(),
        )

    def _place(self, request: Request) -> tuple[Mounted, Archives]:
        """The index of the request, and where its archives are kept: with the files that are published to it."""
        mounted = self._site.mounted(request)
        archives = self._site.archives.get(mounted.sink.name) if mounted.sink is not None else None
        if archives is None:
            raise NotFound(f"index {mounted.name} keeps no archives", hint="it has no hosted member")
        return mounted, archives

    async def _writer(self, request: Request, mounted: Mounted, permission: Permission) -> Caller:
        """Raises `Unauthorised`, `Denied`. Grants for projects count for the archives of that name."""
        caller = await self._site.writer(request)
        request.state.token = caller.id
        name: str = request.path_params["name"]
        if not may(caller, permission, mounted, normalise(name)):
            where = " or ".join(allowed_on(mounted))
            raise Denied(f"{caller.name} may not {permission} archive {problems.shortened(name)} of index {where}")
        return caller

    def _moved(self, request: Request, channel: str, version: str) -> Response:
        """302 to the version where the channel points now; on the host that the client knows."""
        prefix = self._site.proxies.prefix(peer(request), request.headers, self._site.path)
        folder = request.scope["path"].removesuffix(channel)
        target = f"{prefix}{quote(folder)}{quote(version, safe='')}"
        return RedirectResponse(target, 302, headers={"Cache-Control": "no-cache"})

    def _json(self, request: Request, mounted: Mounted, value: object) -> Response:
        body = msgspec.json.encode(value)
        etag = f'"{hashlib.blake2b(body, digest_size=16).hexdigest()}"'
        private = mounted.guarded or "authorization" in request.headers
        cache = "private, no-cache" if private else "no-cache"
        headers = {"ETag": etag, "Cache-Control": cache, "X-Content-Type-Options": "nosniff"}
        wanted = request.headers.get("if-none-match")
        if wanted is not None and is_unchanged(wanted, etag):
            return Response(status_code=304, headers=headers)
        return Response(body, media_type="application/json", headers=headers)


async def _opened(archives: Archives, name: str, version: Version, part: range | None) -> Content:
    """The whole file where it can be sent by path, of which a part goes out without a copy in our memory."""
    content = await archives.open(name, version)
    if part is None or not isinstance(content, Stream):
        return content
    await files.close(content.body)
    return await archives.open(name, version, Span(part.start, part.stop))


async def _has(archives: Archives, name: str, version: str, sha256: str) -> bool:
    """Whether these bytes are there already. Raises `Conflict` if others are: before all of them have come."""
    try:
        known = (await archives.archive(name)).version(version)
    except NotFound:
        return False
    if known.sha256 != sha256:
        raise exists(name, version)
    return True


def _told(request: Request) -> str | None:
    """The sha256 that the client announces, by a header or in the query. Raises `Invalid`."""
    text = request.query_params.get("sha256")
    if text is not None:
        if not _HEX.match(text):
            raise Invalid("is no sha256: 64 hexadecimal digits", at="?sha256=")
        return text.lower()
    header = request.headers.get("repr-digest") or request.headers.get("content-digest") or ""
    if "sha-256" not in header:
        return None
    found = _DIGEST.search(header)
    try:
        digest = base64.b64decode(found[1], validate=True) if found is not None else b""
    except binascii.Error:
        digest = b""
    if len(digest) != hashlib.sha256().digest_size:
        raise Invalid("holds no sha-256 as RFC 9530 has it: sha-256=:BASE64:", at="Repr-Digest")
    return digest.hex()


def _headers(archive: Archive, version: Version) -> Headers:
    fields = [
        ("content-type", "application/octet-stream"),
        ("content-disposition", files.attached(version.filename or archive.localname or archive.name)),
        ("content-length", str(version.size)),
        ("accept-ranges", "bytes"),
        ("x-content-type-options", "nosniff"),
    ]
    if version.sha256 is not None:
        digest = base64.b64encode(bytes.fromhex(version.sha256)).decode()
        fields.append(("repr-digest", f"sha-256=:{digest}:"))
    return fields


def _said(text: str, status: int, headers: dict[str, str] | None = None) -> Response:
    fixed = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store", **(headers or {})}
    return Response(f"{text}\n", status, headers=fixed, media_type="text/plain")
