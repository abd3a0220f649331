"""What a worker process runs. Imported by name in each of them, so it stays small."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from entrepot import units
from entrepot.assembly import is_loopback, now, running
from entrepot.config import Config
from entrepot.web import RsgiSite, Site
from entrepot.web.access_log import to_stdout
from entrepot.web.proxies import Proxies


def load(config: Config, *, started: Callable[[], None]) -> RsgiSite:
    """The app for a configuration. It calls `started` when it can serve."""
    server = config.server

    @asynccontextmanager
    async def opening() -> AsyncIterator[Site]:
        async with running(config) as assembled:
            site = Site(
                catalog=assembled.catalog,
                tokens=assembled.tokens,
                clock=now,
                proxies=Proxies(server.trusted_proxies),
                loopback=is_loopback(config),
                hosts=(server.host, *server.hosts),
                path=server.path,
                open=config.access.open,
                max_upload=units.size(server.max_upload),
                # The limit is the node's: workers share it without asking one another.
                max_uploads=max(1, server.max_uploads // server.workers),
                stall=units.seconds(server.stall),
                page_cache=units.size(server.page_cache),
                max_age=int(units.seconds(server.max_age)),
            )
            started()
            yield site

    return RsgiSite(opening, to_stdout(server.log))
