"""One bucket, two tools: what tycho wrote is ours to work on, and what we write tycho reads by its own rules."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from entrepot.archives import LATEST, Offer, TychoArchives, claims, tycho
from entrepot.archives.local import pull
from entrepot.errors import Conflict, NotFound, Unavailable
from entrepot.index import ABSENT, ANY, Etag
from entrepot.stores.disk import Disk
from tests.archives.making import NOON, an_offer, bytes_of, listed, push, versions
from tests.archives.oldtool import OldTool


@pytest.fixture
def stocked(old: OldTool) -> OldTool:
    """A bucket as tycho leaves it: a package with two versions, and one that was pushed to and never made."""
    old.init("narf", "narf.tar.gz")
    old.push("narf", "1.2", b"one two")
    old.push("narf", "1.10", b"one ten")
    old.promote("narf", "1.2")
    old.push("loose", "a/b", b"slash")
    return old


async def test_what_tycho_wrote_is_read(stocked: OldTool, ours: TychoArchives) -> None:
    assert await listed(ours) == {"loose": None, "narf": "1.2"}
    found = await ours.archive("narf")
    assert (found.localname, found.channels) == ("narf.tar.gz", {LATEST: "1.2"})
    assert [(one.version, one.size, one.sha256) for one in found.versions] == [("1.2", 7, None), ("1.10", 7, None)]
    assert await bytes_of(ours, "1.10", name="narf") == b"one ten"
    assert await versions(ours, "loose") == ["a/b"]
    assert (await ours.archive("loose")).localname is None


async def test_what_tycho_wrote_is_promoted_and_pulled(stocked: OldTool, ours: TychoArchives, tmp_path: Path) -> None:
    await ours.promote("narf", LATEST, "1.10")
    assert stocked.pull("narf") == ("narf.tar.gz", b"one ten")
    archive = await ours.archive("narf")
    path = tmp_path / "out" / "narf.tar.gz"
    assert await pull(ours, "narf", archive.version("1.10"), path) == hashlib.sha256(b"one ten").hexdigest()
    assert path.read_bytes() == b"one ten"


async def test_the_bytes_are_tychos_while_there_is_nothing_to_add(ours: TychoArchives, disk: Disk) -> None:
    await ours.init("narf", "narf.tar.gz")
    meta = disk.root / "narf" / "tycho.json"
    assert meta.read_bytes() == b'{\n  "localname": "narf.tar.gz",\n  "latest": null\n}'
    OldTool(disk.root).push("narf", "1.0", b"x")
    await ours.promote("narf", LATEST, "1.0")
    assert meta.read_bytes() == b'{\n  "localname": "narf.tar.gz",\n  "latest": "1.0"\n}'


async def test_what_we_wrote_tycho_reads(ours: TychoArchives, old: OldTool) -> None:
    await push(ours, "1.0", name="narf", filename="narf.tar.gz", channel=LATEST)
    await push(ours, "2.0", name="narf")
    await ours.promote("narf", "stable", "1.0")
    await ours.init("empty", "x")
    assert old.packages() == {"empty": None, "narf": "1.0"}
    assert old.list_versions("narf") == ["1.0", "2.0"]
    assert old.pull("narf") == ("narf.tar.gz", b"1.0")
    assert old.pull("narf", "2.0") == ("narf.tar.gz", b"2.0")


async def test_what_tycho_does_to_our_packages_loses_nothing_that_is_ours(
    ours: TychoArchives, old: OldTool, disk: Disk
) -> None:
    await push(ours, "1.0", name="narf", channel=LATEST)
    await ours.promote("narf", "stable", "1.0")
    before = await ours.archive("narf")
    assert not old.push("narf", "1.0", b"other")
    assert old.push("narf", "2.0", b"two")
    assert old.promote("narf", "2.0")
    # As the next command sees it: a disk store remembers for a second what others wrote past it, a bucket does not.
    after = await TychoArchives(Disk.open(disk.root, create=False)).archive("narf")
    assert after.channels == {LATEST: "2.0", "stable": "1.0"}
    assert after.version("1.0") == before.version("1.0")
    assert after.version("2.0").sha256 is None


async def test_members_that_neither_of_us_knows_are_kept(ours: TychoArchives, old: OldTool, disk: Disk) -> None:
    meta = disk.root / "narf" / "tycho.json"
    old.push("narf", "1.0", b"x")
    meta.write_text(json.dumps({"owner": ["me", {"ü": 1.5}], "localname": "n", "latest": None}, indent=2))
    await push(ours, "2.0", name="narf", channel=LATEST)
    found = json.loads(meta.read_text())
    assert list(found) == ["owner", "localname", "latest", "entrepot"]
    assert found["owner"] == ["me", {"ü": 1.5}]


async def test_of_tychos_versions_the_bytes_are_compared(stocked: OldTool, ours: TychoArchives) -> None:
    with pytest.raises(Conflict, match=r"Already Exists: narf, Version 1\.2"):
        await push(ours, "1.2", b"two one", name="narf")
    assert not await push(ours, "1.2", b"one two", name="narf", channel="stable")
    found = (await ours.archive("narf")).version("1.2")
    assert found.sha256 == hashlib.sha256(b"one two").hexdigest(), "and now that is known"


async def test_the_etag_is_the_stores_in_quotes(ours: TychoArchives, disk: Disk) -> None:
    await push(ours, name="narf")
    entry = await disk.stat("narf/tycho_1.0.pkg")
    assert (await ours.archive("narf")).version("1.0").etag == f'"{entry.etag}"'


async def test_a_file_that_was_replaced_meanwhile_is_not_taken_for_the_one_that_was_looked_up(
    ours: TychoArchives, disk: Disk
) -> None:
    await push(ours, name="narf")
    version = (await ours.archive("narf")).version("1.0")
    await disk.write("narf/tycho_1.0.pkg", b"new", expect=ANY)
    with pytest.raises(Conflict, match="was replaced since it was looked up"):
        await ours.open("narf", version)


async def test_a_package_without_tycho_json_cannot_be_promoted_and_says_what_to_do(
    stocked: OldTool, ours: TychoArchives
) -> None:
    with pytest.raises(NotFound, match=r"no tycho\.json .*archive init loose"):
        await ours.promote("loose", LATEST, "a/b")
    await ours.init("loose", "file")
    await ours.promote("loose", LATEST, "a/b")
    assert stocked.pull("loose") == ("file", b"slash")


@pytest.mark.parametrize(
    "text", ["", "[]", "null", "{", '{"entrepot": 1}', '{"entrepot": {"schema": 2}}', "[" * 100_000]
)
async def test_a_tycho_json_that_cannot_be_read_is_no_absent_one(text: str, ours: TychoArchives, disk: Disk) -> None:
    await disk.write("narf/tycho.json", text.encode(), expect=ABSENT)
    with pytest.raises(Unavailable, match=r"narf/tycho\.json"):
        await ours.archive("narf")
    with pytest.raises(Unavailable):
        await ours.init("narf", "x")


async def test_localnames_and_latest_of_other_types_are_nothing(ours: TychoArchives, disk: Disk) -> None:
    await disk.write("narf/tycho.json", b'{"localname": 1, "latest": ["x"]}', expect=ABSENT)
    found = await ours.archive("narf")
    assert (found.localname, found.channels) == (None, {})


# Claims: one writer for each version, also of what goes to a bucket in parts.


LARGE = b"s" * (9 << 20)  # more than goes in one request


def in_pieces(body: Callable[[], AsyncIterator[bytes]], data: bytes = LARGE) -> Offer:
    """An offer of Alice's whose bytes come as the test wants."""
    return replace(an_offer(data, by="alice"), body=body)


async def test_who_pushes_other_bytes_meanwhile_is_refused_and_told_who_is_at_work(
    ours: TychoArchives, disk: Disk
) -> None:
    begun, go = asyncio.Event(), asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        begun.set()
        await go.wait()
        yield LARGE

    pushing = asyncio.create_task(ours.push("narf", "1.0", in_pieces(body)))
    await begun.wait()
    with pytest.raises(Conflict, match=r"Already Exists: narf, Version 1\.0 \(alice has been pushing other bytes"):
        await push(TychoArchives(disk), "1.0", name="narf")
    go.set()
    assert await pushing
    assert [entry.key async for entry in disk.list("narf/")] == ["narf/tycho.json", "narf/tycho_1.0.pkg"]


async def test_a_push_that_failed_lets_others_at_once(ours: TychoArchives, disk: Disk) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"half"
        raise Unavailable("cut")

    with pytest.raises(Unavailable, match="cut"):
        await ours.push("narf", "1.0", in_pieces(body))
    assert [entry.key async for entry in disk.list("narf/")] == []
    assert await push(ours, "1.0", name="narf")


async def left_claim(disk: Disk, data: bytes) -> None:
    """What somebody leaves who is killed between the claim and the file."""

    key = f"narf/.claims/{hashlib.sha256(b'1.0').hexdigest()}"
    text = {"version": "1.0", "sha256": an_offer(data).sha256, "by": "dead", "at": NOON.isoformat()}
    await disk.write(key, json.dumps(text).encode(), expect=ABSENT)


async def test_a_claim_that_was_left_keeps_other_bytes_away_for_an_hour_and_the_same_not_at_all(
    ours: TychoArchives, disk: Disk
) -> None:
    await left_claim(disk, b"mine")
    with pytest.raises(Conflict, match="from 13:00 UTC on"):
        await push(ours, "1.0", b"other", name="narf")
    later = an_offer(b"other", now=NOON + timedelta(minutes=61))
    other = TychoArchives(disk)
    assert await push(ours, "1.0", b"mine", name="narf")
    with pytest.raises(Conflict, match="Already Exists"):
        await other.push("narf", "1.0", later)


async def test_after_an_hour_a_claim_is_nobodys(ours: TychoArchives, disk: Disk) -> None:
    await left_claim(disk, b"mine")
    assert await ours.push("narf", "1.0", an_offer(b"other", now=NOON + timedelta(minutes=61)))
    assert await bytes_of(ours, "1.0", name="narf") == b"other"
    assert [entry.key async for entry in disk.list("narf/.claims/")] == []


async def test_whoever_is_at_work_says_so_again_and_again(
    ours: TychoArchives, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "_RENEWED_EVERY", 0.001)
    written: list[str] = []
    renewed, write = asyncio.Event(), disk.write

    async def noted(key: str, *args: Any, **kwargs: Any) -> Etag:
        etag = await write(key, *args, **kwargs)
        written.append(key)
        if sum("/.claims/" in key for key in written) > 2:
            renewed.set()
        return etag

    async def body() -> AsyncIterator[bytes]:
        await renewed.wait()
        yield LARGE

    monkeypatch.setattr(disk, "write", noted)
    assert await ours.push("narf", "1.0", in_pieces(body))
    assert [entry.key async for entry in disk.list("narf/.claims/")] == []


async def test_who_joins_with_the_same_bytes_keeps_the_claim_when_the_first_one_fails(
    ours: TychoArchives, disk: Disk
) -> None:
    begun, go, cut = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def failing() -> AsyncIterator[bytes]:
        begun.set()
        await cut.wait()
        raise Unavailable("cut")
        yield b""

    async def working() -> AsyncIterator[bytes]:
        begun.set()
        await go.wait()
        yield LARGE

    first = asyncio.create_task(ours.push("narf", "1.0", in_pieces(failing)))
    await begun.wait()
    begun.clear()
    second = asyncio.create_task(TychoArchives(disk).push("narf", "1.0", in_pieces(working)))
    await begun.wait()
    cut.set()
    with pytest.raises(Unavailable):
        await first
    with pytest.raises(Conflict, match="Already Exists"):
        await push(TychoArchives(disk), "1.0", b"other", name="narf")
    go.set()
    assert await second
    assert [entry.key async for entry in disk.list("narf/")] == ["narf/tycho.json", "narf/tycho_1.0.pkg"]


# Our member.

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
TEXTS = st.text(min_size=1, max_size=9)
FACTS = st.builds(
    tycho.Facts, size=st.integers(0, 1 << 50), sha256=st.just("ab" * 32), uploaded=st.just(NOON), by=st.none() | TEXTS
)


@given(
    members=st.dictionaries(st.text(max_size=9).filter(lambda name: name != "entrepot"), VALUES, max_size=4),
    ours_=st.builds(
        tycho.Ours,
        channels=st.dictionaries(TEXTS, TEXTS, max_size=3),
        versions=st.dictionaries(TEXTS, FACTS, max_size=3),
    ),
)
def test_a_tycho_json_survives_us_and_tycho(members: dict[str, Any], ours_: tycho.Ours) -> None:
    meta = tycho.Meta(members=members, ours=ours_)
    data = tycho.encode(meta)
    assert data == json.dumps(json.loads(data), indent=2).encode(), "what tycho does with it changes nothing"
    again = tycho.decode(data, "key")
    assert again.ours == ours_
    assert {name: value for name, value in again.members.items() if name != "entrepot"} == members
    assert tycho.encode(again) == data


@given(version=TEXTS, channel=TEXTS)
def test_pointing_where_it_points_is_nothing_to_do(version: str, channel: str) -> None:
    meta = tycho.begun("x").pointing(channel, version)
    assert meta.channels == {channel: version}
    assert meta.pointing(channel, version) is meta
    assert meta.pointing(channel, None).channels == {}
