"""Which archives are meant, what is sound, what may go; the lock file; upkeep."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from entrepot.archives import LATEST, Archive, HostedArchives, lock, operations
from entrepot.archives.local import destination, pull
from entrepot.archives.upkeep import check, collect
from entrepot.errors import Invalid, NotFound, Unavailable
from entrepot.index import ANY
from entrepot.sources import upkeep as packages
from entrepot.stores.disk import Disk
from entrepot.stores.memory import Memory
from tests.archives.making import NOON, an_offer, bytes_of, push

DAY = timedelta(days=1)


@pytest.fixture
async def store() -> AsyncIterator[Memory]:
    store = Memory()
    yield store
    await store.close()


@pytest.fixture
def hosted(store: Memory) -> HostedArchives:
    return HostedArchives(store, "private")


async def test_names_are_patterns_or_stand_for_themselves(hosted: HostedArchives) -> None:
    for name in ("data-b", "data-a", "model", "da*"):
        await hosted.init(name, "x")
    assert await operations.names(hosted, ["model", "none", "model"]) == ["model", "none"]
    assert await operations.names(hosted, ["model", "data-*"]) == ["model", "data-a", "data-b"]
    assert await operations.names(hosted, ["da*"]) == ["da*"], "there is one of this very name"
    assert await operations.names(hosted, ["x*"]) == ["x*"], "whoever asks for it hears that it is not there"
    assert await operations.names(hosted, []) == ["da*", "data-a", "data-b", "model"]


async def archive(hosted: HostedArchives, *versions: str, **channels: str) -> Archive:
    for version in versions:
        await push(hosted, version)
    for channel, version in channels.items():
        await hosted.promote("model", channel, version)
    return await hosted.archive("model")


async def test_the_version_that_is_wanted(hosted: HostedArchives) -> None:
    found = await archive(hosted, "1.0", "1.1", "2.0", stable="1.0")
    assert operations.wanted(found, "stable").version == "1.0"
    assert operations.wanted(found, "<2").version == "1.1"
    with pytest.raises(operations.NothingToPull, match="Nothing to Pull: model"):
        operations.wanted(found, LATEST)
    with pytest.raises(NotFound, match="Does Not Exist: model, Version >3"):
        operations.wanted(found, ">3")


async def test_old_versions_may_go_but_none_that_a_channel_points_to(hosted: HostedArchives) -> None:
    found = await archive(hosted, "1.0", "1.2", "1.10", "nightly", "2.0", latest="1.2")
    assert [one.version for one in operations.prunable(found, 2)] == ["nightly", "1.0"]
    assert operations.prunable(found, 9) == []


async def test_what_is_stored_is_verified(hosted: HostedArchives, store: Memory) -> None:
    found = await archive(hosted, "1.0", "2.0")
    sha256 = found.version("1.0").sha256 or ""
    await store.write(f"private/archives/model/blobs/{sha256[:2]}/{sha256}", b"bad", expect=ANY)
    bad, good = [one async for one in operations.verify_stored(hosted, found, found.versions)]
    assert bad.fault is not None
    assert "its bytes have the sha256" in bad.fault
    assert good.fault is None
    await store.delete(f"private/archives/model/blobs/{sha256[:2]}/{sha256}", expect=ANY)
    gone, _ = [one async for one in operations.verify_stored(hosted, found, found.versions)]
    assert gone.fault == "it cannot be read: no such object"


async def test_local_files_are_verified(hosted: HostedArchives, tmp_path: Path) -> None:
    found = await archive(hosted, "1.0", "2.0")
    path = destination(tmp_path, "model.bin")
    assert await operations.verify_local(found, tmp_path) is None
    await pull(hosted, "model", found.version("2.0"), path)
    good = await operations.verify_local(found, tmp_path)
    assert good is not None
    assert (good.version, good.fault) == ("2.0", None)
    path.write_bytes(b"3.0")
    bad = await operations.verify_local(found, tmp_path)
    assert bad is not None
    assert bad.fault is not None
    path.with_name("model.bin.etag").write_text('"x"')
    unknown = await operations.verify_local(found, tmp_path)
    assert unknown is not None
    assert "that of no version" in (unknown.fault or "")


# The lock file.


def locked(name: str, version: str = "1.0") -> lock.Locked:
    return lock.Locked(name=name, version=version, sha256=an_offer().sha256)


def test_a_lock_keeps_what_it_was_not_told_of(tmp_path: Path) -> None:
    file = tmp_path / "archives.lock"
    lock.save(file, [locked("b"), locked("a")])
    lock.save(file, [locked("a", "2.0")])
    assert lock.load(file) == {"a": locked("a", "2.0"), "b": locked("b")}
    assert [line.strip()[:11] for line in file.read_text().splitlines()[1:3]] == ['{"name":"a"', '{"name":"b"']
    assert [path.name for path in tmp_path.iterdir()] == ["archives.lock"]


@pytest.mark.parametrize("text", ["", "[]", '{"archives": [{"name": "a"}]}', '{"schema": 2}'])
def test_what_is_no_lock_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "archives.lock").write_text(text)
    with pytest.raises(Invalid, match=r"archives\.lock"):
        lock.load(tmp_path / "archives.lock")
    with pytest.raises(NotFound, match="no lock file"):
        lock.load(tmp_path / "none")


# Upkeep.


async def left_by_gc(store: Memory) -> list[str]:
    return [entry.key async for entry in store.list("private/archives/") if "/blobs/" in entry.key]


async def test_bytes_that_no_record_names_go_in_two_runs(hosted: HostedArchives, store: Memory) -> None:
    await archive(hosted, "1.0", "2.0")
    await hosted.remove("model", "1.0", by="x", now=NOON)
    assert [fault.grave async for fault in check(store)] == [False]
    first = await collect(store, now=NOON)
    assert (len(first.marked), first.deleted) == (1, ())
    assert (await collect(store, now=NOON + DAY / 2)).deleted == ()
    assert len((await collect(store, now=NOON + DAY, dry_run=True)).deleted) == 1
    assert len(await left_by_gc(store)) == 2
    assert len((await collect(store, now=NOON + DAY)).deleted) == 1
    assert len(await left_by_gc(store)) == 1
    assert await bytes_of(hosted, "2.0") == b"2.0"
    assert [fault async for fault in check(store)] == []


async def test_bytes_that_are_pushed_again_are_not_collected(hosted: HostedArchives, store: Memory) -> None:
    await push(hosted)
    await hosted.remove("model", "1.0", by="x", now=NOON)
    await collect(store, now=NOON)
    await push(hosted)
    assert (await collect(store, now=NOON + 2 * DAY)).deleted == ()
    assert await bytes_of(hosted, "1.0") == b"1.0"


async def test_a_collection_between_the_bytes_and_the_record_loses_nothing(store: Memory) -> None:
    """The push writes them again when it finds them gone."""

    class Collecting(HostedArchives):
        async def _write(self, name: str, offer: object) -> None:
            await super()._write(name, offer)  # type: ignore[arg-type]
            if not self.done:
                self.done = True
                async for entry in store.list("private/archives/model/blobs/"):
                    await store.delete(entry.key, expect=ANY)

        done = False

    archives = Collecting(store, "private")
    await push(archives)
    assert await bytes_of(archives, "1.0") == b"1.0"


async def test_neither_kind_of_upkeep_touches_what_is_the_others(hosted: HostedArchives, store: Memory) -> None:
    await push(hosted)
    await store.write("private/blobs/aa/bb/x.whl", b"x", expect=ANY)
    assert [fault.key async for fault in check(store)] == []
    assert (await packages.collect(store, now=NOON)).marked == ("private/blobs/aa/bb/x.whl",)
    assert (await collect(store, now=NOON)).marked == ()


async def test_check_names_every_fault(hosted: HostedArchives, store: Memory) -> None:
    found = await archive(hosted, "1.0", "2.0", "3.0")
    blobs = [f"private/archives/model/blobs/{one.sha256[:2]}/{one.sha256}" for one in found.versions if one.sha256]
    await store.delete(blobs[0], expect=ANY)
    await store.write(blobs[1], b"bad", expect=ANY)
    await store.write(blobs[2], b"longer", expect=ANY)
    await store.write("private/archives/torn/archive.json", b"{", expect=ANY)
    await store.write("gc/archives.json", b"{", expect=ANY)
    faults = {fault.key: fault.what async for fault in check(store)}
    assert set(faults) == {*blobs, "private/archives/torn/archive.json", "gc/archives.json"}
    assert "missing" in faults[blobs[0]]
    assert "sha256" in faults[blobs[1]]
    assert "has 6 bytes" in faults[blobs[2]]
    with pytest.raises(Unavailable, match="nothing is collected"):
        await collect(store, now=NOON)


async def test_a_record_of_a_later_schema_is_left_alone(disk: Disk) -> None:
    await disk.write("private/archives/model/archive.json", b'{"schema": 2, "new": []}', expect=ANY)
    archives = HostedArchives(disk, "private")
    with pytest.raises(Unavailable, match="schema 2"):
        await push(archives)
