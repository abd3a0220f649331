from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from entrepot.archives import Archives, HostedArchives, TychoArchives
from entrepot.index import Store
from entrepot.stores.disk import Disk
from tests.archives.oldtool import OldTool
from tests.stores import conftest as stores

# A later layout is one line here, and then the whole of test_contract.py is about it as well.
LAYOUTS: dict[str, Callable[[Store], Archives]] = {
    "entrepot": lambda store: HostedArchives(store, "private"),
    "tycho": TychoArchives,
}


@pytest.fixture(params=stores.DRIVERS)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    async with stores.DRIVERS[request.param](tmp_path) as store:
        yield store


@pytest.fixture(params=LAYOUTS)
def layout(request: pytest.FixtureRequest) -> Callable[[Store], Archives]:
    return LAYOUTS[request.param]


@pytest.fixture
def archives(layout: Callable[[Store], Archives], store: Store) -> Archives:
    return layout(store)


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    return Disk.open(tmp_path / "store", create=True)


@pytest.fixture
def old(disk: Disk) -> OldTool:
    """Somebody who uses tycho on the same bucket."""
    return OldTool(disk.root)


@pytest.fixture
def ours(disk: Disk) -> TychoArchives:
    return TychoArchives(disk)
