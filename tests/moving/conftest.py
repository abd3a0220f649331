"""Two stores, one to copy from and one to copy to, over every pair of drivers."""

from collections.abc import AsyncIterator
from itertools import product
from pathlib import Path

import pytest

from entrepot.index import Store
from entrepot.sources.hosted import Hosted
from tests.stores import conftest as stores

LOCAL = ("memory", "disk")
# And a bucket with a disk at the other end. What the others do differently is the store contract's business.
PAIRS = {
    f"{one} to {other}": (one, other) for one, other in (*product(LOCAL, repeat=2), ("moto", "disk"), ("disk", "moto"))
}


@pytest.fixture(params=PAIRS)
async def pair(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[tuple[Store, Store]]:
    one, other = PAIRS[request.param]
    for name in ("source", "target"):
        (tmp_path / name).mkdir()
    async with stores.DRIVERS[one](tmp_path / "source") as source, stores.DRIVERS[other](tmp_path / "target") as target:
        yield source, target


@pytest.fixture
def source(pair: tuple[Store, Store]) -> Store:
    return pair[0]


@pytest.fixture
def target(pair: tuple[Store, Store]) -> Store:
    return pair[1]


@pytest.fixture
def main(source: Store) -> Hosted:
    """A hosted index of the source."""
    return Hosted("main", source)
