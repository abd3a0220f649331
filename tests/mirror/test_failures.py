"""An upstream that fails is a failure, soon, and never "not found", which would send clients elsewhere."""

import time
from typing import Any

import pytest

from tests.e2e import raw
from tests.e2e.processes import until
from tests.e2e.raw import Answer
from tests.e2e.servers import Server
from tests.mirror.asking import (
    BROKEN,
    UNAVAILABLE,
    ask_page,
    assert_unavailable,
    download,
    fresh,
    names,
    path_of,
    until_kept,
)
from tests.mirror.conftest import Mirror, Mirrored
from tests.upstream.double import Upstream
from tests.upstream.stock import Manner, wheel

ITEM = wheel("demo", size=300_000)
LIMIT = 15  # seconds in which a client must know, with a timeout of one second
SOON = '"1 s"'
ANSWERS: dict[str, dict[str, Any]] = {
    "500": {"status": 500},
    "503": {"status": 503},
    "429": {"status": 429, "headers": {"retry-after": "30"}},
    "401": {"status": 401},
    "403": {"status": 403},
    "loop": {},
}
SILENCES: dict[str, dict[str, Any]] = {
    "dropped": {"drop": True},
    "silent": {"delay": 60},
    "cut": {"cut": 5},
    "refused": {},
}


def in_time(server: Server, path: str) -> Answer:
    began = time.monotonic()
    answer = raw.ask(server.connect(timeout=LIMIT), "GET", path, {"Accept": raw.JSON})
    assert time.monotonic() - began < LIMIT
    return answer


@pytest.mark.parametrize("fault", ANSWERS)
def test_a_cold_page_of_which_upstream_says_no_is_unavailable(always: Mirrored, fault: str) -> None:
    name = fresh()
    always.upstream.add(name, wheel(name))
    with always.upstream.fault(f"/simple/{name}/", **_said(fault, f"/simple/{name}/")):
        assert_unavailable(in_time(always.server, f"/simple/{name}/"))
    assert names(always.server, name)


@pytest.mark.parametrize("fault", ANSWERS)
def test_a_cold_file_of_which_upstream_says_no_is_unavailable(always: Mirrored, fault: str) -> None:
    name = fresh()
    item = wheel(name)
    always.upstream.add(name, item)
    assert names(always.server, name)
    path = path_of(name, item)
    with always.upstream.fault(f"/files/{name}/*", **_said(fault, path)):
        assert_unavailable(in_time(always.server, path))
        assert_unavailable(in_time(always.server, f"{path}.metadata"))
    assert download(always.server, name, item).body == item.data


def _said(fault: str, path: str) -> dict[str, Any]:
    return {"redirect": path} if fault == "loop" else ANSWERS[fault]


@pytest.mark.parametrize("fault", SILENCES)
def test_a_cold_page_is_unavailable(mirror: Mirror, upstream: Upstream, fault: str) -> None:
    upstream.add("demo", ITEM)
    server = mirror(timeout=SOON)
    _silence(upstream, fault)
    assert_unavailable(in_time(server, "/simple/demo/"))


@pytest.mark.parametrize("fault", [fault for fault in SILENCES if fault != "cut"])
def test_a_cold_file_is_unavailable(mirror: Mirror, upstream: Upstream, fault: str) -> None:
    upstream.add("demo", ITEM)
    server = mirror(timeout=SOON, prefetch="0")
    assert names(server, "demo")
    _silence(upstream, fault)
    assert_unavailable(in_time(server, path_of("demo", ITEM)))
    assert_unavailable(in_time(server, f"{path_of('demo', ITEM)}.metadata"))


def _silence(upstream: Upstream, fault: str) -> None:
    if fault == "refused":
        upstream.go_away()
    else:
        upstream.fault(**SILENCES[fault])


def test_one_file_that_fails_keeps_nothing_else_from_coming(mirror: Mirror, upstream: Upstream) -> None:
    other = wheel("other")
    upstream.add("demo", ITEM)
    upstream.add("other", other)
    server = mirror(prefetch="0")
    assert names(server, "demo")
    upstream.fault(path_of("demo", ITEM), status=500)
    assert server.get(path_of("demo", ITEM)).status in UNAVAILABLE
    assert download(server, "other", other).body == other.data


def test_what_fails_once_is_tried_again(mirror: Mirror, upstream: Upstream) -> None:
    upstream.add("demo", ITEM)
    server = mirror(prefetch="0")
    upstream.fault("/simple/demo/", status=503, times=1)
    assert names(server, "demo") == {ITEM.filename}
    upstream.fault(path_of("demo", ITEM), drop=True, times=1)
    assert download(server, "demo", ITEM).body == ITEM.data


def test_hosted_projects_need_no_upstream(mirror: Mirror, upstream: Upstream, tmp_path: object) -> None:
    server = mirror()
    file = server.data.parent / "private-1.0-py3-none-any.whl"
    file.write_bytes(wheel("private").data)
    server.publish(file)
    upstream.go_away()
    assert names(server, "private") == {file.name}
    assert server.download("private", file.name) == file.read_bytes()
    assert ask_page(server, "unknown").status in UNAVAILABLE
    assert server.get("/simple/", {"Accept": raw.JSON}).status == 200


@pytest.mark.parametrize("kind", ["refused", "silent"])
def test_warm_pages_stay_fast_and_upstream_is_left_alone_while_it_is_down(
    mirror: Mirror, upstream: Upstream, kind: str
) -> None:
    projects = [f"warm{number}" for number in range(10)]
    for name in projects:
        upstream.add(name, wheel(name), manner=Manner(metadata="none"))
    server = mirror(ttl='"0 s"', timeout=SOON, prefetch="0")
    for name in projects:
        assert names(server, name)
    upstream.quiet()
    upstream.forget()
    if kind == "refused":
        upstream.go_away()
    else:
        upstream.fault(delay=60)
    # Once for each, until it is known that upstream is down.
    until(
        lambda: all("x-entrepot-stale" in ask_page(server, name).headers for name in projects),
        within=30,
        what="all stale",
    )
    began = time.monotonic()
    for _ in range(20):
        for name in projects:
            assert ask_page(server, name).status == 200
    took = time.monotonic() - began
    assert took < 4, f"200 warm pages took {took:.1f} s"
    assert len(upstream.asked()) < 60


def test_cold_requests_are_refused_at_once_while_upstream_is_known_to_be_down(
    mirror: Mirror, upstream: Upstream
) -> None:
    server = mirror(timeout=SOON)
    upstream.fault(delay=60)
    assert_unavailable(in_time(server, "/simple/first/"))
    until(lambda: _at_once(server), within=20, what="a refusal at once")
    asked = len(upstream.asked())
    answers = [ask_page(server, f"cold{number}") for number in range(20)]
    assert {answer.status for answer in answers} <= UNAVAILABLE
    assert len(upstream.asked()) - asked < 5


def _at_once(server: Server) -> bool:
    began = time.monotonic()
    assert ask_page(server, "another").status in UNAVAILABLE
    return time.monotonic() - began < 0.3


def test_upstream_that_comes_back_is_used_again(mirror: Mirror, upstream: Upstream) -> None:
    upstream.add("demo", ITEM)
    server = mirror()
    with upstream.away():
        for _ in range(5):
            assert ask_page(server, "demo").status in UNAVAILABLE
    until(lambda: ask_page(server, "demo").status == 200, within=30, what="upstream in use again")
    assert download(server, "demo", ITEM).body == ITEM.data


def test_what_is_kept_comes_at_full_speed_when_upstream_dies_in_mid_download(
    mirror: Mirror, upstream: Upstream
) -> None:
    kept, cut = wheel("kept", size=100_000), wheel("cut", size=3_000_000)
    upstream.add("kept", kept)
    upstream.add("cut", cut)
    server = mirror(ttl='"0 s"', prefetch="0")
    assert download(server, "kept", kept).body == kept.data
    until_kept(server, kept)
    assert names(server, "cut")
    with upstream.held(path_of("cut", cut), after=100_000) as held:
        running = server.connect()
        running.request("GET", path_of("cut", cut))
        assert held.within is not None
        held.within.reached()
        upstream.go_away()
    try:
        answer = raw.answer_of(running.getresponse())
    except BROKEN:
        pass
    else:
        assert answer.status in UNAVAILABLE
    running.close()
    began = time.monotonic()
    for _ in range(10):
        assert download(server, "kept", kept).body == kept.data
    assert time.monotonic() - began < 5
    assert_unavailable(in_time(server, path_of("cut", cut)))
    assert_unavailable(in_time(server, "/simple/unseen/"))
