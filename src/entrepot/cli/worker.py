"""What a worker process runs. Forked from a parent that has imported all of it."""

import asyncio
import gc
import signal
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import uvloop

from entrepot import units
from entrepot.assembly import is_loopback, now, running
from entrepot.config import Config
from entrepot.errors import Invalid
from entrepot.http1 import Serving
from entrepot.web import Site, fronted
from entrepot.web.access_log import to_stdout
from entrepot.web.proxies import Proxies

ENDINGS = (signal.SIGTERM, signal.SIGINT)


def work(config: Config, listener: socket.socket, *, started: Callable[[], None]) -> None:
    """Serve at the socket until SIGTERM or SIGINT. It calls `started` when it can serve."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(config, listener, started))


async def _serve(config: Config, listener: socket.socket, started: Callable[[], None]) -> None:
    loop, end = asyncio.get_running_loop(), asyncio.Event()
    for ending in ENDINGS:
        loop.add_signal_handler(ending, end.set)
    # Held back since the fork, where a handler was missing.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDINGS)
    # Threads parse large pages: the event loop has a turn after half a millisecond, not after five.
    sys.setswitchinterval(0.0005)
    async with fronted(lambda: site(config), to_stdout(config.server.log)) as front:
        serving = Serving(front, stall=units.seconds(config.server.stall))
        await serving.listen([listener], tls(config))
        # Pages are thousands of small objects that never form cycles: the collector looks at them in vain, for a
        # quarter of the time that a large page takes.
        gc.freeze()
        gc.set_threshold(50_000, 20, 50)
        started()
        await end.wait()
        await serving.stop()


def tls(config: Config) -> ssl.SSLContext | None:
    """None without TLS. Raises `Invalid` for what is no certificate with its key."""
    server = config.server
    if server.tls_cert is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(server.tls_cert, server.tls_key, password="")  # else it would ask a terminal for one
    except ssl.SSLError as error:
        fault = f"is no certificate in PEM with {server.tls_key} as its open key: {error.reason or error}"
        raise Invalid(fault, at=server.tls_cert, hint="see --tls-cert and --tls-key") from error
    context.set_alpn_protocols(["http/1.1"])
    return context


@asynccontextmanager
async def site(config: Config) -> AsyncIterator[Site]:
    """The collaborators of one worker, as the configuration has them."""
    server = config.server
    async with running(config) as assembled:
        yield Site(
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
            instance=assembled.instance,
            archives=assembled.archives,
        )
