"""Downloads as caching and resuming clients ask for them."""

import gzip
import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.distributions.build import make_wheel
from tests.e2e import raw
from tests.e2e.servers import Server, Servers

NOISE = bytes(n * n * 31 % 251 for n in range(300_000))


class Held:
    """A wheel on a server that nobody has asked for before."""

    def __init__(self, server: Server, wheel: Path) -> None:
        self.server = server
        self.bytes = wheel.read_bytes()
        self.path = f"/files/demo/{wheel.name}"
        self.etag = f'"{hashlib.sha256(self.bytes).hexdigest()}"'

    def get(self, **headers: str) -> raw.Answer:
        return self.server.get(self.path, {name.replace("_", "-"): value for name, value in headers.items()})


@pytest.fixture(scope="module", params=["uploaded", "in a folder"])
def shelf(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Iterator[Held]]:
    """One wheel after the other, of a server that has them all."""
    home = tmp_path_factory.mktemp("downloads")
    dist = home / "dist"
    dist.mkdir()
    wheels = [make_wheel(dist, "demo", f"1.{n}", files={"demo/noise.bin": NOISE + b"%d" % n}) for n in range(20)]
    servers = Servers(home)
    server = servers(*([dist] if request.param == "in a folder" else []))
    if request.param == "uploaded":
        server.publish(*wheels)
    yield (Held(server, wheel) for wheel in wheels)
    servers.end()


@pytest.fixture
def held(shelf: Iterator[Held]) -> Held:
    return next(shelf)


def test_a_download_may_be_kept_for_ever(held: Held) -> None:
    for _ in range(2):  # the second time from memory
        answer = held.get()
        assert (answer.status, answer.body) == (200, held.bytes)
        assert answer.headers["etag"] == held.etag
        assert answer.headers["content-length"] == str(len(held.bytes))
        assert answer.headers["accept-ranges"] == "bytes"
        assert "immutable" in answer.headers["cache-control"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "content-encoding" not in answer.headers
        assert answer.headers["content-disposition"].startswith("attachment")


def test_a_head_is_a_get_without_the_body(held: Held) -> None:
    whole = held.get()
    for _ in range(2):
        head = held.server.ask("HEAD", held.path)
        assert (head.status, head.body) == (200, b"")
        ignored = {"date", "connection"}
        assert {k: v for k, v in head.headers.items() if k not in ignored} == {
            k: v for k, v in whole.headers.items() if k not in ignored
        }


@pytest.mark.parametrize("warm", [False, True], ids=["cold", "warm"])
def test_ranges_are_what_was_asked_for(held: Held, warm: bool) -> None:
    if warm:
        held.get()
    size = len(held.bytes)
    for asked, first, last in (
        ("bytes=0-0", 0, 0),
        ("bytes=10-19", 10, 19),
        (f"bytes={size - 5}-", size - 5, size - 1),
        ("bytes=-7", size - 7, size - 1),
        (f"bytes=100-{size * 2}", 100, size - 1),
    ):
        answer = held.get(Range=asked)
        assert answer.status == 206, asked
        assert answer.body == held.bytes[first : last + 1], asked
        assert answer.headers["content-range"] == f"bytes {first}-{last}/{size}"
        assert answer.headers["content-length"] == str(last + 1 - first)
        assert answer.headers["etag"] == held.etag


def test_an_interrupted_download_is_resumed(held: Held) -> None:
    held.get()
    half = len(held.bytes) // 2
    rest = held.get(Range=f"bytes={half}-", If_Range=held.etag)
    assert (rest.status, held.bytes[:half] + rest.body) == (206, held.bytes)


def test_a_resumption_of_another_file_gets_this_one_whole(held: Held) -> None:
    held.get()
    for stale in ('"somethingelse"', f"W/{held.etag}", "Tue, 01 Jan 2030 00:00:00 GMT"):
        answer = held.get(Range="bytes=100-", If_Range=stale)
        assert (answer.status, answer.body) == (200, held.bytes), stale


def test_a_range_behind_the_end_is_416(held: Held) -> None:
    for _ in range(2):
        answer = held.get(Range=f"bytes={len(held.bytes)}-")
        assert answer.status == 416
        assert answer.headers["content-range"] == f"bytes */{len(held.bytes)}"
        held.get()


def test_a_range_that_makes_no_sense_is_ignored(held: Held) -> None:
    for nonsense in ("bytes=", "bytes=a-b", "bytes=9-1", "lines=1-2", "bytes"):
        answer = held.get(Range=nonsense)
        assert (answer.status, answer.body) == (200, held.bytes), nonsense


def test_a_known_etag_is_answered_with_304(held: Held) -> None:
    for _ in range(2):
        answer = held.get(If_None_Match=held.etag)
        assert (answer.status, answer.body, answer.headers["etag"]) == (304, b"", held.etag)
        held.get()


def test_files_and_metadata_come_only_with_a_page_that_shows_them(held: Held) -> None:
    companion = held.server.get(f"{held.path}.metadata")
    assert companion.status == 200
    assert companion.body.startswith(b"Metadata-Version: 2.1\nName: demo\n")
    for path in ("/files/demo/demo-9.0-py3-none-any.whl", "/files/other/" + held.path.rpartition("/")[2]):
        assert held.server.get(path).status == 404


def test_no_path_leads_out_of_what_is_published(held: Held) -> None:
    for path in (
        "/files/demo/../../access/tokens.json", "/files/demo/..%2f..%2faccess%2ftokens.json", "/files/..%2f..%2fx/y",
        "/files/demo/%2e%2e/%2e%2e/entrepot.json", "/access/tokens.json", "/store/access/tokens.json",
        "/files/demo/%00", "//etc/passwd", "/files/demo//etc/passwd", "/private/blobs/", f"{held.path}/..",
    ):  # fmt: skip
        answer = held.server.get(path)
        assert answer.status in {400, 404}, path
        assert b"sha256" not in answer.body, path


def test_a_page_is_compressed_and_revalidated_for_those_who_can(server: Server, dist: Path) -> None:
    server.publish(*(make_wheel(dist, "many", f"1.{number}") for number in range(20)))
    plain = server.get("/simple/many/", {"Accept": raw.JSON})
    for _ in range(2):  # the second time from memory
        packed = server.get("/simple/many/", {"Accept": raw.JSON, "Accept-Encoding": "gzip"})
        assert packed.headers["content-encoding"] == "gzip"
        assert gzip.decompress(packed.body) == plain.body
        assert packed.headers["etag"] != plain.headers["etag"]
        assert {name.strip() for name in packed.headers["vary"].split(",")} == {"Accept", "Accept-Encoding"}
        again = {"Accept": raw.JSON, "Accept-Encoding": "gzip", "If-None-Match": packed.headers["etag"]}
        unchanged = server.get("/simple/many/", again)
        assert (unchanged.status, unchanged.body) == (304, b"")
