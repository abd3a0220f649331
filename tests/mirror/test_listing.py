"""`/simple/?all=1`: the names that are here, and all that upstream has."""

import gzip
from collections.abc import Mapping
from typing import Any

import pytest
from pypi_simple import ACCEPT_HTML_ONLY, ACCEPT_JSON_ONLY, PyPISimple

from tests.e2e import raw
from tests.e2e.processes import peak_memory, until
from tests.e2e.raw import Answer
from tests.e2e.servers import Server, Servers
from tests.mirror.asking import STALE, assert_unavailable, download, fresh, said, until_kept
from tests.mirror.conftest import NO_PROXY, Mirror, Mirrored
from tests.upstream.double import Upstream
from tests.upstream.stock import Manner, wheel

MIB = 1 << 20
# The hosted index stands first, and a second virtual one around the first.
RULED = """
[index.private]
type = "hosted"
[index.upstream]
type = "mirror"
url = "{url}"
private-addresses = true
rules = [{{ deny = "evil-*" }}, {{ deny = "old==1.*" }}, {{ formats = ["wheel"] }}]
[index.root]
type = "virtual"
of = ["private", "upstream"]
own = ["acme-*"]
[index.few]
type = "virtual"
of = ["root"]
rules = [{{ allow = ["open-*", "*.whl", "some>=2"] }}]
[index.fewer]
type = "virtual"
of = ["root"]
rules = [{{ allow = ["open-*", "some>=2"] }}]
[index.away]
type = "virtual"
of = ["private", "plain"]
fallback = "redirect"
[index.plain]
type = "mirror"
url = "{url}"
private-addresses = true
"""


def ask(server: Server, *, index: str = "", headers: Mapping[str, str] | None = None) -> Answer:
    return server.get(f"{index}/simple/?all=1", headers if headers is not None else {"Accept": raw.JSON})


def listed(server: Server, *, index: str = "") -> list[str]:
    answer = ask(server, index=index)
    assert answer.status == 200, answer
    return [project["name"] for project in answer.json()["projects"]]


@pytest.mark.parametrize("manner", [Manner(html=False), Manner(json=False)], ids=["json", "html"])
def test_what_upstream_has_is_listed_with_what_is_here(mirror: Mirror, upstream: Upstream, manner: Manner) -> None:
    upstream.manner = manner
    upstream.listed = ("Unseen.Name", "unseen_name", "zz", "a", "a-b", "a.b")
    server = mirror(prefetch="0")
    for name in ("private-thing", "a"):
        file = server.data.parent / f"{name.replace('-', '_')}-1.0-py3-none-any.whl"
        file.write_bytes(wheel(name).data)
        server.publish(file)
    assert listed(server) == ["a", "a-b", "private-thing", "unseen-name", "zz"]
    assert listed(server, index="/upstream") == ["a", "a-b", "unseen-name", "zz"]
    assert listed(server, index="/private") == ["a", "private-thing"]
    assert listed(server, index="/local") == ["a", "private-thing"]
    for accept in (ACCEPT_JSON_ONLY, ACCEPT_HTML_ONLY):
        with PyPISimple(f"{server.simple}?all=1#", accept=accept) as reader:
            reader.s.trust_env = False
            assert reader.get_index_page().projects == ["a", "a-b", "private-thing", "unseen-name", "zz"]
    assert len(upstream.asked("/simple/")) == 1


def test_its_head_and_its_codings(mirror: Mirror, upstream: Upstream) -> None:
    upstream.listed = tuple(f"name-{number}" for number in range(3000))
    server = mirror()
    plain = ask(server)
    assert "etag" not in plain.headers
    assert plain.headers["cache-control"] == "no-cache"
    head = server.ask("HEAD", "/simple/?all=1", {"Accept": raw.JSON})
    assert (head.status, head.body, head.headers["content-type"]) == (200, b"", raw.JSON)
    packed = ask(server, headers={"Accept": raw.JSON, "Accept-Encoding": "gzip"})
    assert packed.headers["content-encoding"] == "gzip"
    assert gzip.decompress(packed.body) == plain.body
    assert len(plain.json()["projects"]) == 3000
    assert ask(server, headers={"Accept": "image/png"}).status == 406


def test_without_the_query_it_stays_short(shared: Mirrored) -> None:
    unseen = fresh("unseen")
    shared.upstream.add(unseen, wheel(unseen))
    for query in ("", "?all=0", "?all"):
        answer = shared.server.get(f"/simple/{query}", {"Accept": raw.JSON})
        assert unseen not in {project["name"] for project in answer.json()["projects"]}


def test_names_that_could_show_nothing_of_upstream_are_not_taken_from_it(serve: Servers, upstream: Upstream) -> None:
    upstream.listed = ("acme-secret", "evil-thing", "old", "open-thing", "other", "some")
    server = serve(config=RULED.format(url=upstream.url), env=NO_PROXY)
    assert listed(server, index="/upstream") == ["acme-secret", "old", "open-thing", "other", "some"]
    assert listed(server) == ["old", "open-thing", "other", "some"]
    assert listed(server, index="/few") == ["old", "open-thing", "other", "some"]  # any name may have a wheel
    assert listed(server, index="/fewer") == ["open-thing", "some"]
    assert listed(server, index="/away") == []  # its mirror is not asked
    assert listed(server, index="/plain") == sorted(upstream.listed)


def test_who_may_read_some_names_gets_those(serve: Servers, upstream: Upstream) -> None:
    upstream.listed = ("demo-one", "demo-two", "other")
    config = f'[index.root]\ntype = "mirror"\nurl = "{upstream.url}"\nprivate-addresses = true\nread = "token"\n'
    server = serve(config=config, env=NO_PROXY)
    assert ask(server).status == 401
    token = server.token("read", args=("--project", "demo-*"))
    answer = ask(server, headers={"Accept": raw.JSON, "Authorization": raw.basic(token)})
    assert [project["name"] for project in answer.json()["projects"]] == ["demo-one", "demo-two"]
    assert answer.headers["cache-control"] == "private, no-cache"


# Freshness.


def test_it_is_asked_for_again_when_it_is_old_and_only_sent_if_it_changed(mirror: Mirror, upstream: Upstream) -> None:
    upstream.listed = ("one",)
    server = mirror(ttl='"0 s"')
    assert listed(server) == ["one"]
    assert listed(server) == ["one"]
    assert [seen.status for seen in upstream.asked("/simple/")] == [200, 304]
    upstream.listed = ("one", "two")
    assert listed(server) == ["one", "two"]
    lists = server.data / "store" / "upstream" / "list"
    assert len(list(lists.iterdir())) == 2  # the older list went


def test_all_workers_share_one_list(mirror: Mirror, upstream: Upstream) -> None:
    upstream.listed = ("one",)
    server = mirror(workers=2)
    assert [listed(server) for _ in range(8)] == [["one"]] * 8
    assert len(upstream.asked("/simple/")) == 1


def test_it_survives_a_restart(mirror: Mirror, upstream: Upstream) -> None:
    upstream.listed = ("one",)
    before = mirror()
    assert listed(before) == ["one"]
    before.stop()
    upstream.go_away()
    assert listed(mirror(data=before.data)) == ["one"]


def test_a_cache_that_somebody_emptied_is_filled_again(mirror: Mirror, upstream: Upstream) -> None:
    upstream.listed = ("one",)
    server = mirror()
    assert listed(server) == ["one"]
    for path in (server.data / "store" / "upstream" / "list").iterdir():
        path.unlink()
    assert listed(server) == ["one"]
    assert len(upstream.asked("/simple/")) == 2


def test_offline_it_has_what_is_kept_here(mirror: Mirror, upstream: Upstream) -> None:
    item = wheel("demo")
    upstream.add("demo", item)
    upstream.listed = ("unseen",)
    before = mirror(prefetch="0")
    assert download(before, "demo", item).body == item.data
    until_kept(before, item)
    assert listed(before) == ["demo", "unseen"]
    before.stop()
    offline = mirror(data=before.data, args=("--offline",))
    assert listed(offline) == ["demo"]


def test_a_flat_upstream_has_the_projects_of_its_files(mirror: Mirror, upstream: Upstream) -> None:
    for name in ("demo", "other-thing"):
        upstream.add(name, wheel(name))
    assert listed(mirror(url=upstream.flat, layout='"flat"')) == ["demo", "other-thing"]


# Failures.


FAULTS: dict[str, dict[str, Any]] = {
    "500": {"status": 500},
    "404": {"status": 404},
    "cut": {"cut": 1000},
    "cut-without-a-length": {"cut": 1000, "chunked": True},
    "dropped": {"drop": True},
    "broken": {"change": lambda body: body[:-20]},
    "of-another-version": {"change": lambda body: body.replace(b'"1.1"', b'"2.0"')},
    "of-no-kind": {"body": b'{"projects": []}', "headers": {"content-type": "text/plain"}},
}


@pytest.mark.parametrize("fault", FAULTS)
def test_an_upstream_that_fails_at_first_is_unavailable(mirror: Mirror, upstream: Upstream, fault: str) -> None:
    upstream.listed = tuple(f"name-{number}" for number in range(500))
    server = mirror()
    with upstream.fault("/simple/", **FAULTS[fault]):
        answer = ask(server)
        assert_unavailable(answer)
        assert "upstream" in answer.json()["detail"]
    until(lambda: ask(server).status == 200, within=15, what="an upstream that is asked again")
    assert len(listed(server)) == 500
    assert list((server.data / "store" / "staging").iterdir()) == []


def test_what_is_kept_answers_while_upstream_fails(mirror: Mirror, upstream: Upstream) -> None:
    upstream.listed = ("one", "two")
    server = mirror(ttl='"0 s"')
    assert STALE not in ask(server).headers
    for fault in FAULTS.values():
        with upstream.fault("/simple/", **fault):
            until(lambda: STALE in ask(server).headers, what="a stale list")
            assert listed(server) == ["one", "two"]
    said(server, "its list is served as it was")


# Memory.


def test_a_long_list_takes_little_memory(mirror: Mirror, upstream: Upstream) -> None:
    upstream.listed = tuple(f"Some.Name_{number * 7919 % 200_000}" for number in range(200_000))
    server = mirror(timeout='"20 s"')
    assert names_here(server) == []
    [worker] = server.workers()
    before = peak_memory(worker)
    found = listed(server)
    assert len(found) == 200_000
    assert found == sorted(found)
    assert peak_memory(worker) - before < 32 * MIB  # parsed at once the list would take 60


def names_here(server: Server) -> list[str]:
    return [project["name"] for project in server.get("/simple/", {"Accept": raw.JSON}).json()["projects"]]
