"""The double itself: what its faults do to a client that knows nothing of them."""

import http.client
import json
import time

import pytest
from pypi_simple import ACCEPT_HTML_ONLY, ACCEPT_JSON_ONLY, PyPISimple

from tests.e2e import raw
from tests.e2e.raw import Answer
from tests.upstream.double import OTHER, Upstream
from tests.upstream.faults import other_bytes
from tests.upstream.stock import Item, Manner, sdist, thousands, wheel


def get(upstream: Upstream, path: str, headers: dict[str, str] | None = None, method: str = "GET") -> Answer:
    return raw.ask(raw.connect(upstream.port, timeout=5), method, path, headers or {})


def page(upstream: Upstream, name: str) -> dict[str, dict[str, object]]:
    told = json.loads(get(upstream, f"/simple/{name}/", {"Accept": raw.JSON}).body)
    return {file["filename"]: file for file in told["files"]}


@pytest.fixture
def demo(upstream: Upstream) -> Item:
    item = wheel("demo", size=300_000)
    upstream.add("demo", item, sdist("demo"))
    return item


@pytest.mark.parametrize("accept", [ACCEPT_JSON_ONLY, ACCEPT_HTML_ONLY], ids=["json", "html"])
def test_an_independent_reader_understands_it(upstream: Upstream, demo: Item, accept: str) -> None:
    with PyPISimple(upstream.url, accept=accept) as reader:
        reader.s.trust_env = False
        assert reader.get_index_page().projects == ["demo"]
        read = {package.filename: package for package in reader.get_project_page("demo").packages}
        assert set(read) == {demo.filename, "demo-1.0.tar.gz"}
        assert reader.get_package_metadata_bytes(read[demo.filename]) == demo.metadata


def test_what_was_asked_is_recorded(upstream: Upstream, demo: Item) -> None:
    get(upstream, f"/files/demo/{demo.filename}", {"Range": "bytes=-10", "Authorization": raw.basic("secret")})
    get(upstream, "/simple/nothing/", method="HEAD")
    upstream.quiet()
    first, second = upstream.asked()
    assert (first.range, first.status, first.sent, first.credentials) == ("bytes=-10", 206, 10, "__token__:secret")
    assert (second.method, second.status, second.host) == ("HEAD", 404, "127.0.0.1")
    assert upstream.asked("/files/*", method="GET") == [first]
    upstream.forget()
    assert upstream.asked() == []


def test_a_page_that_did_not_change_is_304_and_one_that_did_is_not(upstream: Upstream, demo: Item) -> None:
    headers = get(upstream, "/simple/demo/").headers
    by_etag, by_time = {"If-None-Match": headers["etag"]}, {"If-Modified-Since": headers["last-modified"]}
    assert [get(upstream, "/simple/demo/", given).status for given in (by_etag, by_time)] == [304, 304]
    upstream.add("demo", wheel("demo", "2.0"))
    assert [get(upstream, "/simple/demo/", given).status for given in (by_etag, by_time)] == [200, 200]


@pytest.mark.parametrize(
    ("ranges", "status", "told", "right"),
    [
        ("honoured", 206, "bytes 5-9/{size}", True),
        ("ignored", 200, None, True),
        ("claimed", 200, None, True),
        ("shifted", 206, "bytes 5-9/{size}", False),
        ("other", 206, "bytes 0-4/{size}", True),
    ],
)
def test_ranges(upstream: Upstream, ranges: str, status: int, told: str | None, right: bool) -> None:
    item = wheel("demo")
    upstream.add("demo", item, manner=Manner(ranges=ranges))  # type: ignore[arg-type]
    answer = get(upstream, f"/files/demo/{item.filename}", {"Range": "bytes=5-9"})
    assert answer.status == status
    assert answer.headers.get("content-range") == (told.format(size=len(item.data)) if told else None)
    start = 0 if ranges != "shifted" and status == 200 else {"other": 0}.get(ranges, 5)
    assert (item.data[start:].startswith(answer.body)) is right


def test_a_cut_body_is_incomplete_and_short(upstream: Upstream, demo: Item) -> None:
    with upstream.fault("/files/*", cut=1000), pytest.raises((http.client.IncompleteRead, OSError)):
        get(upstream, f"/files/demo/{demo.filename}")
    upstream.quiet()
    assert [(seen.sent, seen.outcome) for seen in upstream.asked("/files/*")] == [(1000, "cut")]
    assert get(upstream, f"/files/demo/{demo.filename}").body == demo.data


def test_other_bytes_have_the_same_size(upstream: Upstream, demo: Item) -> None:
    with upstream.fault("/files/*", change=other_bytes):
        body = get(upstream, f"/files/demo/{demo.filename}").body
    assert (len(body), body == demo.data) == (len(demo.data), False)


def test_a_status_with_headers_comes_so_many_times(upstream: Upstream, demo: Item) -> None:
    upstream.fault("/simple/*", status=429, headers={"retry-after": "7"}, times=2)
    answers = [get(upstream, "/simple/demo/") for _ in range(3)]
    assert [(answer.status, answer.headers.get("retry-after")) for answer in answers] == [
        (429, "7"),
        (429, "7"),
        (200, None),
    ]


def test_a_redirect_and_another_host(upstream: Upstream, demo: Item) -> None:
    path = f"/files/demo/{demo.filename}"
    with upstream.fault("/files/*", redirect=f"{upstream.other}{path}"):
        assert get(upstream, path).headers["location"] == f"http://{OTHER}:{upstream.port}{path}"
    elsewhere = http.client.HTTPConnection(OTHER, upstream.port, timeout=5)
    assert raw.ask(elsewhere, "GET", path, {}).body == demo.data
    assert len(upstream.asked(host=OTHER)) == 1


def test_old_spellings_lead_to_the_page(upstream: Upstream) -> None:
    upstream.add("old-name", wheel("old-name"), manner=Manner(spelled="Old_Name"))
    assert get(upstream, "/simple/old-name/").headers["location"] == "/simple/Old_Name/"
    assert get(upstream, "/simple/Old_Name/").status == 200
    upstream.add("demo", wheel("demo"))
    assert get(upstream, "/simple/DEMO").headers["location"] == "/simple/DEMO/"
    assert get(upstream, "/simple/DEMO/").headers["location"] == "/simple/demo/"


def test_answers_wait_at_a_gate_before_and_within(upstream: Upstream, demo: Item) -> None:
    path = f"/files/demo/{demo.filename}"
    connection = raw.connect(upstream.port)
    with upstream.held(path) as held:
        connection.request("GET", path)
        assert held.before is not None
        held.before.reached()
        assert upstream.asked(path)[0].status == 0
    answer = connection.getresponse()
    assert answer.read() == demo.data
    with upstream.held(path, after=1000) as held:
        connection.request("GET", path)
        answer = connection.getresponse()
        assert answer.read(1000) == demo.data[:1000]
        assert held.within is not None
        held.within.reached()
        assert upstream.asked(path)[-1].sent == 1000
    assert answer.read() == demo.data[1000:]
    connection.close()


def test_a_slow_answer_takes_its_time(upstream: Upstream) -> None:
    upstream.add("slow", wheel("slow", size=20_000))
    began = time.monotonic()
    with upstream.fault("/files/*", rate=80_000, delay=0.1):
        get(upstream, "/files/slow/slow-1.0-py3-none-any.whl")
    assert time.monotonic() - began > 0.3


def test_who_is_gone_refuses_and_comes_back_at_the_same_address(upstream: Upstream, demo: Item) -> None:
    kept = raw.connect(upstream.port)
    kept.request("GET", "/simple/demo/")
    kept.getresponse().read()
    with upstream.away():
        with pytest.raises(OSError):
            raw.ask(kept, "GET", "/simple/demo/", {})
        with pytest.raises(ConnectionRefusedError):
            get(upstream, "/simple/demo/")
    assert get(upstream, "/simple/demo/").status == 200
    kept.close()


def test_a_dropped_request_has_no_answer(upstream: Upstream, demo: Item) -> None:
    with upstream.fault(drop=True), pytest.raises((http.client.RemoteDisconnected, ConnectionResetError)):
        get(upstream, "/simple/demo/")
    assert get(upstream, "/simple/demo/").status == 200


def test_nobody_is_let_in_without_the_password(upstream: Upstream, demo: Item) -> None:
    upstream.password = "__token__:secret"
    assert get(upstream, "/simple/demo/").status == 401
    assert get(upstream, "/simple/demo/", {"Authorization": raw.basic("secret")}).status == 200


@pytest.mark.parametrize("metadata", ["right", "true", "none", "wrong", "lost"])
def test_metadata_is_advertised_and_served_as_told(upstream: Upstream, metadata: str) -> None:
    item = wheel("demo")
    upstream.add("demo", item, manner=Manner(metadata=metadata))  # type: ignore[arg-type]
    told = page(upstream, "demo")[item.filename]["core-metadata"]
    assert bool(told) == (metadata != "none")
    answer = get(upstream, f"/files/demo/{item.filename}.metadata")
    assert answer.status == (404 if metadata in {"none", "lost"} else 200)


def test_pages_tell_less_where_they_should(upstream: Upstream) -> None:
    manner = Manner(sizes=False, times=False, hashes=("md5",), base=upstream.other, max_age=60, legacy_json=True)
    item = wheel("demo")
    upstream.add("demo", item, manner=manner)
    told = page(upstream, "demo")[item.filename]
    assert {"size", "upload-time"}.isdisjoint(told)
    assert set(told["hashes"]) == {"md5"}  # type: ignore[call-overload]
    assert str(told["url"]).startswith(upstream.other)
    assert get(upstream, "/simple/demo/").headers["cache-control"] == "max-age=60, public"
    [file] = get(upstream, "/pypi/demo/json").json()["releases"]["1.0"]
    assert (file["size"], file["upload_time"]) == (len(item.data), "2024-02-29T12:30:15")


def test_a_page_of_thousands_of_files_takes_no_time(upstream: Upstream) -> None:
    upstream.add("many", *thousands("many", 4_400))
    assert len(page(upstream, "many")) == 4_400


def test_a_flat_page_has_the_files_of_all_projects(upstream: Upstream, demo: Item) -> None:
    upstream.add("other", wheel("other"))
    text = get(upstream, "/flat/").text
    assert (demo.filename in text, "other-1.0-py3-none-any.whl" in text) == (True, True)
