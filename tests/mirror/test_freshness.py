"""When upstream is asked again, and what is answered meanwhile, or if it does not answer."""

from typing import Any

import pytest

from tests.e2e import raw
from tests.e2e.processes import until
from tests.e2e.servers import Server
from tests.mirror.asking import STALE, ask_page, download, fresh, metadata, names, until_kept
from tests.mirror.conftest import Mirror, Mirrored
from tests.upstream.double import Upstream
from tests.upstream.stock import Item, Manner, wheel

OLD, NEW = wheel("demo", "1.0"), wheel("demo", "2.0")
BOTH = {OLD.filename, NEW.filename}
ALWAYS = '"0 s"'  # a ttl: no page is fresh


@pytest.mark.parametrize(
    ("manner", "header"),
    [(Manner(), "if-none-match"), (Manner(etag=False), "if-modified-since")],
    ids=["etag", "last-modified"],
)
def test_an_old_page_is_asked_for_again_with_what_upstream_gave(
    mirror: Mirror, upstream: Upstream, manner: Manner, header: str
) -> None:
    upstream.add("demo", OLD, manner=manner)
    server = mirror(ttl=ALWAYS)
    for _ in range(2):
        assert names(server, "demo") == {OLD.filename}
    until(lambda: any(header in seen.headers for seen in upstream.asked("/simple/demo/")), what="a conditional request")
    assert upstream.asked("/simple/demo/")[-1].status == 304
    upstream.add("demo", NEW)
    until(lambda: names(server, "demo") == BOTH, what="the new file")


def test_without_validators_the_page_is_taken_anew(mirror: Mirror, upstream: Upstream) -> None:
    upstream.add("demo", OLD, manner=Manner(etag=False, last_modified=False))
    server = mirror(ttl=ALWAYS)
    assert names(server, "demo") == {OLD.filename}
    upstream.add("demo", NEW)
    until(lambda: names(server, "demo") == BOTH, what="the new file")


def test_upstream_may_ask_to_be_asked_sooner(mirror: Mirror, upstream: Upstream) -> None:
    upstream.add("demo", OLD, manner=Manner(max_age=1))
    upstream.add("steady", wheel("steady"))
    server = mirror(ttl='"10 min"')
    assert names(server, "demo") == {OLD.filename}
    assert names(server, "steady")
    upstream.add("demo", NEW)
    until(lambda: names(server, "demo") == BOTH, what="the new file")
    assert names(server, "steady")
    assert len(upstream.asked("/simple/steady/")) == 1


def test_an_old_page_is_answered_while_upstream_is_asked_behind_it(mirror: Mirror, upstream: Upstream) -> None:
    upstream.add("demo", OLD)
    # Half of it would leave too little time between old and too old on a busy machine.
    server = mirror(ttl='"2 s"', timeout='"60 s"')
    assert names(server, "demo") == {OLD.filename}
    upstream.add("demo", NEW)
    with upstream.held("/simple/demo/") as held:
        assert held.before is not None
        until(lambda: _in_time(server) == {OLD.filename} and held.before.waiting, what="the request behind")  # type: ignore[union-attr]
        assert _in_time(server) == {OLD.filename}
        assert held.before.waiting == 1
    until(lambda: names(server, "demo") == BOTH, what="the new file")


def _in_time(server: Server) -> set[str]:
    """The files on the page, which must not wait for upstream."""
    answer = raw.ask(server.connect(timeout=2), "GET", "/simple/demo/", {"Accept": raw.JSON})
    assert answer.status == 200
    return {file["filename"] for file in answer.json()["files"]}


ANSWERS: dict[str, dict[str, Any]] = {
    "500": {"status": 500},
    "503": {"status": 503},
    "429": {"status": 429, "headers": {"retry-after": "60"}},
    "403": {"status": 403},
    "no page": {"body": b"{", "headers": {"content-type": raw.JSON}},
}
SILENCES: dict[str, dict[str, Any]] = {"dropped": {"drop": True}, "silent": {"delay": 30}, "cut": {"cut": 10}}


@pytest.mark.parametrize("failure", ANSWERS)
def test_a_page_is_served_on_while_upstream_says_no_and_tells_how_old_it_is(always: Mirrored, failure: str) -> None:
    name = fresh()
    item = wheel(name)
    always.upstream.add(name, item, manner=Manner(etag=False, last_modified=False))
    assert STALE not in ask_page(always.server, name).headers
    with always.upstream.fault(f"/simple/{name}/", **ANSWERS[failure]):
        answer = until(lambda: _marked(always.server, name), what="a page that is marked as stale")
        assert_old(answer, item)


@pytest.mark.parametrize("failure", SILENCES)
def test_a_page_is_served_on_while_upstream_fails_and_tells_how_old_it_is(
    mirror: Mirror, upstream: Upstream, failure: str
) -> None:
    upstream.add("demo", OLD, manner=Manner(etag=False, last_modified=False))
    server = mirror(ttl=ALWAYS, timeout='"1 s"')
    assert STALE not in ask_page(server, "demo").headers
    with upstream.fault("/simple/*", **SILENCES[failure]):
        answer = until(lambda: _marked(server), what="a page that is marked as stale")
        assert_old(answer, OLD)


def assert_old(answer: raw.Answer | None, item: Item) -> None:
    assert answer is not None
    assert 0 <= int(answer.headers[STALE]) < 60
    assert [file["filename"] for file in answer.json()["files"]] == [item.filename]


def test_a_page_is_as_it_should_be_when_upstream_answers_again(mirror: Mirror, upstream: Upstream) -> None:
    upstream.add("demo", OLD)
    server = mirror(ttl=ALWAYS)
    assert names(server, "demo")
    with upstream.away():
        until(lambda: _marked(server), what="a page that is marked as stale")
    upstream.add("demo", NEW)
    until(lambda: names(server, "demo") == BOTH, within=30, what="the new file")
    assert STALE not in ask_page(server, "demo").headers


def _marked(server: Server, name: str = "demo") -> raw.Answer | None:
    answer = ask_page(server, name)
    assert answer.status == 200, answer
    return answer if STALE in answer.headers else None


@pytest.mark.soak  # it is told to about ten seconds
def test_the_age_grows_while_upstream_is_away(mirror: Mirror, upstream: Upstream) -> None:
    upstream.add("demo", OLD)
    server = mirror(ttl=ALWAYS)
    assert names(server, "demo")
    upstream.go_away()
    until(lambda: int(ask_page(server, "demo").headers.get(STALE, 0)) >= 2, within=30, what="an age")


def test_what_was_served_is_served_after_a_restart_without_upstream(mirror: Mirror, upstream: Upstream) -> None:
    upstream.add("demo", OLD, NEW)
    server = mirror(ttl=ALWAYS)
    assert download(server, "demo", OLD).body == OLD.data
    assert metadata(server, "demo", OLD).body == OLD.metadata
    until_kept(server, OLD)
    until((server.data / "store" / "upstream" / "upstream" / "demo.json").exists, what="the page in the store")
    server.stop()
    upstream.go_away()
    server.start()
    assert names(server, "demo") == BOTH
    assert STALE in ask_page(server, "demo").headers
    assert download(server, "demo", OLD).body == OLD.data
    assert metadata(server, "demo", OLD).body == OLD.metadata
    assert server.get(f"/files/demo/{NEW.filename}").status in {502, 503, 504}


def test_a_fresh_page_is_fresh_after_a_restart(mirror: Mirror, upstream: Upstream) -> None:
    upstream.add("demo", OLD)
    server = mirror(ttl='"10 min"')
    assert names(server, "demo")
    until((server.data / "store" / "upstream" / "upstream" / "demo.json").exists, what="the page in the store")
    server.stop()
    upstream.forget()
    server.start()
    assert names(server, "demo") == {OLD.filename}
    assert upstream.asked("/simple/demo/") == []


def test_a_page_that_cannot_be_read_from_the_store_is_fetched_anew(mirror: Mirror, upstream: Upstream) -> None:
    upstream.add("demo", OLD)
    server = mirror()
    assert names(server, "demo")
    kept = server.data / "store" / "upstream" / "upstream" / "demo.json"
    until(kept.exists, what="the page in the store")
    server.stop()
    kept.write_bytes(kept.read_bytes()[:20])
    server.start()
    assert names(server, "demo") == {OLD.filename}


def test_a_project_that_upstream_deleted_goes(mirror: Mirror, upstream: Upstream) -> None:
    upstream.add("demo", OLD)
    server = mirror(ttl=ALWAYS)
    assert names(server, "demo")
    upstream.remove("demo")
    until(lambda: ask_page(server, "demo").status == 404, what="404")
