"""Archives in a copied store: whole, and never named before their bytes have come."""

import hashlib

import msgspec
import pytest

from entrepot.index import ABSENT, ANY, Store
from entrepot.moving.copying import copy
from entrepot.moving.objects import Options
from entrepot.stores.documents import read_bytes
from entrepot.stores.memory import Memory
from tests.moving.samples import copied, held, rot, troubles
from tests.sources.interrupted import Interrupted


def archive(*versions: str, removed: tuple[str, ...] = (), latest: str = "") -> bytes:
    """The record of an archive; the bytes of a version are its text."""
    digests = {text: hashlib.sha256(text.encode()).hexdigest() for text in (*versions, *removed)}
    return msgspec.json.encode(
        {
            "schema": 1, "name": "data", "channels": {"latest": latest or versions[-1]},
            "versions": [{"version": text, "sha256": digests[text]} for text in versions],
            "removed": [{"version": text, "sha256": digests[text]} for text in removed],
        }
    )  # fmt: skip


def archived(text: str) -> str:
    sha256 = hashlib.sha256(text.encode()).hexdigest()
    return f"main/archives/data/blobs/{sha256[:2]}/{sha256}"


ARCHIVE = "main/archives/data/archive.json"


async def push(store: Store, *versions: str, **more: str) -> None:
    for text in versions:
        await store.write(archived(text), text.encode(), expect=ANY)
    await store.write(ARCHIVE, archive(*versions, **more), expect=ANY)  # type: ignore[arg-type]


async def test_an_archive_is_copied_and_follows_its_source(source: Store, target: Store) -> None:
    await push(source, "1", "2")
    await copied(source, target)
    await push(source, "1", "2", "3", latest="1")
    await copied(source, target)
    assert await held(target) == await held(source)
    await source.write(ARCHIVE, archive("1", "3", removed=("2",)), expect=ANY)
    await copied(source, target)
    assert await read_bytes(target, ARCHIVE) == await read_bytes(source, ARCHIVE)


@pytest.mark.parametrize(("there", "lost"), [(archive("1", "9"), "9 is not"), (archive("1", removed=("2",)), "2 was")])
async def test_an_archive_with_more_than_its_source_is_a_conflict_and_stays(
    source: Store, target: Store, there: bytes, lost: str
) -> None:
    await push(source, "1", "2")
    await target.write(ARCHIVE, there, expect=ABSENT)
    tally = await copy(source, target, Options())
    [trouble] = tally.troubles
    assert (trouble.kind, trouble.at) == ("conflict", ARCHIVE)
    assert lost in trouble.why
    assert await read_bytes(target, ARCHIVE) == there


async def test_wrong_bytes_of_an_archive_are_told_and_not_copied(source: Store, target: Store) -> None:
    await push(source, "1", "2")
    await rot(source, archived("2"))
    assert await troubles(source, target) == [("conflict", ARCHIVE), ("fault", archived("2"))]
    assert list(await held(target)) == [archived("1")]


async def test_an_archive_never_names_bytes_that_have_not_come() -> None:
    """A push between any two calls of a copy: what the copied record names is there."""
    for at in range(1, 40):
        source, fresh = Memory(), Memory()
        await push(source, "1")

        async def meanwhile(source: Store = source, fresh: Store = fresh) -> None:
            await push(source, "1", "2")
            await copied(source, fresh)
            await push(source, "1", "2", "3")

        interrupted = Interrupted(source, at, meanwhile)
        await copied(interrupted, fresh, jobs=1)
        there = await held(fresh)
        named = msgspec.json.decode(there[ARCHIVE])["versions"]
        assert [one["version"] for one in named if archived(one["version"]) not in there] == []
        if not interrupted.happened:
            return
    pytest.fail("it never came to its end")


async def test_an_archive_in_the_older_layout_follows_its_source(source: Store, target: Store) -> None:
    def record(latest: str, **versions: int) -> bytes:
        inner = {"schema": 1, "channels": {"beta": latest}, "versions": versions}
        return msgspec.json.encode({"localname": "x", "latest": latest, "entrepot": inner})

    await source.write("data/tycho.json", record("1", a=1), expect=ANY)
    await copied(source, target)
    await source.write("data/tycho.json", record("2", a=1, b=2), expect=ANY)
    await copied(source, target)
    assert await held(target) == await held(source)
    await source.write("data/tycho_3.pkg", b"", expect=ABSENT)
    await target.write("data/tycho_3.pkg", b"other", expect=ABSENT)
    await source.write("data/tycho.json", record("3", a=1, b=2, c=3), expect=ANY)
    await source.write("data/.claims/" + "ab" * 32, b"{}", expect=ABSENT)
    assert await troubles(source, target) == [("conflict", "data/tycho.json"), ("conflict", "data/tycho_3.pkg")]
    assert "data/.claims/" + "ab" * 32 not in await held(target)
    await target.delete("data/tycho_3.pkg", expect=ANY)
    await copied(source, target)
    await target.write("data/tycho.json", record("2", a=1, b=2, c=3, d=4), expect=ANY)
    assert await troubles(source, target) == [("conflict", "data/tycho.json")]
