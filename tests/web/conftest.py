"""The servers of these tests: each runs for the whole session, and each test takes a project of its own."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from entrepot import config
from tests.e2e.servers import Options, Server
from tests.web import fronts
from tests.web.fronts import Front, Loop

KINDS = ("asgi", "http1")
SENDERS = ("asgi", "asgi-paths", "http1")  # the second runs under a server that sends files by path
WITHHELD = "withheld-1.0-py3-none-any.whl"  # lies in the folder index, and is not shown
TAKEN = "taken-1.0-py3-none-any.whl"  # the same, for the one test that publishes under its name
TRUSTED = "127.0.0.9"  # the address from which our trusted proxy comes

# One index of each sort, and limits that a test can reach.
MAIN = f"""
[server]
max-upload = "1 MiB"
stall = "1 s"
hosts = ["Packages.Example"]
trusted-proxies = ["{TRUSTED}"]
[index.private]
type = "hosted"
[index.secret]
type = "hosted"
read = "token"
[index.mixed]
type = "virtual"
of = ["secret", "private"]
[index.wheels]
type = "folder"
path = "wheels"
[index.readers]
type = "virtual"
of = ["wheels"]
[index.root]
type = "virtual"
of = ["private", "wheels"]
"""
BELOW = f"""
[server]
path = "/sub/pypi"
max-uploads = 2
max-age = "10 min"
trusted-proxies = ["{TRUSTED}"]
[access]
open = true
[index.private]
type = "hosted"
[index.root]
type = "virtual"
of = ["private"]
"""


class Fronts:
    """Makes fronts, and ends them all."""

    def __init__(self, folder: Path, loop: Loop) -> None:
        self._folder = folder
        self._loop = loop
        self._ending = ExitStack()
        self._made: dict[tuple[str, str], Front] = {}

    def main(self, kind: str) -> Front:
        return self._once(kind, "main", MAIN)

    def below(self, kind: str) -> Front:
        return self._once(kind, "below", BELOW)

    def _once(self, kind: str, name: str, text: str) -> Front:
        if (kind, name) not in self._made:
            self._made[kind, name] = self.make(kind, text)
        return self._made[kind, name]

    def make(
        self, kind: str, text: str = "", *, data: Path | None = None, wheels: Mapping[str, bytes] | None = None,
        **changes: Any,
    ) -> Front:  # fmt: skip
        """A server of its own, with `wheels` in its folder. `changes` are of the `Site`: for fronts in process only."""
        home = self._folder / fronts.fresh("home")
        settings = _settings(text, home, data or home / "data")
        (home / "wheels").mkdir()
        for filename, content in {**dict.fromkeys((WITHHELD, TAKEN), b"this is no archive"), **(wheels or {})}.items():
            (home / "wheels" / filename).write_bytes(content)
        if kind != "http1":
            front, site = fronts.in_process(settings, self._loop, home / "log", paths=kind == "asgi-paths", **changes)
            running = fronts.started(site)
            self._loop.run(running.__aenter__())
            self._ending.callback(lambda: self._loop.run(running.__aexit__(None, None, None)))
            return front
        assert not changes
        server = Server(Options(data=Path(settings.data), config=(home / "entrepot.toml").read_text()), home / "server")
        server.start()
        self._ending.callback(server.end)
        return fronts.of_process(server, settings, self._loop, home / "server" / "stdout")

    def end(self) -> None:
        self._ending.close()


def _settings(text: str, home: Path, data: Path) -> config.Config:
    home.mkdir()
    # The process has its file elsewhere, so that what is relative must be made absolute.
    absolute = text.replace('path = "wheels"', f'path = "{home / "wheels"}"')
    file = home / "entrepot.toml"
    file.write_text(f'data = "{data}"\n{absolute}', encoding="utf-8")
    return config.load(file)


@pytest.fixture(scope="session")
def loop() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    loop.close()


@pytest.fixture(scope="session")
def every(tmp_path_factory: pytest.TempPathFactory, loop: Loop) -> Iterator[Fronts]:
    every = Fronts(tmp_path_factory.mktemp("web"), loop)
    yield every
    every.end()


@pytest.fixture(params=KINDS)
def front(request: pytest.FixtureRequest, every: Fronts) -> Front:
    """Each front, with the indexes of `MAIN`."""
    return every.main(request.param)


@pytest.fixture(params=KINDS)
def below(request: pytest.FixtureRequest, every: Fronts) -> Front:
    """Each front, in a sub-path, and open to writers without a token."""
    return every.below(request.param)


@pytest.fixture
def asgi(every: Fronts) -> Front:
    """The ASGI front alone: for what a test must hold in its hands."""
    return every.main("asgi")


@pytest.fixture
def process(every: Fronts) -> Front:
    """Our own server alone: for what needs sockets."""
    return every.main("http1")


@pytest.fixture(scope="session")
def make(every: Fronts) -> Callable[..., Front]:
    """A server for one test or module."""
    return every.make
