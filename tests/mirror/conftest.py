"""Real servers that mirror the double. Most tests share one, with projects of their own."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.processes import until
from tests.e2e.servers import Server, Servers
from tests.upstream.double import Upstream
from tests.upstream.stock import wheel

# The tests' second host is reached without the dead proxy of a clean environment.
NO_PROXY = dict.fromkeys(("no_proxy", "NO_PROXY"), "127.0.0.1,127.0.0.2,localhost")
CONFIG = """
[index.private]
type = "hosted"
[index.upstream]
type = "mirror"
url = "{url}"
{more}
[index.root]
type = "virtual"
of = ["private", "upstream"]
"""


@dataclass(frozen=True)
class Mirrored:
    """A server and what it mirrors."""

    server: Server
    upstream: Upstream


def acquainted(made: Mirrored) -> Mirrored:
    """The one byte by which a server learns whether a host honours ranges is of a file that no test counts."""
    item = wheel("acquainted")
    made.upstream.add("acquainted", item)
    assert made.server.get("/simple/acquainted/").status == 200
    until(lambda: made.upstream.asked(f"/files/acquainted/{item.filename}"), what="the first byte of a file")
    made.upstream.quiet()
    return made


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mirrored]:
    """One server and one upstream for all tests that leave both in order. What is asked for stays fresh."""
    servers = Servers(tmp_path_factory.mktemp("shared"))
    with Upstream() as upstream:
        config = CONFIG.format(url=upstream.url, more='private-addresses = true\nttl = "10 min"\n')
        yield acquainted(Mirrored(servers(config=config, env=NO_PROXY), upstream))
        servers.end()


@pytest.fixture(scope="session")
def always(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mirrored]:
    """The same, but no page is ever fresh."""
    servers = Servers(tmp_path_factory.mktemp("always"))
    with Upstream() as upstream:
        config = CONFIG.format(url=upstream.url, more='private-addresses = true\nttl = "0 s"\nprefetch = 0\n')
        yield acquainted(Mirrored(servers(config=config, env=NO_PROXY), upstream))
        servers.end()


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    """An upstream of the test's own."""
    with Upstream() as upstream:
        yield upstream


@pytest.fixture
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    servers = Servers(tmp_path_factory.mktemp("servers"))
    yield servers
    servers.end()


Mirror = Callable[..., Server]


@pytest.fixture
def mirror(serve: Servers, upstream: Upstream) -> Mirror:
    """Starts a server of the test's own that mirrors `upstream`; keywords are the mirror's settings in TOML."""

    def start(
        *, url: str = "", workers: int = 1, args: tuple[str, ...] = (), top: str = "", env: dict[str, str] | None = None,
        data: Path | None = None, **settings: str,
    ) -> Server:  # fmt: skip
        given = {"private_addresses": "true", "timeout": '"2 s"', **settings}
        more = "\n".join(f"{key.replace('_', '-')} = {value}" for key, value in given.items() if value)
        config = top + CONFIG.format(url=url or upstream.url, more=more)
        return serve(data=data, config=config, workers=workers, args=args, env={**NO_PROXY, **(env or {})})

    return start
