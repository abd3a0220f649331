"""The Simple API and the legacy JSON API, for when the hot path has no ready answer."""

from collections.abc import Sequence
from urllib.parse import quote

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from entrepot.access import Caller
from entrepot.errors import NotFound
from entrepot.index import Catalog, Mounted
from entrepot.model import Project, ProjectName, is_valid_name, normalise
from entrepot.stores.documents import gathered
from entrepot.web import answers, problems, warm
from entrepot.web.answers import Kept
from entrepot.web.cache import ReadyCache, variant
from entrepot.web.listed import Listed
from entrepot.web.site import Site, check_read
from entrepot.wire import filenames, legacy_json, metadata, simple_html, simple_json
from entrepot.wire.metadata import CoreMetadata
from entrepot.wire.negotiate import Format

_VARY_PAGE = "Accept, Accept-Encoding"
_LONGEST_NAME = 250  # characters: stores keep "NAME.json", and file systems take 255 bytes
_VARY_JSON = "Accept-Encoding"
_BEFORE_NAMES = frozenset({"simple", "files", "pypi", "local", "explain"})
_OFFERED = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html, text/html"


class Pages(Struct, frozen=True):
    """The handlers of pages."""

    site: Site
    cache: ReadyCache

    async def project(self, request: Request) -> Response | Kept:
        """`GET /{index}/simple/{project}/`"""
        return await self._project(request, files="../../files/")

    async def short(self, request: Request) -> Response | Kept:
        """`GET /{index}/local/{project}/`"""
        return await self._project(request, files="../files/")

    async def _project(self, request: Request, *, files: str) -> Response | Kept:
        mounted, name = self.site.mounted(request), named(request)
        if request.path_params["project"] != name:
            return moved(self.site, request, name)
        caller = await identified(self.site, request)
        check_read(mounted, caller, name)
        format_ = chosen(request)
        if format_ is None:
            return not_acceptable(request)
        # Before the page: a page newer than its revision is asked for again, an older one never kept.
        revision = await mounted.index.revision(name)
        try:
            page = await mounted.index.project(name)
        except NotFound:
            if mounted.fallback is None:
                raise
            return elsewhere(await mounted.fallback(name))
        prefix = f"{files}{name}/"
        render = simple_json.render if format_ is Format.JSON else simple_html.render
        coding = coding_for(request)
        ready = await answers.page(
            self.site, mounted, name, revision, body=render(page, prefix=prefix), coding=coding, vary=_VARY_PAGE,
            content_type=format_.content_type.decode(), valid_until=page.valid_until, stale_since=page.stale_since,
        )  # fmt: skip
        return Kept(ready, request, self.cache, variant(format_, coding))

    async def projects(self, request: Request) -> Response | Kept | Listed:
        """`GET /{index}/simple/`, with `?all=1` also what upstream has."""
        mounted = self.site.mounted(request)
        caller = await identified(self.site, request)
        if not mounted.guarded or caller.token is None:
            check_read(mounted, caller)
        format_ = chosen(request)
        if format_ is None:
            return not_acceptable(request)
        if request.query_params.get("all") == "1" and mounted.everything is not None:
            return await self._everything(request, mounted, caller, format_)
        revision = await mounted.index.revision(None)
        names = [name async for name in mounted.index.projects()]
        render = simple_json.render_list if format_ is Format.JSON else simple_html.render_list
        coding = coding_for(request)
        ready = await answers.page(
            self.site, mounted, None, revision, body=render(readable(names, mounted, caller)),
            content_type=format_.content_type.decode(), coding=coding, vary=_VARY_PAGE, valid_until=None,
        )  # fmt: skip
        # What a token may see of a guarded index is its own business, so only open lists are kept.
        kept = self.cache if not mounted.guarded else ReadyCache(0)
        return Kept(ready, request, kept, variant(format_, coding))

    async def _everything(self, request: Request, mounted: Mounted, caller: Caller, format_: Format) -> Listed:
        """No ETag: nobody has seen all of it before it leaves."""
        assert mounted.everything is not None
        names = await mounted.everything()
        coding = coding_for(request)
        headers = answers.stream_headers(
            self.site, mounted, content_type=format_.content_type.decode(), coding=coding, vary=_VARY_PAGE,
            stale_since=names.stale_since, private="authorization" in request.headers,
        )  # fmt: skip
        return Listed(
            names, lambda batch: readable(batch, mounted, caller), format_=format_, coding=coding, headers=headers
        )

    async def legacy(self, request: Request) -> Response | Kept:
        """`GET /{index}/pypi/{name}/json` and `…/{version}/json`, for Renovate, Dependabot and others."""
        mounted, name = self.site.mounted(request), named(request)
        if request.path_params["project"] != name:
            return moved(self.site, request, name)
        caller = await identified(self.site, request)
        check_read(mounted, caller, name)
        revision = await mounted.index.revision(name)
        page = await mounted.index.project(name)
        base = f"{base_url(self.site, request)}/{mounted.name}"
        links = legacy_json.Links(files=f"{base}/files/{name}/", project=f"{base}/simple/{name}/")
        wanted = request.path_params.get("version")
        version = filenames.latest(page.files) if wanted is None else _version_on(page, wanted)
        about = await described(self.site.catalog, page, version)
        if wanted is None or version is None:
            body = legacy_json.render_project(page, about, links=links)
        else:
            body = legacy_json.render_release(page, version, about, links=links)
        coding = coding_for(request)
        ready = await answers.page(
            self.site, mounted, name, revision, body=body, content_type="application/json", coding=coding,
            vary=_VARY_JSON, valid_until=page.valid_until, stale_since=page.stale_since,
        )  # fmt: skip
        # The body holds the host that the client used, so it is not kept under the path alone.
        return Kept(ready, request, ReadyCache(0), variant(None, coding))


async def identified(site: Site, request: Request) -> Caller:
    caller = await site.caller(request)
    request.state.token = caller.id
    return caller


def named(request: Request) -> ProjectName:
    """The normal form of the project that the URL names. Raises `NotFound` for what can be no name."""
    name: str = request.path_params["project"]
    if len(name) > _LONGEST_NAME or not is_valid_name(name):
        raise NotFound(f"{problems.shortened(name)!r} is no project name")
    return normalise(name)


def moved(site: Site, request: Request, name: ProjectName) -> Response:
    """301 to the same path with the normal form of the name (PEP 503); on our host, so that credentials stay."""
    segments = request.scope["path"].split("/")
    given = request.path_params["project"]
    # The index, a view and its day stand before it: it is the first that stands behind a word of ours.
    place = next(n for n, part in enumerate(segments) if part == given and segments[n - 1] in _BEFORE_NAMES)
    segments[place] = name
    return redirect(site, request, "/".join(segments))


def elsewhere(url: str) -> Response:
    """302 and never 301: the project may be published here later."""
    return RedirectResponse(url, 302, headers={"Cache-Control": "no-cache"})


def redirect(site: Site, request: Request, path: str) -> Response:
    """301 to another path with the same query. No host is named, so the client stays with the one that it knows."""
    prefix = site.proxies.prefix(peer(request), request.headers, site.path)
    query = request.scope["query_string"].decode("latin-1")
    target = f"{prefix}{quote(path)}{'?' if query else ''}{query}"
    return RedirectResponse(target, 301, headers={"Cache-Control": "no-cache"})


def peer(request: Request) -> str:
    return request.client.host if request.client else ""


def base_url(site: Site, request: Request) -> str:
    """Where the client sees this server: scheme, host and sub-path."""
    address = peer(request)
    base = site.proxies.base(address, request.headers, scheme=request.url.scheme)
    return base + site.proxies.prefix(address, request.headers, site.path)


def chosen(request: Request) -> Format | None:
    return warm.format_for(request.headers.get("accept"), request.query_params.get("format"))


def coding_for(request: Request) -> str:
    return warm.coding_for(request.headers.get("accept-encoding"))


def not_acceptable(request: Request) -> Response:
    return problems.answer(request, 406, f"this page can be had as {_OFFERED}", {"Vary": "Accept"})


def readable(names: Sequence[ProjectName], mounted: Mounted, caller: Caller) -> Sequence[ProjectName]:
    if not mounted.guarded:
        return names
    return [name for name in names if caller.may_read(mounted.guarded, name)]


def _version_on(page: Project, text: str) -> str:
    """The version as its files have it: people write 1.0.0 for 1.0, and 1.0-RC.1 for 1.0rc1 (PEP 440)."""
    wanted = metadata.parsed_version(text)
    if wanted is None:
        return text
    versions = {file.version for file in page.files}
    if str(wanted) in versions:
        return str(wanted)
    return next((version for version in versions if metadata.parsed_version(version) == wanted), str(wanted))


async def described(catalog: Catalog, page: Project, version: str | None) -> CoreMetadata | None:
    """The core metadata of a version as one of its wheels has it; None if no file there tells it."""
    for file in page.files:
        if file.version == version and file.core_metadata:
            with problems.lost(f"{file.filename}.metadata"):
                content = await catalog.sources[file.origin].open_metadata(page.name, file)
                return metadata.parse(await gathered(content))
    return None
