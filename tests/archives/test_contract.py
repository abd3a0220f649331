"""What every layout promises, over every store."""

import asyncio
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from entrepot.archives import LATEST, Archives, HostedArchives, TychoArchives
from entrepot.archives.model import check_channel, check_localname, check_name, check_version
from entrepot.errors import Conflict, Invalid, NotFound
from entrepot.index import Span, Store
from entrepot.stores.memory import Memory
from tests.archives.making import NOON, an_offer, bytes_of, listed, push, versions


async def test_the_first_push_begins_the_archive_with_the_name_of_its_file(archives: Archives) -> None:
    assert await push(archives, filename="model.tar.gz")
    found = await archives.archive("model")
    [only] = found.versions
    assert (found.localname, found.channels) == ("model.tar.gz", {})
    assert (only.version, only.size, only.by, only.uploaded, only.filename) == (
        "1.0", 3, "ci", NOON, "model.tar.gz",
    )  # fmt: skip
    assert only.sha256 == an_offer(b"1.0").sha256
    assert only.etag.startswith('"')
    assert only.etag.endswith('"')
    assert await bytes_of(archives, "1.0") == b"1.0"


async def test_init_says_the_local_name_and_a_push_does_not_change_it(archives: Archives) -> None:
    assert await archives.init("model", "narf.tar.gz")
    assert not await archives.init("model", "narf.tar.gz")
    with pytest.raises(Conflict, match=r"Already Initialized: model.*narf\.tar\.gz"):
        await archives.init("model", "other")
    await push(archives, filename="whatever.bin")
    assert (await archives.archive("model")).localname == "narf.tar.gz"


async def test_the_same_bytes_again_are_no_push_and_other_bytes_are_refused(archives: Archives) -> None:
    assert await push(archives)
    assert not await push(archives)
    with pytest.raises(Conflict, match=r"Already Exists: model, Version 1\.0"):
        await push(archives, data=b"x.y")
    with pytest.raises(Conflict, match="Already Exists"):
        await push(archives, data=b"longer bytes")
    assert await bytes_of(archives, "1.0") == b"1.0"


async def test_a_push_may_promote_also_where_the_bytes_are_there(archives: Archives) -> None:
    await push(archives, "1.0", channel=LATEST)
    await push(archives, "2.0")
    assert (await archives.archive("model")).channels == {LATEST: "1.0"}
    assert not await push(archives, "2.0", channel=LATEST)
    assert (await archives.archive("model")).channels == {LATEST: "2.0"}


async def test_channels_point_to_versions_that_are_there(archives: Archives) -> None:
    await push(archives, "1.0")
    await archives.promote("model", "stable", "1.0")
    await archives.promote("model", LATEST, "1.0")
    await archives.promote("model", LATEST, "1.0")
    assert (await archives.archive("model")).channels == {LATEST: "1.0", "stable": "1.0"}
    with pytest.raises(NotFound, match="Does Not Exist: model, Version 9"):
        await archives.promote("model", LATEST, "9")
    with pytest.raises(NotFound, match="Does Not Exist: nobody"):
        await archives.promote("nobody", LATEST, "9")


async def test_no_text_is_a_channel_and_a_version_at_once(archives: Archives) -> None:
    await push(archives, "a")
    await push(archives, "b")
    await archives.promote("model", "stable", "a")
    with pytest.raises(Invalid, match="stable is a channel"):
        await push(archives, "stable")
    with pytest.raises(Invalid, match="b is a version"):
        await archives.promote("model", "b", "a")
    with pytest.raises(Invalid, match="new is a version"):
        await push(archives, "new", channel="new")
    with pytest.raises(Invalid, match="latest is a channel"):
        await push(archives, "latest")
    assert await versions(archives) == ["a", "b"]


async def test_a_version_that_no_channel_holds_can_be_removed(archives: Archives) -> None:
    await push(archives, "1.0", channel=LATEST)
    await push(archives, "2.0")
    with pytest.raises(Conflict, match=r"latest of model points to version 1\.0"):
        await archives.remove("model", "1.0", by="me", now=NOON)
    await archives.remove("model", "2.0", by="me", now=NOON)
    assert await versions(archives) == ["1.0"]
    for text in ("2.0", "9"):
        with pytest.raises(NotFound, match=f"Does Not Exist: model, Version {text}"):
            await archives.remove("model", text, by="me", now=NOON)
    await archives.remove("model", LATEST, by="me", now=NOON)
    assert (await archives.archive("model")).channels == {}
    await archives.remove("model", "1.0", by="me", now=NOON)
    assert await versions(archives) == []


async def test_the_same_bytes_may_come_back_after_they_were_removed(archives: Archives) -> None:
    await push(archives)
    await archives.remove("model", "1.0", by="me", now=NOON)
    assert await push(archives)
    assert await bytes_of(archives, "1.0") == b"1.0"


async def test_versions_are_listed_oldest_first(archives: Archives) -> None:
    for version in ("1.10", "1.2", "nightly-10", "nightly-9"):
        await push(archives, version)
    assert await versions(archives) == ["nightly-9", "nightly-10", "1.2", "1.10"]


async def test_archives_are_listed_with_their_latest_version(archives: Archives) -> None:
    assert await listed(archives) == {}
    for name in ("b", "a-b", "a", "a.b"):
        await archives.init(name, "file")
    for version in range(100):  # more than are read of one folder before the rest is skipped
        await push(archives, f"{version}", name="a")
    await archives.promote("a", LATEST, "7")
    assert await listed(archives) == {"a": "7", "a-b": None, "a.b": None, "b": None}


async def test_what_is_not_there_is_not_found(archives: Archives) -> None:
    with pytest.raises(NotFound, match="Does Not Exist: model"):
        await archives.archive("model")
    await archives.init("model", "x")
    assert await versions(archives) == []
    with pytest.raises(NotFound):
        (await archives.archive("model")).version("1.0")


async def test_a_span_is_a_part_of_the_bytes(archives: Archives) -> None:
    await push(archives, data=b"0123456789")
    assert await bytes_of(archives, "1.0", Span(3, 6)) == b"345"


async def test_an_empty_file_is_a_file(archives: Archives) -> None:
    await push(archives, data=b"")
    assert await bytes_of(archives, "1.0") == b""


async def test_of_many_who_push_one_version_exactly_one_wins(layout: Callable[[Store], Archives], store: Store) -> None:
    pushers = [layout(store) for _ in range(8)]  # each with a memory of its own, as in processes of their own

    async def pushing(number: int) -> bool:
        try:
            return await push(pushers[number], data=b"%d" % number * 1000)
        except Conflict:
            return False

    won = await asyncio.gather(*map(pushing, range(8)))
    assert sum(won) == 1
    assert await bytes_of(pushers[0], "1.0") == b"%d" % won.index(True) * 1000


async def test_many_who_push_the_same_bytes_all_succeed(layout: Callable[[Store], Archives], store: Store) -> None:
    pushers = [layout(store) for _ in range(6)]
    await asyncio.gather(*(push(one) for one in pushers))
    assert await versions(pushers[0]) == ["1.0"]
    assert await bytes_of(pushers[0], "1.0") == b"1.0"


async def test_many_who_push_different_versions_lose_none(layout: Callable[[Store], Archives], store: Store) -> None:
    pushers = [layout(store) for _ in range(10)]
    await asyncio.gather(*(push(one, f"1.{number}") for number, one in enumerate(pushers)))
    assert await versions(pushers[0]) == [f"1.{number}" for number in range(10)]


# Names.

HOSTILE = [
    "../x", "..", ".", "", "/", "a/../b", "a//b", "/a", "a/", "a\\b", "a\nb", "a\0b", "a\x1b[2J", "a\x7f", "\ud800",
    "a\u2028b", "x" * 201, "é" * 101,
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE)
def test_what_could_lead_astray_is_no_name_no_version_and_no_file(text: str) -> None:
    for check in (check_name, check_version, check_localname, check_channel):
        with pytest.raises(Invalid):
            check(text)


@pytest.mark.parametrize("text", ["a/b", "a b", "-x/y"])
def test_a_name_is_one_segment_without_spaces(text: str) -> None:
    with pytest.raises(Invalid):
        check_name(text)


@pytest.mark.parametrize(
    "version", ["1.0", "2026-11-20", "a b", "v1/rc 2", "50%", "%2e%2e", "a+b", "ü", "#?&", "'\"", "…"]
)
async def test_any_text_is_a_version(archives: Archives, version: str) -> None:
    assert await push(archives, version, channel=LATEST)
    assert await versions(archives) == [version]
    assert await bytes_of(archives, version) == version.encode()


@given(name=st.text(max_size=30), version=st.text(max_size=30))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
def test_any_text_is_kept_as_it_is_or_refused(name: str, version: str) -> None:
    async def tried(archives: Archives) -> None:
        try:
            await push(archives, version, b"x", name=name)
        except Invalid:
            return
        assert await versions(archives, name) == [version]
        assert list(await listed(archives)) == [name]

    async def both() -> None:
        for make in (lambda store: HostedArchives(store, "private"), TychoArchives):
            store = Memory()
            await tried(make(store))
            await store.close()

    asyncio.run(both())
