"""The whole app: routes in one table, errors in one table, the hot path in front."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from msgspec.structs import replace
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from entrepot import __version__
from entrepot.errors import Conflict, Denied, Invalid, NotFound, Unavailable
from entrepot.http1 import plain
from entrepot.web import asgi, problems, views
from entrepot.web.access_log import AccessLog
from entrepot.web.archives import ArchivePages
from entrepot.web.cache import ReadyCache
from entrepot.web.explanations import Explanations
from entrepot.web.files import Files
from entrepot.web.front import Front
from entrepot.web.older import Older
from entrepot.web.pages import Pages, base_url, redirect
from entrepot.web.problems import Unauthorised
from entrepot.web.site import Site
from entrepot.web.upload import Uploads
from entrepot.web.warm import Warm

Opening = Callable[[], AbstractAsyncContextManager[Site]]


class AsgiSite:
    """A plain ASGI app. `opening` gives the site, and owns what must be closed when the server stops."""

    def __init__(self, opening: Opening, log: AccessLog | None = None) -> None:
        self._opening = opening
        self._log = log
        self._front: asgi.Front | None = None
        self._lifespan = Starlette(lifespan=self._running)

    async def __call__(self, scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
        if scope["type"] != "http":
            await self._lifespan(scope, receive, send)
        elif self._front is not None:
            await self._front(scope, receive, send)
        else:  # a 404 would send clients to another index
            await asgi.send_answer(send, plain(503, "the server is starting or stopping"))

    @asynccontextmanager
    async def _running(self, _: Starlette) -> AsyncIterator[None]:
        async with self._opening() as site, _logging(self._log):
            self._front = asgi.Front(*_assembled(site, self._log))
            yield
            self._front = None


@asynccontextmanager
async def fronted(opening: Opening, log: AccessLog | None = None) -> AsyncIterator[Front]:
    """The same for our own server."""
    async with opening() as site, _logging(log):
        yield Front(*_assembled(site, log))


@asynccontextmanager
async def _logging(log: AccessLog | None) -> AsyncIterator[None]:
    if log is None:
        yield
        return
    log.start()
    try:
        yield
    finally:
        log.stop()


def _assembled(site: Site, log: AccessLog | None) -> tuple[Warm, Starlette]:
    """The hot path of one site, and the app behind it."""
    cache = ReadyCache(site.page_cache)
    return Warm(site, cache, log), behind(site, cache)


def behind(site: Site, cache: ReadyCache) -> Starlette:
    """Every route and every error in one table each."""
    uploads, about, explanations = Uploads(site), About(site), Explanations(site)
    archives = ArchivePages(site, uploads)
    older = Older(site, uploads, Files(site, cache))
    routes = [
        *older.packages(),
        Route("/", about.front, methods=["GET"]),
        Route("/health", about.health, methods=["GET"]),
        Route("/ready", about.ready, methods=["GET"]),
    ]
    for index in ("", "/{index}"):  # the default index also answers without its name
        routes += [
            *_reading(site, cache, index),
            Route(f"{index}/legacy", uploads.legacy, methods=["POST"]),
            Route(f"{index}/legacy/", uploads.legacy, methods=["POST"]),
            Route(f"{index}/archives", about.with_slash, methods=["GET"]),
            *archives.routes(index),
            Route(f"{index}/explain/{{project}}", about.with_slash, methods=["GET"]),
            Route(f"{index}/explain/{{project}}/", explanations.project, methods=["GET"]),
            *_view(replace(site, view=views.on_day(site.clock)), cache, f"{index}/+at/{{day}}"),
            *_view(replace(site, view=views.stored), cache, f"{index}/local"),
            *_short(replace(site, view=views.stored), cache, f"{index}/local"),
        ]
    routes += older.others()
    kinds = (NotFound, Denied, Conflict, Invalid, Unavailable)
    app = Starlette(
        routes=routes,
        exception_handlers={
            **dict.fromkeys(kinds, problems.on_error),
            Unauthorised: problems.on_unauthorised,
            HTTPException: problems.on_http,
            Exception: problems.on_bug,
        },
    )
    app.router.redirect_slashes = False  # it would answer 307 and with its own idea of the host
    return app


def _reading(site: Site, cache: ReadyCache, prefix: str) -> list[Route]:
    """What every index and every view of one answers to readers."""
    pages, files, about = Pages(site, cache), Files(site, cache), About(site)
    return [
        Route(f"{prefix}/simple", about.with_slash, methods=["GET"]),
        Route(f"{prefix}/simple/", pages.projects, methods=["GET"]),
        Route(f"{prefix}/simple/{{project}}", about.with_slash, methods=["GET"]),
        Route(f"{prefix}/simple/{{project}}/", pages.project, methods=["GET"]),
        Route(f"{prefix}/files/{{project}}/{{filename}}", files.file, methods=["GET"]),
        Route(f"{prefix}/pypi/{{project}}/json", pages.legacy, methods=["GET"]),
        Route(f"{prefix}/pypi/{{project}}/json/", pages.legacy, methods=["GET"]),
        Route(f"{prefix}/pypi/{{project}}/{{version}}/json", pages.legacy, methods=["GET"]),
        Route(f"{prefix}/pypi/{{project}}/{{version}}/json/", pages.legacy, methods=["GET"]),
    ]


def _view(site: Site, cache: ReadyCache, prefix: str) -> list[Route]:
    return [
        *_reading(site, cache, prefix),
        Route(f"{prefix}/legacy", views.no_uploads, methods=["POST"]),
        Route(f"{prefix}/legacy/", views.no_uploads, methods=["POST"]),
    ]


def _short(site: Site, cache: ReadyCache, prefix: str) -> list[Route]:
    """The pages without `simple`, as an older server had them. Behind the words that a project might be called."""
    pages, about = Pages(site, cache), About(site)
    return [
        Route(prefix, about.with_slash, methods=["GET"]),
        Route(f"{prefix}/", pages.projects, methods=["GET"]),
        Route(f"{prefix}/{{project}}", about.with_slash, methods=["GET"]),
        Route(f"{prefix}/{{project}}/", pages.short, methods=["GET"]),
    ]


class About:
    """What the server says of itself."""

    def __init__(self, site: Site) -> None:
        self._site = site

    async def health(self, request: Request) -> Response:  # noqa: ARG002
        """Alive: the process answers."""
        return PlainTextResponse("alive\n", headers={"Cache-Control": "no-store"})

    async def ready(self, request: Request) -> Response:  # noqa: ARG002
        """Every store answers. Raises `Unavailable` otherwise."""
        for store in self._site.catalog.stores.values():
            async for _ in store.list("access/"):
                break
        return PlainTextResponse("ready\n", headers={"Cache-Control": "no-store"})

    async def with_slash(self, request: Request) -> Response:
        """URLs of the Simple API end in "/" (PEP 503)."""
        return redirect(self._site, request, request.scope["path"] + "/")

    async def front(self, request: Request) -> Response:
        base = base_url(self._site, request)
        text = (
            f"entrepot {__version__}: a Python package index\n\n"
            f"install:  pip install --index-url {base}/simple/ NAME\n"
            f"          uv pip install --default-index {base}/simple/ NAME\n"
            f"publish:  twine upload --repository-url {base}/legacy/ -u __token__ -p TOKEN dist/*\n"
            f"          uv publish --publish-url {base}/legacy/ --token TOKEN dist/*\n"
            f"projects: {base}/simple/\n"
            f"kept:     {base}/local/ (what is stored here: no other index is asked)\n"
            f"fill:     curl -u __token__:TOKEN -F requirements=@requirements.txt {base}/requirements.txt\n"
            f"          curl -u __token__:TOKEN -F sdist=@dist/NAME-1.0.tar.gz {base}/uploadpackage/\n"
            f"files:    {base}/packages/source/N/NAME/NAME-1.0.tar.gz\n"
        )
        # The text repeats the Host header, which must not become HTML to anybody.
        return PlainTextResponse(text, headers={"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"})
