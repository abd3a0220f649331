"""The whole app: routes in one table, errors in one table, the hot path in front."""

import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from entrepot import __version__
from entrepot.errors import Conflict, Denied, Invalid, NotFound, Unavailable
from entrepot.web import problems
from entrepot.web.access_log import AccessLog
from entrepot.web.cache import ReadyCache
from entrepot.web.files import Files
from entrepot.web.hot import AsgiApp, Hot
from entrepot.web.pages import Pages, base_url, redirect
from entrepot.web.problems import Unauthorised
from entrepot.web.site import Site
from entrepot.web.upload import Uploads

Opening = Callable[[], AbstractAsyncContextManager[Site]]


def create_app(opening: Opening, log: AccessLog | None = None) -> AsgiApp:
    """A plain ASGI app. `opening` gives the site and owns whatever must be closed when the app stops."""
    return _Late(opening, log)


class _Late:
    """The app of a site that exists only once the server's event loop runs: built on `lifespan.startup`."""

    def __init__(self, opening: Opening, log: AccessLog | None) -> None:
        self._opening = opening
        self._log = log
        self._hot: AsgiApp | None = None
        self._lifespan = Starlette(lifespan=self._running)

    async def __call__(self, scope, receive, send) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
        if self._hot is not None and scope["type"] == "http":
            await self._hot(scope, receive, send)
        else:
            await self._lifespan(scope, receive, send)

    @contextlib.asynccontextmanager
    async def _running(self, _: Starlette) -> AsyncIterator[None]:
        async with self._opening() as site:
            if self._log is not None:
                self._log.start()
            self._hot = assembled(site, self._log)
            try:
                yield
            finally:
                self._hot = None
                if self._log is not None:
                    self._log.stop()


def assembled(site: Site, log: AccessLog | None) -> AsgiApp:
    """The routes of one site behind its hot path."""
    cache = ReadyCache(site.page_cache)
    pages, files, uploads, about = Pages(site, cache), Files(site, cache), Uploads(site), About(site)

    routes = [
        Route("/", about.front, methods=["GET"]),
        Route("/health", about.health, methods=["GET"]),
        Route("/ready", about.ready, methods=["GET"]),
    ]
    for index in ("", "/{index}"):  # the default index also answers without its name
        routes += [
            Route(f"{index}/simple", about.with_slash, methods=["GET"]),
            Route(f"{index}/simple/", pages.projects, methods=["GET"]),
            Route(f"{index}/simple/{{project}}", about.with_slash, methods=["GET"]),
            Route(f"{index}/simple/{{project}}/", pages.project, methods=["GET"]),
            Route(f"{index}/files/{{project}}/{{filename}}", files.file, methods=["GET"]),
            Route(f"{index}/pypi/{{project}}/json", pages.legacy, methods=["GET"]),
            Route(f"{index}/pypi/{{project}}/json/", pages.legacy, methods=["GET"]),
            Route(f"{index}/pypi/{{project}}/{{version}}/json", pages.legacy, methods=["GET"]),
            Route(f"{index}/pypi/{{project}}/{{version}}/json/", pages.legacy, methods=["GET"]),
            Route(f"{index}/legacy", uploads.legacy, methods=["POST"]),
            Route(f"{index}/legacy/", uploads.legacy, methods=["POST"]),
        ]
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
    app.router.redirect_slashes = False  # it would answer 307 and with our own idea of the host
    return Hot(app, site, cache, log)


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
        )
        return PlainTextResponse(text)
