"""A cache has a size: what was asked for longest ago goes first, and never what people uploaded."""

from tests.e2e import raw
from tests.e2e.processes import until
from tests.e2e.servers import Server
from tests.mirror.asking import blobs, download, names, until_kept
from tests.mirror.conftest import Mirror
from tests.upstream.double import Upstream
from tests.upstream.stock import wheel

SIZE = 400_000
LIMIT = 1_000_000


def test_the_cache_stays_within_its_size_and_hosted_files_are_not_touched(mirror: Mirror, upstream: Upstream) -> None:
    items = {f"lib{number}": wheel(f"lib{number}", size=SIZE) for number in range(6)}
    for name, item in items.items():
        upstream.add(name, item)
    server = mirror(max_size=f'"{LIMIT} B"', prefetch="0")
    private = server.data.parent / "private-1.0-py3-none-any.whl"
    private.write_bytes(wheel("private", size=2 * LIMIT).data)
    server.publish(private)
    for name, item in items.items():
        assert download(server, name, item).body == item.data
    until(lambda: 0 < _size(server) <= LIMIT, within=30, what="a cache within its size")
    assert server.download("private", private.name) == private.read_bytes()
    # What went comes again when it is asked for.
    for name, item in items.items():
        assert download(server, name, item).body == item.data
    until(lambda: 0 < _size(server) <= LIMIT, within=30, what="a cache within its size")
    assert set(blobs(server, "private")) >= {private.name}


def _size(server: Server) -> int:
    return sum(size for name, size in blobs(server).items() if name.endswith(".whl"))


def test_what_was_asked_for_longest_ago_goes_first(mirror: Mirror, upstream: Upstream) -> None:
    first, second, third = (wheel(f"lib{number}", size=SIZE) for number in range(3))
    for number, item in enumerate((first, second, third)):
        upstream.add(f"lib{number}", item)
    server = mirror(max_size=f'"{LIMIT} B"', prefetch="0")
    for name, item in (("lib0", first), ("lib1", second)):
        assert download(server, name, item).body == item.data
        until_kept(server, item)
    assert download(server, "lib0", first).body == first.data  # so `second` is the oldest now
    assert download(server, "lib2", third).body == third.data
    until(lambda: second.filename not in blobs(server) and third.filename in blobs(server), within=30, what="one to go")
    assert first.filename in blobs(server)


def test_the_page_of_what_went_still_lists_it(mirror: Mirror, upstream: Upstream) -> None:
    items = [wheel("demo", f"{number}.0", size=SIZE) for number in range(1, 5)]
    upstream.add("demo", *items)
    server = mirror(max_size=f'"{LIMIT} B"', prefetch="0")
    for item in items:
        assert download(server, "demo", item).body == item.data
    until(lambda: 0 < _size(server) <= LIMIT, within=30, what="a cache within its size")
    assert names(server, "demo") == {item.filename for item in items}


def test_a_name_of_which_nothing_is_left_leaves_the_list_of_what_is_kept(mirror: Mirror, upstream: Upstream) -> None:
    items = {f"lib{number}": wheel(f"lib{number}", size=SIZE) for number in range(3)}
    for name, item in items.items():
        upstream.add(name, item)
    server = mirror(max_size=f'"{LIMIT} B"', prefetch="0")
    etags: set[str] = set()
    for name in ("lib0", "lib1"):
        assert download(server, name, items[name]).body == items[name].data
        until_kept(server, items[name])
        assert name in kept(server)
        etags.add(server.get("/local/").headers["etag"])
    assert download(server, "lib2", items["lib2"]).body == items["lib2"].data
    until(lambda: kept(server) == {"lib1", "lib2"}, within=30, what="one to go")
    etags.add(server.get("/local/").headers["etag"])
    assert len(etags) == 3
    assert server.get("/local/lib0/").status == 404
    server.stop()
    assert "lib0" not in "".join(path.name for path in (server.data / "store" / "upstream" / "projects").iterdir())
    server.start()
    server.command("check")


def test_every_worker_lists_what_another_one_keeps(mirror: Mirror, upstream: Upstream) -> None:
    item = wheel("demo")
    upstream.add("demo", item)
    server = mirror(prefetch="0", workers=2)
    for _ in range(8):  # both have the list
        assert kept(server) == set()
    assert download(server, "demo", item).body == item.data
    until_kept(server, item)
    until(lambda: all(kept(server) == {"demo"} for _ in range(8)), what="the name in both lists")


def kept(server: Server) -> set[str]:
    listing = server.get("/local/", {"Accept": raw.JSON}).json()
    return {project["name"] for project in listing["projects"]}
