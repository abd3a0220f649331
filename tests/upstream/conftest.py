"""The double, for the tests of itself."""

from collections.abc import Iterator

import pytest

from tests.upstream.double import Upstream


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as upstream:
        yield upstream
