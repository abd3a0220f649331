"""Indexes and sources that fail: the client hears that it is not its fault, the log says why, once."""

import logging
import os
from collections.abc import AsyncIterator, Callable, MutableMapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from entrepot.errors import Denied, NotFound, Unavailable
from entrepot.index import Catalog, Content, Elsewhere, Index, Mounted, OnDisk, Source, Span, Stream
from entrepot.model import File, Project, ProjectName, Revision
from entrepot.web import AsgiSite
from tests.web.fronts import JSON, Driver, Front, Loop, fresh

SHA = "a" * 64
NAME = ProjectName("demo")
FILE = File(filename="demo-1.0.tar.gz", version="1.0", size=10, hashes={"sha256": SHA}, origin="odd")


class Odd:
    """A source whose behaviour a test decides."""

    name = "odd"

    def __init__(self) -> None:
        self.fault: Exception | None = None
        self.page = Project(name=NAME, files=(FILE,))
        self.content: Callable[[Span | None], Content] = lambda _: Stream(body=pieces(b"0123456789"), size=10)
        self.opened: list[Span | None] = []

    async def projects(self) -> AsyncIterator[ProjectName]:
        if self.fault:
            raise self.fault
        yield NAME

    async def project(self, name: ProjectName) -> Project:
        if self.fault:
            raise self.fault
        if name != NAME:
            raise NotFound(f"no project {name}")
        return self.page

    async def revision(self, name: ProjectName | None) -> Revision:  # noqa: ARG002
        return Revision("1")

    async def open(self, project: ProjectName, file: File, span: Span | None = None) -> Content:  # noqa: ARG002
        self.opened.append(span)
        return self.content(span)

    async def open_metadata(self, project: ProjectName, file: File) -> Content:  # noqa: ARG002
        return self.content(None)


async def pieces(*given: bytes | Exception) -> AsyncIterator[bytes]:
    for piece in given:
        if isinstance(piece, Exception):
            raise piece
        yield piece


@pytest.fixture
def odd() -> Odd:
    return Odd()


@pytest.fixture(params=["asgi", "asgi-paths"])
def front(request: pytest.FixtureRequest, make: Callable[..., Front], odd: Odd) -> Front:
    source: Source = odd
    index: Index = odd
    catalog = Catalog(
        default="root", indexes={"root": Mounted(name="root", index=index)}, sources={"odd": source}, stores={}
    )
    front: Front = make(request.param, catalog=catalog)
    return front


def errors(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.levelno >= logging.ERROR]


PAGES = ("/simple/", "/simple/demo/", "/pypi/demo/json", "/files/demo/demo-1.0.tar.gz")


@pytest.mark.parametrize("target", PAGES)
def test_a_fault_of_ours_is_500_and_one_line_in_each_log(
    front: Front, odd: Odd, caplog: pytest.LogCaptureFixture, target: str
) -> None:
    odd.fault = RuntimeError("the secret reason")
    answer = front.get(target, {"Accept": JSON})
    assert answer.status == 500
    assert "secret reason" not in answer.text
    [record] = errors(caplog)
    assert record.exc_info is not None
    [line] = front.lines(target)
    assert (line["status"], line["bytes"]) == (500, len(answer.body))


@pytest.mark.parametrize("target", PAGES)
@pytest.mark.parametrize(("status", "title"), [(502, "Bad gateway"), (503, "Unavailable"), (504, "Upstream timed out")])
def test_what_is_not_there_now_is_never_a_404(
    front: Front, odd: Odd, caplog: pytest.LogCaptureFixture, target: str, status: Any, title: str
) -> None:
    odd.fault = Unavailable("upstream is down", status=status, retry_after=7)
    answer = front.get(target, {"Accept": JSON})
    assert (answer.status, answer.headers["retry-after"], answer.json()["title"]) == (status, "7", title)
    assert answer.headers["cache-control"] == "no-store"
    [record] = errors(caplog)
    assert "upstream is down" in record.getMessage()


@pytest.mark.parametrize("target", PAGES)
def test_a_refusal_is_403(front: Front, odd: Odd, target: str) -> None:
    odd.fault = Denied("not for you")
    assert front.get(target).status == 403


def test_what_a_client_writes_into_the_path_cannot_forge_the_log(
    front: Front, odd: Odd, caplog: pytest.LogCaptureFixture
) -> None:
    odd.fault = Unavailable("down")
    front.get("/files/demo/x%0aERROR%20forged%1b[31m")
    [record] = errors(caplog)
    assert record.getMessage().isprintable()


def test_a_download_that_fails_on_its_way_does_not_look_complete(
    front: Front, odd: Odd, caplog: pytest.LogCaptureFixture
) -> None:
    """The length is announced and the last message never comes, so that a server must cut the connection."""
    odd.content = lambda _: Stream(body=pieces(b"01234", Unavailable("the disk broke")), size=10)
    answer = front.get("/files/demo/demo-1.0.tar.gz")
    assert (answer.status, answer.headers["content-length"], answer.body) == (200, "10", b"01234")
    [record] = errors(caplog)
    assert "cut off: the disk broke" in record.getMessage()
    [line] = front.lines("/files/demo/demo-1.0.tar.gz")
    assert (line["status"], line["bytes"]) == (200, 5)


def test_a_part_of_a_stream_is_asked_for_as_a_part(front: Front, odd: Odd) -> None:
    odd.content = lambda span: Stream(
        body=pieces(b"0123456789"[span.start : span.stop] if span else b"0123456789"), size=None
    )
    answer = front.get("/files/demo/demo-1.0.tar.gz", {"Range": "bytes=2-4"})
    assert (answer.status, answer.body, answer.headers["content-range"]) == (206, b"234", "bytes 2-4/10")
    assert odd.opened[-1] == Span(2, 5)


def test_a_stream_of_another_length_is_503(front: Front, odd: Odd) -> None:
    odd.content = lambda _: Stream(body=pieces(b"0123"), size=4)
    for headers in ({}, {"Range": "bytes=2-4"}):
        assert front.get("/files/demo/demo-1.0.tar.gz", headers).status == 503


def test_bytes_that_lie_elsewhere_are_a_redirect(front: Front, odd: Odd) -> None:
    odd.content = lambda _: Elsewhere(url="https://bucket.example/x?signature=1")
    for headers in ({}, {"Range": "bytes=2-4"}):
        answer = front.get("/files/demo/demo-1.0.tar.gz", headers)
        assert (answer.status, answer.headers["location"]) == (302, "https://bucket.example/x?signature=1")
        assert answer.headers["cache-control"] == "no-store"


def test_a_file_of_unknown_size_and_hash_is_sent_as_it_comes(front: Front, odd: Odd) -> None:
    unknown = File(filename="demo-1.0.tar.gz", version="1.0", origin="odd")
    odd.page = Project(name=NAME, files=(unknown,))
    odd.content = lambda _: Stream(body=pieces(b"0123", b"456789"), size=None)
    for headers in ({}, {"Range": "bytes=2-4"}, {"If-None-Match": '""'}, {"If-None-Match": ""}):
        answer = front.get("/files/demo/demo-1.0.tar.gz", headers)
        assert (answer.status, answer.body) == (200, b"0123456789")
        assert not {"content-length", "etag", "accept-ranges"} & set(answer.headers)


def test_a_page_that_changes_by_itself_is_made_anew_in_time(front: Front, odd: Odd) -> None:
    """A rule said until when its answer holds; the revision does not change."""
    odd.page = replace(odd.page, valid_until=datetime.now(UTC) - timedelta(seconds=1))
    assert front.get("/simple/demo/", {"Accept": JSON}).json()["versions"] == ["1.0"]
    odd.page = replace(odd.page, files=(replace(FILE, version="2.0"),))
    assert front.get("/simple/demo/", {"Accept": JSON}).json()["versions"] == ["2.0"]
    odd.page = replace(odd.page, valid_until=datetime.now(UTC) + timedelta(hours=1))
    front.get("/simple/demo/", {"Accept": JSON})
    odd.page = Project(name=NAME)
    assert front.get("/simple/demo/", {"Accept": JSON}).json()["versions"] == ["2.0"]


def test_a_client_that_goes_away_lets_go_of_the_file(make: Callable[..., Front], odd: Odd, tmp_path: Path) -> None:
    path = tmp_path / "big"
    path.write_bytes(bytes(3_000_000))
    front: Front = make("asgi", catalog=Catalog(
        default="root", indexes={"root": Mounted(name="root", index=odd)}, sources={"odd": odd}, stores={}
    ))  # fmt: skip
    odd.page = Project(name=NAME, files=(replace(FILE, size=3_000_000),))
    odd.content = lambda _: OnDisk(path=path, size=3_000_000, mtime_ns=path.stat().st_mtime_ns)
    assert front.get("/files/demo/demo-1.0.tar.gz").body == bytes(3_000_000)
    before = len(os.listdir("/proc/self/fd"))
    scope = front.driver._scope("GET", "/files/demo/demo-1.0.tar.gz", {}, "127.0.0.1", None)

    async def send(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.body":
            raise OSError("the client went away")

    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    for _ in range(20):
        front.loop.run(front.driver.site(scope, receive, send))
    assert len(os.listdir("/proc/self/fd")) <= before


def test_before_it_has_started_a_server_is_not_an_empty_index() -> None:
    """A 404 would send clients to the public index."""

    def never() -> Any:
        raise AssertionError("it is not opened")

    loop = Loop()
    answer = Driver(AsgiSite(never), loop, paths=False)("GET", f"/simple/{fresh()}/")
    loop.close()
    assert answer.status == 503
