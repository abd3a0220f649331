"""`--offline`: what is kept here answers, nothing else does, and no request leaves."""

from tests.e2e import raw
from tests.e2e.processes import until
from tests.mirror.asking import ask_page, download, metadata, names, path_of, until_kept
from tests.mirror.conftest import Mirror
from tests.upstream.double import Upstream
from tests.upstream.stock import wheel

KEPT, COLD = wheel("demo", "1.0"), wheel("demo", "2.0")
ABSENT = {404, 502, 503, 504}


def test_what_is_kept_answers_and_nothing_else_does(mirror: Mirror, upstream: Upstream) -> None:
    upstream.add("demo", KEPT, COLD)
    upstream.add("cold", wheel("cold"))
    before = mirror(prefetch="0")
    assert download(before, "demo", KEPT).body == KEPT.data
    assert metadata(before, "demo", KEPT).body == KEPT.metadata
    until_kept(before, KEPT)
    until((before.data / "store" / "upstream" / "upstream" / "demo.json").exists, what="the page in the store")
    before.stop()
    upstream.quiet()
    upstream.forget()
    offline = mirror(data=before.data, args=("--offline",))
    assert KEPT.filename in names(offline, "demo")
    assert download(offline, "demo", KEPT).body == KEPT.data
    assert metadata(offline, "demo", KEPT).body == KEPT.metadata
    assert offline.get(path_of("demo", KEPT), {"Range": "bytes=0-9"}).body == KEPT.data[:10]
    assert offline.get(path_of("demo", COLD)).status in ABSENT
    assert metadata(offline, "demo", COLD).status in ABSENT
    assert ask_page(offline, "cold").status in ABSENT
    assert ask_page(offline, "nowhere").status in ABSENT
    assert offline.get("/simple/", {"Accept": raw.JSON}).status == 200
    assert upstream.asked() == []


def test_an_empty_server_starts_without_upstream(mirror: Mirror, upstream: Upstream) -> None:
    upstream.go_away()
    server = mirror(args=("--offline",))
    file = server.data.parent / "private-1.0-py3-none-any.whl"
    file.write_bytes(wheel("private").data)
    server.publish(file)
    assert names(server, "private") == {file.name}
