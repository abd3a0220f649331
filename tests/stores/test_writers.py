"""Buckets without compare-and-swap: one node writes, the others say who it is, and two stop each other."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from entrepot.errors import Conflict, Unavailable
from entrepot.index import ABSENT, ANY, Store
from entrepot.sources.hosted import Hosted
from entrepot.stores import Remote, open_store, writers
from entrepot.stores.conditions import Conditions
from tests.servers.buckets import Bucket, moto, without_swaps
from tests.servers.faults import proxied
from tests.sources.samples import add, faults, shown, wheel_name
from tests.stores.test_contract import content


@pytest.fixture(scope="module")
def bucket() -> Bucket:
    return without_swaps()


@pytest.fixture
def url(bucket: Bucket) -> str:
    return bucket.fresh()


def node(bucket: Bucket, url: str, folder: Path, *, writer: bool) -> Store:
    remote = Remote(folder=folder, name="main", options=bucket.options, writer=writer, node=folder.name)
    return open_store(url, remote, create=True)


async def test_the_store_says_that_it_has_no_compare_and_swap(bucket: Bucket, url: str, tmp_path: Path) -> None:
    store = node(bucket, url, tmp_path / "first", writer=True)
    await store.prepare()  # type: ignore[attr-defined]
    assert not store.traits.compare_and_swap


async def test_conditions_hold_among_the_processes_of_the_writer(bucket: Bucket, url: str, tmp_path: Path) -> None:
    one, other = (node(bucket, url, tmp_path / "first", writer=True) for _ in range(2))
    etag = await one.write("a", b"1", expect=ABSENT)
    with pytest.raises(Conflict):
        await other.write("a", b"2", expect=ABSENT)
    await other.write("a", b"2", expect=etag)
    with pytest.raises(Conflict):
        await one.write("a", b"3", expect=etag)
    assert await content(one, "a") == b"2"


async def test_a_node_that_is_not_the_writer_reads_and_names_the_writer(
    bucket: Bucket, url: str, tmp_path: Path
) -> None:
    writer = Hosted("private", node(bucket, url, tmp_path / "alpha", writer=True))
    await add(writer, wheel_name())
    reader = node(bucket, url, tmp_path / "beta", writer=False)
    assert await shown(Hosted("private", reader)) == [wheel_name()]
    for refused in (
        add(Hosted("private", reader), wheel_name("2.0")),
        reader.write("a", b"1", expect=ANY),
        reader.delete("a", expect=ANY),
    ):
        with pytest.raises(Unavailable, match="one node alone writes to it: alpha") as caught:
            await refused
        assert caught.value.status == 503
    assert await faults(reader) == []


async def test_two_writers_stop_each_other(
    bucket: Bucket, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writers, "_VALID", 0.0)
    alpha, beta = (node(bucket, url, tmp_path / name, writer=True) for name in ("alpha", "beta"))
    await alpha.write("a", b"1", expect=ANY)
    with pytest.raises(Unavailable, match="beta and alpha, so neither writes"):
        await beta.write("a", b"2", expect=ANY)
    with pytest.raises(Unavailable, match="alpha and beta, so neither writes"):
        await alpha.write("a", b"3", expect=ANY)
    assert await content(alpha, "a") == b"1"


async def test_a_writer_that_went_away_is_forgotten(
    bucket: Bucket, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alpha, beta = (node(bucket, url, tmp_path / name, writer=True) for name in ("alpha", "beta"))
    await alpha.write("a", b"1", expect=ANY)
    monkeypatch.setattr(writers, "_ALIVE", 0.0)
    await beta.write("a", b"2", expect=ANY)
    assert await content(beta, "a") == b"2"


async def test_the_node_keeps_its_id_over_starts(bucket: Bucket, url: str, tmp_path: Path) -> None:
    for _ in range(3):
        await node(bucket, url, tmp_path / "alpha", writer=True).write("a", b"1", expect=ANY)


@pytest.fixture
async def deaf(tmp_path: Path) -> AsyncIterator[Conditions]:
    """The conditions of a server that ignores their headers, as some do."""
    from entrepot.stores import buckets
    from entrepot.threads import finished

    def unconditional(request: bytes) -> bytes:
        lines = request.split(b"\r\n")
        return b"\r\n".join(line for line in lines if not line.lower().startswith((b"if-match:", b"if-none-match:")))

    bucket = moto()  # which looks at no signature: conditions are signed
    async with proxied(bucket.endpoint, rewrite=unconditional) as proxy:
        options = {**bucket.options, "endpoint": proxy.endpoint}
        remote = Remote(folder=tmp_path, options=options)
        yield Conditions(await finished(buckets.open_bucket, bucket.fresh(), remote))


async def test_a_server_that_ignores_conditions_in_silence_is_found_out(deaf: Conditions) -> None:
    assert not await deaf.probe()
