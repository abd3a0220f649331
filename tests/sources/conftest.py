from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from entrepot.combine import First, Remembered
from entrepot.index import Index, Sink, Source, Store
from entrepot.sources.folder import Folder
from entrepot.sources.hosted import Hosted
from entrepot.sources.names import Names
from entrepot.stores.disk import Disk
from entrepot.stores.memory import Memory
from entrepot.wire import filenames
from tests.servers.buckets import SERVERS
from tests.sources.samples import NOON, add, until
from tests.stores import conftest as stores


@dataclass(frozen=True)
class Shop:
    """A source, and how its files come and go. Both return when the source has noticed."""

    source: Source
    put: Callable[[str, bytes], Awaitable[None]]
    take: Callable[[str], Awaitable[None]]


Driver = Callable[[Path], AbstractAsyncContextManager[Shop]]


def hosted_over(open_store: stores.Driver) -> Driver:
    @asynccontextmanager
    async def opening(folder: Path) -> AsyncIterator[Shop]:
        async with open_store(folder) as store:
            hosted = Hosted("main", store)

            async def put(filename: str, data: bytes) -> None:
                metadata = b"Name: of " + filename.encode()
                await add(hosted, filename, data=data, metadata=metadata)

            async def take(filename: str) -> None:
                project = filenames.parse(filename).project
                await hosted.remove(project, frozenset({filename}), by="test", now=NOON)

            yield Shop(hosted, put, take)

    return opening


@asynccontextmanager
async def a_folder(folder: Path) -> AsyncIterator[Shop]:
    root = folder / "dist"
    root.mkdir()
    source = Folder("main", (root,), learned=folder / "learned", names=Names(Memory(), "main"), every=0.002)

    async def noticed(filename: str, change: Callable[[], object]) -> None:
        project = filenames.parse(filename).project
        before = await source.revision(project)
        change()

        async def changed() -> bool:
            return await source.revision(project) != before

        await until(changed, what=f"{filename} is noticed")

    async def put(filename: str, data: bytes) -> None:
        def write() -> None:
            draft = folder / "draft"
            draft.write_bytes(data)
            draft.rename(root / filename)

        await noticed(filename, write)

    async def take(filename: str) -> None:
        await noticed(filename, (root / filename).unlink)

    async with source.running():
        yield Shop(source, put, take)


# A later source is one line here, and then the whole of test_source_contract.py is about it as well.
SOURCES: dict[str, Driver] = {
    **{f"hosted-{name}": hosted_over(driver) for name, driver in stores.DRIVERS.items()},
    "folder": a_folder,
}

# And a later sink is one here, for test_sink_contract.py.
SINKS: dict[str, Callable[[Store], Sink]] = {"hosted": lambda store: Hosted("main", store)}

# What an index may be wrapped in without its answers being others.
WRAPPERS: dict[str, Callable[[Index], Index]] = {
    "alone": lambda index: index,
    "first": lambda index: First([Hosted("empty", Memory()), index]),
    "remembered": lambda index: Remembered(index, clock=lambda: NOON),
}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Wrappers are tried over what is quick: they see a source, not what it is made of."""

    def is_needless(item: pytest.Item) -> bool:
        params = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
        return (
            params.get("index", "alone") != "alone" and str(params.get("shop", "")).removeprefix("hosted-") in SERVERS
        )

    needless = [item for item in items if is_needless(item)]
    if needless:
        items[:] = [item for item in items if not is_needless(item)]
        config.hook.pytest_deselected(items=needless)


@pytest.fixture(params=SOURCES)
async def shop(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Shop]:
    async with SOURCES[request.param](tmp_path) as shop:
        yield shop


@pytest.fixture(params=WRAPPERS)
def index(request: pytest.FixtureRequest, shop: Shop) -> Index:
    """What the shop offers, as it is and wrapped."""
    return WRAPPERS[request.param](shop.source)


@pytest.fixture(params=stores.FEW)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    async with stores.DRIVERS[request.param](tmp_path) as store:
        yield store


@pytest.fixture(params=SINKS)
def sink(request: pytest.FixtureRequest, store: Store) -> Sink:
    return SINKS[request.param](store)


@pytest.fixture
def hosted(store: Store) -> Hosted:
    return Hosted("main", store)


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    return Disk.open(tmp_path / "store", create=True)


@pytest.fixture
def unsynced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Durability is tested elsewhere; here it would only take time."""

    def no_fsync(_: int) -> None:
        return None

    monkeypatch.setattr("os.fsync", no_fsync)
