"""Every wheel has its `.metadata`: upstream's if it is right, else read from the wheel, of which as little as can be."""

import hashlib

import pytest

from tests.distributions.build import zip_bytes
from tests.e2e.processes import until
from tests.mirror.asking import (
    assert_unavailable,
    download,
    fresh,
    listed,
    metadata,
    names,
    path_of,
    until_kept,
)
from tests.mirror.conftest import Mirror, Mirrored
from tests.upstream.double import Upstream
from tests.upstream.stock import Item, Manner, sdist, wheel

MIB = 1 << 20


def stocked(shared: Mirrored, *, size: int = 0, **manner: object) -> tuple[str, Item]:
    name = fresh("lib")
    item = wheel(name, size=size, requires=["something>=1"])
    shared.upstream.add(name, item, manner=Manner(**manner))  # type: ignore[arg-type]
    return name, item


def sent(upstream: Upstream, name: str, item: Item) -> int:
    upstream.quiet(f"*{name}*")
    return sum(seen.sent for seen in upstream.asked(path_of(name, item)))


def assert_right(shared: Mirrored, name: str, item: Item) -> None:
    """It is advertised, its bytes are the wheel's, and so is the hash as soon as the page tells it."""
    assert listed(shared.server, name)[item.filename]["core-metadata"]
    answer = metadata(shared.server, name, item)
    assert (answer.status, answer.body) == (200, item.metadata)
    told = until(lambda: _hash(shared, name, item), what="the hash on the page")
    assert told == hashlib.sha256(item.metadata or b"").hexdigest()


def _hash(shared: Mirrored, name: str, item: Item) -> str:
    told = listed(shared.server, name)[item.filename]["core-metadata"]
    return str(told["sha256"]) if isinstance(told, dict) else ""


def test_upstreams_own_is_taken_and_the_wheel_left_alone(shared: Mirrored) -> None:
    name, item = stocked(shared, size=MIB)
    assert_right(shared, name, item)
    assert sent(shared.upstream, name, item) <= 1  # by which it is learned whether its host honours ranges
    assert len(shared.upstream.asked(f"{path_of(name, item)}.metadata")) == 1


def test_upstreams_own_without_a_hash_is_taken(shared: Mirrored) -> None:
    name, item = stocked(shared, metadata="true")
    assert_right(shared, name, item)


def test_it_is_read_from_the_end_of_the_wheel_where_upstream_has_none(shared: Mirrored) -> None:
    name, item = stocked(shared, size=8 * MIB, metadata="none")
    assert_right(shared, name, item)
    asked = shared.upstream.asked(path_of(name, item), method="GET")
    assert all(seen.range for seen in asked)
    assert len(asked) <= 3
    assert sent(shared.upstream, name, item) < MIB


def test_it_is_read_from_the_whole_wheel_where_upstream_knows_no_ranges(mirror: Mirror, upstream: Upstream) -> None:
    item = wheel("demo", size=3 * MIB)
    upstream.add("demo", item, manner=Manner(metadata="none", ranges="ignored"))
    server = mirror(prefetch="0")
    assert names(server, "demo")
    assert metadata(server, "demo", item).body == item.metadata
    # The wheel is here now.
    until_kept(server, item)
    upstream.forget()
    assert download(server, "demo", item).body == item.data
    assert upstream.asked(path_of("demo", item)) == []


@pytest.mark.parametrize("ranges", ["claimed", "shifted", "other"])
def test_ranges_that_lie_do_not_lead_to_wrong_metadata(mirror: Mirror, upstream: Upstream, ranges: str) -> None:
    item = wheel("demo", size=3 * MIB)
    upstream.add("demo", item, manner=Manner(metadata="none", ranges=ranges))  # type: ignore[arg-type]
    server = mirror(prefetch="0")
    assert names(server, "demo")
    assert metadata(server, "demo", item).body == item.metadata


@pytest.mark.parametrize("told", ["wrong", "lost"])
def test_our_own_wins_where_upstreams_is_wrong_or_not_there(shared: Mirrored, told: str) -> None:
    name, item = stocked(shared, metadata=told)
    assert_right(shared, name, item)


@pytest.mark.parametrize("status", [403, 500, 503])
def test_our_own_wins_where_upstreams_fails(always: Mirrored, status: int) -> None:
    name, item = stocked(always)
    assert names(always.server, name)
    with always.upstream.fault(f"/files/{name}/*.metadata", status=status):
        answer = metadata(always.server, name, item)
    assert (answer.status, answer.body) == (200, item.metadata)


def test_if_neither_can_be_had_it_is_unavailable(always: Mirrored) -> None:
    name, item = stocked(always)
    assert names(always.server, name)
    with always.upstream.fault(f"/files/{name}/*", status=503):
        assert_unavailable(metadata(always.server, name, item))
    until(lambda: metadata(always.server, name, item).status == 200, within=30, what="the metadata")


def test_it_is_kept(shared: Mirrored) -> None:
    for told in ("right", "none"):
        name, item = stocked(shared, metadata=told)
        assert_right(shared, name, item)
        shared.upstream.quiet(f"*{name}*")
        shared.upstream.forget()
        assert metadata(shared.server, name, item).body == item.metadata
        assert shared.upstream.asked(f"*{name}*whl*") == []


def test_that_of_a_kept_wheel_is_read_here(mirror: Mirror, upstream: Upstream) -> None:
    item = wheel("demo")
    upstream.add("demo", item, manner=Manner(metadata="none"))
    server = mirror(prefetch="0")
    assert download(server, "demo", item).body == item.data
    until_kept(server, item)
    upstream.go_away()
    assert metadata(server, "demo", item).body == item.metadata


def test_a_large_wheel_promises_none_before_it_is_known_how_to_get_it(mirror: Mirror, upstream: Upstream) -> None:
    huge = wheel("demo", size=33 * MIB)
    upstream.add("demo", huge, manner=Manner(metadata="none", ranges="ignored"))
    server = mirror(prefetch="0", timeout='"20 s"')
    assert not listed(server, "demo")[huge.filename].get("core-metadata")
    assert download(server, "demo", huge).status == 200
    until(
        lambda: listed(server, "demo")[huge.filename].get("core-metadata"), what="the metadata of a wheel that is here"
    )
    assert metadata(server, "demo", huge).body == huge.metadata


def test_a_large_wheel_promises_it_where_upstream_is_known_to_honour_ranges(mirror: Mirror, upstream: Upstream) -> None:
    small, huge = wheel("small"), wheel("demo", size=33 * MIB)
    upstream.add("small", small, manner=Manner(metadata="none"))
    upstream.add("demo", huge, manner=Manner(metadata="none"))
    server = mirror(prefetch="0")
    assert names(server, "small")
    assert metadata(server, "small", small).body == small.metadata
    assert listed(server, "demo")[huge.filename]["core-metadata"]
    assert metadata(server, "demo", huge).body == huge.metadata
    assert sent(upstream, "demo", huge) < MIB


def test_that_of_the_newest_is_there_before_it_is_asked_for(shared: Mirrored) -> None:
    name = fresh("lib")
    items = [wheel(name, f"{number}.0") for number in range(1, 11)]
    shared.upstream.add(name, *items)
    assert names(shared.server, name)
    newest = f"{path_of(name, items[-1])}.metadata"
    until(lambda: shared.upstream.asked(newest), what="the newest wheel's metadata")
    shared.upstream.quiet(f"*{name}*")
    assert len(shared.upstream.asked(f"/files/{name}/*.metadata")) <= 4
    assert shared.upstream.asked(f"{path_of(name, items[0])}.metadata") == []
    assert metadata(shared.server, name, items[-1]).body == items[-1].metadata
    assert len(shared.upstream.asked(newest)) == 1


@pytest.mark.parametrize(("versions", "newest"), [(("1.0", "2.0rc1"), "1.0"), (("1.0a1", "2.0rc1"), "2.0rc1")])
def test_a_pre_release_is_fetched_ahead_only_where_there_is_no_final_version(
    mirror: Mirror, upstream: Upstream, versions: tuple[str, ...], newest: str
) -> None:
    upstream.add("demo", *[wheel("demo", version) for version in versions])
    server = mirror()
    assert names(server, "demo")
    until(lambda: upstream.asked(f"/files/demo/demo-{newest}-*.metadata"), what="the newest wheel's metadata")
    upstream.quiet()
    assert len(upstream.asked("/files/demo/*.metadata")) == 1


def test_nothing_is_fetched_ahead_where_that_is_not_wanted(mirror: Mirror, upstream: Upstream) -> None:
    upstream.add("demo", wheel("demo"))
    upstream.add("last", wheel("last"))
    server = mirror(prefetch="0")
    assert names(server, "demo")
    assert names(server, "last")
    upstream.quiet()
    # But for a byte of some file, by which we learn whether its host honours ranges.
    asked = upstream.asked("/files/*")
    assert [seen for seen in asked if not seen.range or seen.sent > 1] == []


def bare() -> Item:
    """A wheel that has no METADATA."""
    data = zip_bytes({"demo/__init__.py": b"", "demo-2.0.dist-info/WHEEL": b"Wheel-Version: 1.0\n"})
    return Item(filename="demo-2.0-py3-none-any.whl", version="2.0", data=data)


@pytest.mark.parametrize("told", ["none", "right"])
def test_a_wheel_that_comes_without_metadata_is_withheld_at_once(mirror: Mirror, upstream: Upstream, told: str) -> None:
    good, bad = wheel("demo", "1.0"), bare()
    upstream.add("demo", good, bad, manner=Manner(metadata=told))  # type: ignore[arg-type]
    server = mirror(prefetch="0")
    assert download(server, "demo", bad).body == bad.data
    until_kept(server, bad)
    assert names(server, "demo") == {good.filename}
    answer = server.get(path_of("demo", bad))
    assert answer.status == 403
    assert "its metadata cannot be used: demo-2.0.dist-info/METADATA: the file is missing" in answer.text
    assert server.get(path_of("demo", bad).replace("/files/", "/local/files/")).status == 403
    said = server.try_command("explain", "demo")  # which asks upstream itself, and leaves nothing open
    assert (said.returncode, said.stderr) == (0, "")
    assert "its metadata cannot be used" in said.stdout
    server.stop()
    for path in (server.data / "store" / "upstream" / "metadata").glob("*"):
        path.unlink()  # a cache: what is kept tells it as well
    server.start()
    assert names(server, "demo") == {good.filename}
    assert metadata(server, "demo", bad).status in {403, 404}
    assert len([seen for seen in upstream.asked(path_of("demo", bad)) if not seen.range]) == 1


@pytest.mark.parametrize("ranges", ["honoured", "ignored"])
def test_a_wheel_without_metadata_is_withheld(mirror: Mirror, upstream: Upstream, ranges: str) -> None:
    good, bad = wheel("demo", "1.0"), bare()
    upstream.add("demo", good, bad, manner=Manner(metadata="none", ranges=ranges))  # type: ignore[arg-type]
    server = mirror()
    assert good.filename in names(server, "demo")
    assert metadata(server, "demo", bad).status >= 400
    until(lambda: names(server, "demo") == {good.filename}, what="a page without the bad wheel")
    assert server.get(path_of("demo", bad)).status in {403, 404}
    assert metadata(server, "demo", good).body == good.metadata


def test_static_metadata_of_an_sdist_is_told_once_it_is_here(shared: Mirrored) -> None:
    name = fresh("src")
    static, dynamic = (
        sdist(name, version, metadata_extra=f"Metadata-Version: 2.2\n{more}")
        for version, more in (("1.0", ""), ("2.0", "Dynamic: Requires-Dist\n"))
    )
    shared.upstream.add(name, static, dynamic)
    for item in (static, dynamic):
        assert download(shared.server, name, item).body == item.data
        until_kept(shared.server, item)
    until(
        lambda: listed(shared.server, name)[static.filename].get("core-metadata"), within=5, what="the sdist's metadata"
    )
    assert b"Metadata-Version: 2.2\n" in metadata(shared.server, name, static).body
    assert not listed(shared.server, name)[dynamic.filename].get("core-metadata")
