"""The app over indexes in memory, with mirrors that say what they were asked."""

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager, contextmanager
from datetime import datetime

from entrepot.access import Permission, Tokens
from entrepot.config import IndexSettings
from entrepot.index import Catalog, Source
from entrepot.stores.memory import Memory
from entrepot.web import AsgiSite, Site
from tests.e2e.raw import Answer, basic
from tests.indexes import NOON, catalog
from tests.web.fronts import JSON, Driver, File, Headers, Loop, started


class Doubled:
    """What a test asks. `catalog` is what is served."""

    def __init__(self, driver: Driver, made: Catalog, tokens: Tokens, loop: Loop) -> None:
        self.ask = driver
        self.catalog = made
        self._tokens = tokens
        self._loop = loop

    def get(self, target: str, headers: Headers = ()) -> Answer:
        return self.ask("GET", target, headers)

    def filenames(self, target: str) -> list[str]:
        answer = self.get(target, {"Accept": JSON})
        assert answer.status == 200, answer
        return [file["filename"] for file in answer.json()["files"]]

    def token(self, *can: Permission, projects: tuple[str, ...] = ("*",)) -> str:
        return self._loop.run(self._tokens.create("somebody", can=can, now=NOON, projects=projects))[0]

    def upload(self, file: File, token: str = "", *, index: str = "") -> Answer:
        form = file.form()
        headers = {**form.headers, **({"Authorization": basic(token)} if token else {})}
        return self.ask("POST", f"{index}/legacy/", headers, b"".join(form.body()))


@contextmanager
def doubled(
    loop: Loop, index: Mapping[str, IndexSettings], *sources: Source, clock: Callable[[], datetime] = lambda: NOON,
    open_writes: bool = False,
) -> Iterator[Doubled]:  # fmt: skip
    made, tokens = catalog(index, *sources, clock=clock), Tokens(Memory())

    @asynccontextmanager
    async def opening() -> AsyncIterator[Site]:
        yield Site(catalog=made, tokens=tokens, clock=clock, open=open_writes)

    site = AsgiSite(opening)
    with ExitStack() as ending:
        running = started(site)
        loop.run(running.__aenter__())
        ending.callback(lambda: loop.run(running.__aexit__(None, None, None)))
        yield Doubled(Driver(site, loop, paths=False), made, tokens, loop)
