"""The hot path never shows: whatever is asked in whatever order, a server with a cache answers as one without."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from entrepot.http1 import head
from entrepot.index import OnDisk
from entrepot.model import Project, ProjectName, Revision
from entrepot.web.cache import Ready, ReadyCache
from entrepot.web.warm import is_unchanged
from tests.e2e.raw import basic
from tests.web.conftest import MAIN, SENDERS, TAKEN
from tests.web.fronts import HTML, JSON, PIP, Front, fresh, sdist, wheel

# What changes a page, and what the page must show with the very next request.


def shown(front: Front, name: str) -> dict[str, object]:
    """The page in every form, from memory if it can be."""
    page = front.page(name)
    for accept in (JSON, HTML, "text/html"):
        for coding in ("identity", "gzip", "zstd"):
            for _ in range(2):
                front.get(f"/simple/{name}/", {"Accept": accept, "Accept-Encoding": coding})
    assert front.page(name) == page
    return page


def test_every_change_shows_with_the_next_request(front: Front) -> None:
    name = fresh()
    assert front.get(f"/simple/{name}/").status == 404
    front.publish(wheel(name, "1.0"))
    assert shown(front, name)["versions"] == ["1.0"]
    front.publish(sdist(name, "2.0"))
    assert shown(front, name)["versions"] == ["1.0", "2.0"]
    front.amend(name, yanked="broken")
    assert {file["yanked"] for file in front.page(name)["files"]} == {"broken"}
    shown(front, name)
    front.amend(name, yanked=None)
    assert {file["yanked"] for file in front.page(name)["files"]} == {False}
    shown(front, name)
    front.mark(name, "archived", "use another")
    assert front.page(name)["project-status"] == {"status": "archived", "reason": "use another"}
    shown(front, name)
    front.mark(name, "active")
    assert "project-status" not in shown(front, name)
    front.delete(name, sdist(name, "2.0").filename)
    assert shown(front, name)["versions"] == ["1.0"]
    front.restore(name, sdist(name, "2.0").filename)
    assert shown(front, name)["versions"] == ["1.0", "2.0"]
    front.delete(name, wheel(name, "1.0").filename, sdist(name, "2.0").filename)
    assert shown(front, name)["files"] == []


def test_a_new_project_is_in_the_list_with_the_next_request(front: Front) -> None:
    for accept in (JSON, "text/html"):
        for index in ("", "/private"):
            name = fresh()
            for _ in range(2):
                assert name not in front.get(f"{index}/simple/", {"Accept": accept}).text
            front.publish(wheel(name))
            assert f"{name}" in front.get(f"{index}/simple/", {"Accept": accept}).text


def test_a_private_name_takes_over_from_the_folder_with_the_next_request(front: Front) -> None:
    """The first index that knows a name owns it: also when the page of the second one is warm."""
    name = TAKEN.partition("-")[0]  # no other test asks for it: it is taken for good
    for _ in range(2):
        assert front.get(f"/simple/{name}/").status == 200
    assert front.filenames(name) == []
    front.publish(wheel(name, "3.0"))
    assert front.filenames(name) == [wheel(name, "3.0").filename]
    assert [file["filename"] for file in front.page(name, index="/wheels")["files"]] == []


def test_workers_agree_at_once(make: Callable[..., Front]) -> None:
    """Each request has a connection of its own, and so one of the two workers."""
    front = make("http1", "[server]\nworkers = 2\n")
    name = fresh()
    assert {front.get(f"/simple/{name}/").status for _ in range(20)} == {404}
    for number in range(1, 6):
        front.publish(wheel(name, f"{number}.0"))
        assert {len(front.filenames(name)) for _ in range(20)} == {number}
    front.delete(name, wheel(name, "1.0").filename)
    assert {front.get(f"/files/{name}/{wheel(name, '1.0').filename}").status for _ in range(20)} == {404}
    assert {len(front.filenames(name)) for _ in range(20)} == {4}


def test_an_old_etag_gets_the_new_page(front: Front) -> None:
    name = fresh()
    front.publish(wheel(name, "1.0"))
    old = front.get(f"/simple/{name}/", {"Accept": PIP}).headers["etag"]
    assert front.get(f"/simple/{name}/", {"Accept": PIP, "If-None-Match": old}).status == 304
    front.publish(wheel(name, "2.0"))
    assert front.get(f"/simple/{name}/", {"Accept": PIP, "If-None-Match": old}).status == 200


# Any sequence of requests and changes.

NAMES = ("alpha", "beta", "gamma-rays")
ACCEPTS = (None, PIP, JSON, HTML, "text/html", "*/*", "image/png", f"{JSON};q=0")
CODINGS = (None, "gzip", "zstd", "gzip, zstd", "identity", "gzip;q=0", "br")
FILES = {name: (wheel(name, "1.0"), wheel(name, "2.0"), sdist(name, "1.0")) for name in NAMES}


@dataclass(frozen=True)
class Asked:
    method: str
    target: str
    accept: str | None
    coding: str | None
    who: str  # "", or one of the tokens below
    range: str | None
    known: str | None  # "etag" stands for the one that was last seen there

    def headers(self, tokens: dict[str, str], etags: dict[str, str]) -> dict[str, str]:
        known = etags.get(self.target, '"none"') if self.known == "etag" else self.known
        given = {
            "Host": "localhost",  # which legacy JSON repeats, so that no port is in it
            "Accept": self.accept,
            "Accept-Encoding": self.coding,
            "Authorization": basic(tokens[self.who]) if self.who else None,
            "Range": self.range,
            "If-None-Match": known,
        }
        return {name: value for name, value in given.items() if value is not None}


@dataclass(frozen=True)
class Changed:
    what: str
    name: str
    file: int
    index: str


def targets() -> st.SearchStrategy[str]:
    indexes = st.sampled_from(("", "/root", "/private", "/secret", "/mixed", "/wheels"))
    pages = st.sampled_from(
        [
            "/simple/",
            "/simple",
            "/nothing",
            *(f"/simple/{name}/" for name in (*NAMES, "withheld", "Gamma_Rays", "nobody")),
            *(f"/files/{name}/{file.filename}" for name in NAMES for file in FILES[name]),
            *(f"/files/{name}/{FILES[name][0].filename}.metadata" for name in NAMES),
            *(f"/pypi/{name}/json" for name in NAMES),
            f"/pypi/{NAMES[0]}/1.0/json",
            "/files/withheld/withheld-1.0-py3-none-any.whl",
        ]
    )
    queries = st.sampled_from(("", "", "", "?", "?x=1", "?format=text/html"))
    return st.tuples(indexes, pages, queries).map("".join)


REQUESTS = st.builds(
    Asked,
    method=st.sampled_from(("GET", "GET", "GET", "HEAD", "OPTIONS", "POST")),
    target=targets(),
    accept=st.sampled_from(ACCEPTS),
    coding=st.sampled_from(CODINGS),
    who=st.sampled_from(("", "", "reader", "stranger", "wrong")),
    range=st.sampled_from((None, None, None, "bytes=5-9", "bytes=999999-")),
    known=st.sampled_from((None, None, "etag", "etag", "*", '"x"')),
)
CHANGES = st.builds(
    Changed,
    what=st.sampled_from(
        ("publish", "publish", "publish", "yank", "unyank", "delete", "restore", "close", "hide", "open")
    ),
    name=st.sampled_from(NAMES),
    file=st.integers(0, 2),
    index=st.sampled_from(("private", "private", "secret")),
)


def apply(front: Front, change: Changed) -> None:
    """One change, if it can be made."""
    from entrepot.errors import EntrepotError

    file = FILES[change.name][change.file]
    try:
        match change.what:
            case "publish":
                front.upload(file.form(), index=f"/{change.index}")
            case "yank" | "unyank":
                front.amend(change.name, index=change.index, yanked="why" if change.what == "yank" else None)
            case "delete":
                front.delete(change.name, file.filename)
            case "restore":
                front.restore(change.name, file.filename)
            case "close" | "hide" | "open":
                front.mark(change.name, {"close": "archived", "hide": "quarantined", "open": "active"}[change.what])  # type: ignore[arg-type]
    except EntrepotError:
        pass  # there is nothing to delete, or nothing to restore


@dataclass(frozen=True)
class Pair:
    """A server, and one over the same files that keeps no answers."""

    hot: Front
    cold: Front
    tokens: dict[str, str]


@pytest.fixture(scope="module", params=SENDERS)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, make: Callable[..., Front]) -> Pair:
    data: Path = tmp_path_factory.mktemp("pair") / "data"
    hot = make(request.param, MAIN, data=data)
    kind = "asgi-paths" if request.param == "http1" else request.param
    cold = make(kind, MAIN, data=data, page_cache=0)
    tokens = {
        "reader": hot.token("read"),
        "stranger": hot.token("read", projects=("alpha",)),
        "wrong": "entrepot_0_0",
    }
    return Pair(hot, cold, tokens)


@given(steps=st.lists(st.one_of(REQUESTS, REQUESTS, REQUESTS, CHANGES), min_size=1, max_size=40))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_sequence_of_requests_is_answered_as_without_a_cache(pair: Pair, steps: list[Asked | Changed]) -> None:
    etags: dict[str, str] = {}
    for step in steps:
        if isinstance(step, Changed):
            apply(pair.hot, step)
            continue
        headers = step.headers(pair.tokens, etags)
        answers = [front.ask(step.method, step.target, headers) for front in (pair.hot, pair.hot, pair.cold)]
        first, second, cold = answers
        assert first == cold
        assert second == cold
        if "etag" in cold.headers:
            etags[step.target] = cold.headers["etag"]


# The cache itself.


class Nothing:
    """An index that is only a name here."""

    async def revision(self, name: ProjectName | None) -> Revision:
        raise NotImplementedError

    async def project(self, name: ProjectName) -> Project:
        raise NotImplementedError

    def projects(self) -> object:
        raise NotImplementedError


NOTHING = head(200, [])


def ready(size: int) -> Ready:
    nothing: object = Nothing()
    return Ready(
        index=nothing,  # type: ignore[arg-type]
        name=None, revision=Revision("1"), valid_until=None, guarded=(), etag='"x"', public=NOTHING, private=NOTHING,
        unchanged=NOTHING, unchanged_private=NOTHING, body=bytes(size), size=size,
    )  # fmt: skip


@given(
    limit=st.integers(0, 30_000),
    puts=st.lists(
        st.tuples(st.sampled_from("abcdef"), st.sampled_from((None, "x", "y")), st.integers(0, 20_000)), max_size=40
    ),
)
def test_the_cache_never_holds_more_than_its_limit(limit: int, puts: list[tuple[str, str | None, int]]) -> None:
    cache = ReadyCache(limit)
    last: dict[tuple[str, str | None], Ready] = {}
    for path, variant, size in puts:
        made = ready(size)
        last[path, variant] = made
        cache.put(path, variant, made)
        held = {key: found for key in last if (found := cache.get(key)) is not None}
        assert sum(entry.weight for entry in held.values()) <= limit
        assert all(entry is last[key] for key, entry in held.items())
        if made.weight <= limit:
            assert held[path, variant] is made


def test_one_answer_that_is_too_large_does_not_empty_the_cache() -> None:
    cache = ReadyCache(10_000)
    cache.put("small", None, ready(100))
    cache.put("huge", None, ready(20_000))
    assert cache.get(("huge", None)) is None
    assert cache.get(("small", None)) is not None


def test_what_was_asked_for_longest_ago_goes_first() -> None:
    cache = ReadyCache(3 * ready(1000).weight)
    for path in "abc":
        cache.put(path, None, ready(1000))
    assert cache.get(("a", None)) is not None
    cache.put("d", None, ready(1000))
    assert [path for path in "abcd" if cache.get((path, None)) is not None] == ["a", "c", "d"]


def test_a_file_counts_for_what_it_takes_in_memory_and_not_on_the_disk() -> None:
    file = OnDisk(path=Path("/nowhere"), size=1 << 40, mtime_ns=0)
    assert replace(ready(0), file=file, size=1 << 40).weight < 10_000


@pytest.mark.parametrize("sent", ["", ",", '""', "W/", 'W/""'])
def test_a_file_without_a_hash_has_no_etag_that_could_match(sent: str) -> None:
    assert not is_unchanged(sent, "")
    assert is_unchanged("*", "")
