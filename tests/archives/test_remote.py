"""The archives of a running server, as the client sees them: what every place promises, over real HTTP."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from entrepot.archives import LATEST
from entrepot.archives.local import Part, pull
from entrepot.archives.remote import RemoteArchives, connected
from entrepot.errors import Conflict, Denied, Invalid, NotFound, Unavailable
from entrepot.index import Span
from tests.archives.making import NOON, an_offer, bytes_of, listed, push, versions
from tests.e2e.servers import Server, Servers


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    servers = Servers(tmp_path_factory.mktemp("remote"))
    yield servers(config='[server]\nmax-upload = "12 MiB"\n', workers=2)
    servers.end()


@pytest.fixture
async def remote(server: Server) -> AsyncIterator[RemoteArchives]:
    async with connected(f"{server.url}/private/archives", server.first_token) as archives:
        yield archives


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """An archive of the test's own."""
    return f"m{abs(hash(request.node.name))}"


async def test_what_is_pushed_is_there(remote: RemoteArchives, name: str) -> None:
    assert await remote.init(name, "model.bin")
    assert not await remote.init(name, "model.bin")
    with pytest.raises(Conflict, match=f"^Already Initialized: {name} ") as failed:
        await remote.init(name, "other")
    assert (failed.value.message, failed.value.hint) == (f"Already Initialized: {name}", "its local name is model.bin")
    assert await push(remote, "1.0", name=name, channel=LATEST)
    assert await push(remote, "2/rc 1+ü%2F", name=name)
    assert await versions(remote, name) == ["2/rc 1+ü%2F", "1.0"]
    assert await bytes_of(remote, "2/rc 1+ü%2F", name=name) == "2/rc 1+ü%2F".encode()
    assert (await listed(remote))[name] == "1.0"
    assert await bytes_of(remote, "1.0", Span(1, 3), name=name) == b".0"


async def test_the_same_bytes_do_not_travel_and_other_ones_are_refused(remote: RemoteArchives, name: str) -> None:
    await push(remote, name=name)
    assert not await push(remote, name=name, channel="stable")
    assert (await remote.archive(name)).channels == {"stable": "1.0"}
    with pytest.raises(Conflict, match=rf"Already Exists: {name}, Version 1\.0"):
        await push(remote, data=b"other", name=name)


async def test_faults_keep_their_kind_and_words(remote: RemoteArchives, server: Server, name: str) -> None:
    with pytest.raises(NotFound, match=f"Does Not Exist: {name}$"):
        await remote.archive(name)
    with pytest.raises(NotFound, match=f"Does Not Exist: {name}$"):
        await remote.promote(name, LATEST, "1.0")
    await push(remote, name=name)
    with pytest.raises(NotFound, match=f"Does Not Exist: {name}, Version 9$"):
        await remote.remove(name, "9", by=None, now=NOON)
    with pytest.raises(Invalid, match="larger than 12 MiB"):
        await push(remote, "2.0", b"x" * (13 << 20), name=name)
    async with connected(f"{server.url}/private/archives/", server.token("read")) as reader:
        with pytest.raises(Denied, match="may not upload"):
            await push(reader, "3.0", name=name)
    async with connected(f"{server.url}/private/archives/", "entrepot_no_token") as stranger:
        with pytest.raises(Denied, match="not known here"):
            await stranger.archive(name)
    async with connected(f"{server.url}/simple/", None) as elsewhere:
        with pytest.raises((NotFound, Unavailable)):
            await elsewhere.archive("x")


async def test_a_pull_goes_on_with_a_range(remote: RemoteArchives, name: str, tmp_path: Path, server: Server) -> None:
    data = os.urandom(5 << 20)
    await push(remote, data=data, name=name)
    version = (await remote.archive(name)).version("1.0")
    part = Part.open(tmp_path / "x", version)
    part.write(data[: 3 << 20])
    part.close()
    told: list[int] = []
    await pull(remote, name, version, tmp_path / "x", progress=told.append)
    assert (tmp_path / "x").read_bytes() == data
    assert (told[0], sum(told)) == (3 << 20, len(data))


async def test_of_many_clients_who_push_one_version_one_wins(server: Server, name: str) -> None:
    async def pushing(number: int) -> bool:
        async with connected(f"{server.url}/archives/", server.first_token) as archives:
            try:
                return await archives.push(name, "1.0", an_offer(b"%d" % number * 100_000))
            except Conflict:
                return False

    won = await asyncio.gather(*map(pushing, range(8)))
    assert sum(won) == 1
    async with connected(f"{server.url}/archives/", None) as archives:
        assert await bytes_of(archives, "1.0", name=name) == b"%d" % won.index(True) * 100_000


async def test_a_token_may_stand_in_the_url_and_a_netrc_is_no_obstacle(
    server: Server, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login x password wrong\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    url = server.url.replace("://", f"://__token__:{server.first_token}@")
    async with connected(f"{url}/archives/", None) as archives:
        assert await push(archives, name=name)
