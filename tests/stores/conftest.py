import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from entrepot.index import Store
from entrepot.stores import Remote, open_store
from entrepot.stores.disk import Disk
from entrepot.stores.fresh import Fresh
from entrepot.stores.memory import Memory
from tests.servers.buckets import SERVERS, Bucket

Driver = Callable[[Path], AbstractAsyncContextManager[Store]]


@asynccontextmanager
async def _memory(_folder: Path) -> AsyncIterator[Store]:
    store = Memory()
    try:
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def _disk(folder: Path) -> AsyncIterator[Store]:
    yield Disk.open(folder / "store", create=True)


@asynccontextmanager
async def _fresh(folder: Path) -> AsyncIterator[Store]:
    """As a server has a bucket: what it says is remembered for a second."""
    inner = Memory()
    store = Fresh(inner, folder / "node")
    try:
        yield store
    finally:
        await store.close()
        await inner.close()


def in_bucket(server: Callable[[], Bucket]) -> Driver:
    @asynccontextmanager
    async def opening(folder: Path) -> AsyncIterator[Store]:
        bucket = server()
        remote = Remote(folder=folder / "node", name="test", options=bucket.options, writer=not bucket.swaps)
        yield open_store(bucket.fresh(), remote, create=True)

    return opening


# A new driver is one line here, and then the whole of test_contract.py is about it as well.
DRIVERS: dict[str, Driver] = {
    "memory": _memory,
    "disk": _disk,
    "fresh": _fresh,
    **{name: in_bucket(server) for name, server in SERVERS.items()},
}
# For tests of what is built on stores, where every real server would take minutes.
FEW = ("memory", "disk", "fresh", "rgw")
# Whose etags change with every write, so that a delete on a condition is exact.
EXACT = ("memory", "disk", "fresh")


@pytest.fixture(params=DRIVERS)
def driver(request: pytest.FixtureRequest) -> Driver:
    return DRIVERS[request.param]


@pytest.fixture
async def store(driver: Driver, tmp_path: Path) -> AsyncIterator[Store]:
    async with driver(tmp_path) as store:
        yield store


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    return Disk.open(tmp_path / "store", create=True)


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that other users may enter, which pytest's own is not."""
    with tempfile.TemporaryDirectory(prefix="entrepot-tests-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)
