"""Pulled files: resumed, verified, atomic; and what is offered from here."""

import asyncio
import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from msgspec.structs import replace

from entrepot.archives import Archives, HostedArchives, TychoArchives, Version
from entrepot.archives.local import Part, destination, is_here, offered, pull, recorded_etag
from entrepot.archives.model import IN_ONE_REQUEST
from entrepot.errors import Conflict, Invalid, NotFound, Unavailable
from entrepot.index import ANY, Content, Span, Stream
from entrepot.stores.disk import Disk
from entrepot.stores.memory import Memory
from tests.archives.making import an_offer, bytes_of, push

DATA = os.urandom(3 << 20)


class Cut:
    """Archives whose reads break off after some bytes, as connections do; it remembers which spans were asked for."""

    def __init__(self, archives: Archives, after: int) -> None:
        self._archives = archives
        self._after = after
        self.spans: list[Span | None] = []

    async def open(self, name: str, version: Version, span: Span | None = None) -> Content:
        self.spans.append(span)
        content = await self._archives.open(name, version, span)
        assert isinstance(content, Stream)
        return Stream(body=self._some(content.body), size=content.size)

    async def _some(self, body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        left = self._after
        async for piece in body:
            for at in range(0, len(piece), 65536):
                if left <= 0:
                    raise Unavailable("the connection broke off")
                yield piece[at : at + 65536][:left]
                left -= 65536

    def __getattr__(self, name: str) -> object:
        return getattr(self._archives, name)


@pytest.fixture
async def hosted() -> AsyncIterator[HostedArchives]:
    store = Memory()
    archives = HostedArchives(store, "private")
    await push(archives, data=DATA)
    yield archives
    await store.close()


def inside(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


async def version_of(archives: Archives, text: str = "1.0") -> Version:
    return (await archives.archive("model")).version(text)


async def test_a_pulled_file_has_its_etag_beside_it(hosted: HostedArchives, tmp_path: Path) -> None:
    version, path = await version_of(hosted), tmp_path / "out" / "deep" / "model.bin"
    assert not is_here(path, version)
    assert await pull(hosted, "model", version, path) == version.sha256
    assert path.read_bytes() == DATA
    assert (path.parent / "model.bin.etag").read_bytes() == version.etag.encode()
    assert is_here(path, version)
    assert inside(path.parent) == ["model.bin", "model.bin.etag"]


async def test_another_size_or_etag_is_not_here(hosted: HostedArchives, tmp_path: Path) -> None:
    version, path = await version_of(hosted), tmp_path / "model.bin"
    await pull(hosted, "model", version, path)
    assert not is_here(path, replace(version, etag='"other"'))
    path.write_bytes(DATA[:-1])
    assert not is_here(path, version)


async def test_a_pull_that_was_cut_goes_on_where_it_was(hosted: HostedArchives, tmp_path: Path) -> None:
    version, path = await version_of(hosted), tmp_path / "model.bin"
    with pytest.raises(Unavailable, match="broke off"):
        await pull(Cut(hosted, 2 << 20), "model", version, path)  # type: ignore[arg-type]
    assert not path.exists(), "half a file is never seen"
    whole, told = Cut(hosted, 1 << 30), list[int]()
    await pull(whole, "model", version, path, progress=told.append)  # type: ignore[arg-type]
    [span] = whole.spans
    assert span is not None
    assert 0 < span.start <= 2 << 20
    assert told[0] == span.start
    assert sum(told) == len(DATA)
    assert path.read_bytes() == DATA
    assert inside(tmp_path) == ["model.bin", "model.bin.etag"]


async def test_what_another_version_left_is_not_gone_on_with(hosted: HostedArchives, tmp_path: Path) -> None:
    other = os.urandom(3 << 20)
    await push(hosted, "2.0", other)
    path = tmp_path / "model.bin"
    with pytest.raises(Unavailable):
        await pull(Cut(hosted, 2 << 20), "model", await version_of(hosted), path)  # type: ignore[arg-type]
    await pull(hosted, "model", await version_of(hosted, "2.0"), path)
    assert path.read_bytes() == other
    assert inside(tmp_path) == ["model.bin", "model.bin.etag"], "and it does not stay for ever"


async def test_a_part_that_was_spoiled_is_fetched_anew(hosted: HostedArchives, tmp_path: Path) -> None:
    version, path = await version_of(hosted), tmp_path / "model.bin"
    with pytest.raises(Unavailable):
        await pull(Cut(hosted, 2 << 20), "model", version, path)  # type: ignore[arg-type]
    [part] = inside(tmp_path)
    with (tmp_path / part).open("r+b") as file:
        file.write(b"spoiled")
    await pull(hosted, "model", version, path)
    assert path.read_bytes() == DATA


async def test_wrong_bytes_never_take_the_place_of_a_file(tmp_path: Path) -> None:
    store = Memory()
    archives = TychoArchives(store)
    await push(archives, data=b"right")
    version, path = await version_of(archives), tmp_path / "model.bin"
    path.write_bytes(b"before")
    await store.write("model/tycho_1.0.pkg", b"wrong", expect=ANY)
    changed = await version_of(archives)
    assert changed.sha256 == version.sha256
    with pytest.raises(Unavailable, match=r"5 bytes with sha256 [0-9a-f]{64} and not 5 bytes"):
        await pull(archives, "model", changed, path)
    assert path.read_bytes() == b"before"
    assert recorded_etag(path) is None
    assert inside(tmp_path) == ["model.bin"]
    await store.close()


async def test_two_who_pull_one_file_at_once_do_not_get_in_each_others_way(
    hosted: HostedArchives, tmp_path: Path
) -> None:
    version, path = await version_of(hosted), tmp_path / "model.bin"
    await asyncio.gather(*(pull(hosted, "model", version, path) for _ in range(5)))
    assert path.read_bytes() == DATA
    assert inside(tmp_path) == ["model.bin", "model.bin.etag"]


def test_a_part_that_somebody_is_at_is_left_alone(tmp_path: Path) -> None:
    version = Version(version="1", size=4, etag='"x"', uploaded=datetime.now(UTC))
    one, other = Part.open(tmp_path / "x", version), Part.open(tmp_path / "x", version)
    one.write(b"one")
    other.write(b"ot")
    other.close()
    one.close()
    again = Part.open(tmp_path / "x", version)
    assert (again.size, again.sha256) == (3, an_offer(b"one").sha256)
    again.close()


async def test_an_empty_file_is_pulled(tmp_path: Path) -> None:
    store = Memory()
    archives = HostedArchives(store, "private")
    await push(archives, data=b"")
    await pull(archives, "model", await version_of(archives), tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == b""
    await store.close()


async def test_a_folder_in_the_way_is_named(hosted: HostedArchives, tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="is a folder"):
        await pull(hosted, "model", await version_of(hosted), tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable, match="file"):
        await pull(hosted, "model", await version_of(hosted), tmp_path / "file" / "x")


@pytest.mark.parametrize("localname", ["../x", "/etc/passwd", "a/../../x", "", ".", "a\nb"])
def test_a_local_name_of_a_bucket_does_not_lead_out_of_the_folder(localname: str) -> None:
    with pytest.raises(Invalid, match="no name for a local file"):
        destination(Path("out"), localname)


# Offers.


async def test_what_is_offered_is_hashed_and_sent_as_it_was(tmp_path: Path) -> None:
    store = Memory()
    archives = HostedArchives(store, "private")
    for size in (0, 5, IN_ONE_REQUEST, IN_ONE_REQUEST + 1):
        file, told = tmp_path / "file.bin", list[int]()
        file.write_bytes(os.urandom(size))
        offer = await offered(file, filename=None, by="me", now=datetime.now(UTC), progress=told.append)
        assert (offer.size, offer.filename) == (size, "file.bin")
        await archives.push("model", f"{size}", offer)
        assert await bytes_of(archives, f"{size}") == file.read_bytes()
        assert sum(told) == (size if size > IN_ONE_REQUEST else 0)
    await store.close()


async def test_a_file_that_changes_while_it_is_sent_is_not_kept(disk: Disk, tmp_path: Path) -> None:
    file = tmp_path / "file.bin"
    file.write_bytes(b"a" * (IN_ONE_REQUEST + 1))
    offer = await offered(file, filename=None, by=None, now=datetime.now(UTC))
    file.write_bytes(b"b" * (IN_ONE_REQUEST + 1))
    with pytest.raises(Conflict, match="changed while it was sent"):
        await HostedArchives(disk, "private").push("model", "1.0", offer)
    assert [entry async for entry in disk.list("")] == []


async def test_the_pushed_file_is_copied_and_stays_its_owners(disk: Disk, tmp_path: Path) -> None:
    file = tmp_path / "file.bin"
    file.write_bytes(b"a" * (IN_ONE_REQUEST + 1))
    file.chmod(0o640)
    archives = HostedArchives(disk, "private")
    await archives.push("model", "1.0", await offered(file, filename=None, by=None, now=datetime.now(UTC)))
    assert file.stat().st_nlink == 1
    assert file.stat().st_mode & 0o777 == 0o640
    file.write_bytes(b"changed")
    assert await bytes_of(archives, "1.0") == b"a" * (IN_ONE_REQUEST + 1)


async def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no such file"):
        await offered(tmp_path / "none", filename=None, by=None, now=datetime.now(UTC))
