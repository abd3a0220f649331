"""Downloads: the right bytes or a clear refusal, whole and in part."""

import hashlib
import io
import zipfile

import pytest

from tests.e2e.raw import Answer, basic
from tests.web.conftest import SENDERS, WITHHELD, Fronts
from tests.web.fronts import JSON, PIP, File, Front, fresh, sdist, wheel


@pytest.fixture(params=SENDERS)
def front(request: pytest.FixtureRequest, every: Fronts) -> Front:
    """Each front, with and without a server that sends files by path."""
    return every.main(request.param)


def url(name: str, file: File) -> str:
    return f"/files/{name}/{file.filename}"


@pytest.fixture
def file(front: Front) -> File:
    """A wheel of some 3 kB that was published."""
    name = fresh()
    made = wheel(name, files={f"{name}/data.bin": hashlib.shake_128(name.encode()).digest(2000)})
    front.publish(made)
    return made


@pytest.fixture
def target(file: File) -> str:
    return url(file.filename.split("-")[0], file)


def test_a_file_comes_as_it_was_published(front: Front, file: File, target: str) -> None:
    digest = hashlib.sha256(file.data).hexdigest()
    for _ in range(3):
        answer = front.get(target)
        assert (answer.status, answer.body) == (200, file.data)
        assert answer.headers == {
            "content-type": "application/octet-stream",
            "content-length": str(len(file.data)),
            "content-disposition": f'attachment; filename="{file.filename}"',
            "x-content-type-options": "nosniff",
            "accept-ranges": "bytes",
            "etag": f'"{digest}"',
            "cache-control": "public, max-age=365000000, immutable",
        }


def test_head_has_the_headers_of_get(front: Front, target: str) -> None:
    cold = front.head(target)
    got = front.get(target)
    assert cold.headers == got.headers == front.head(target).headers
    assert (cold.status, cold.body) == (200, b"")


def test_a_file_is_never_compressed(front: Front, file: File, target: str) -> None:
    answer = front.get(target, {"Accept-Encoding": "gzip, zstd, br", "Accept": JSON})
    assert answer.body == file.data
    assert "content-encoding" not in answer.headers


def test_with_credentials_it_is_private(front: Front, target: str) -> None:
    credentials = {"Authorization": basic(front.uploader)}
    for _ in range(2):
        assert front.get(target, credentials).headers["cache-control"] == "private, max-age=365000000, immutable"
        assert front.get(target).headers["cache-control"] == "public, max-age=365000000, immutable"


@pytest.mark.parametrize(
    ("wanted", "first", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=0-99", 0, 100),
        ("bytes=100-1099", 100, 1100),
        ("bytes=10-", 10, None),
        ("bytes=0-", 0, None),
        ("bytes=-1", -1, None),
        ("bytes=-500", -500, None),
        ("bytes=-999999999", 0, None),
        ("bytes=100-999999999999999999", 100, None),
        ("BYTES=5-6", 5, 7),
        ("bytes= 5-6 ", 5, 7),
    ],
)
def test_a_part_comes_to_who_asks_for_it(
    front: Front, file: File, target: str, wanted: str, first: int, stop: int | None
) -> None:
    size = len(file.data)
    part = range(size)[first:stop]
    for warm in (False, True):
        if warm:
            front.get(target)
        answer = front.get(target, {"Range": wanted})
        assert (answer.status, answer.body) == (206, file.data[first:stop])
        assert answer.headers["content-range"] == f"bytes {part[0]}-{part[-1]}/{size}"
        assert answer.headers["content-length"] == str(len(part))
        whole = front.head(target).headers
        assert {**answer.headers, "content-length": str(size), "content-range": ""} == {**whole, "content-range": ""}


def test_parts_put_together_are_the_file(front: Front, file: File, target: str) -> None:
    parts = [front.get(target, {"Range": f"bytes={at}-{at + 699}"}).body for at in range(0, len(file.data), 700)]
    assert b"".join(parts) == file.data


@pytest.mark.parametrize("wanted", ["bytes={size}-", "bytes={size}-{size}", "bytes=99999999-", "bytes=-0"])
def test_a_part_beyond_the_end_is_416_with_the_size(front: Front, file: File, target: str, wanted: str) -> None:
    size = len(file.data)
    for _ in range(2):
        answer = front.get(target, {"Range": wanted.format(size=size)})
        assert (answer.status, answer.body) == (416, b"")
        assert answer.headers["content-range"] == f"bytes */{size}"
        assert "etag" not in answer.headers
        front.get(target)


@pytest.mark.parametrize(
    "wanted",
    ["bytes=0-1,5-6", "bytes=0-1, -5", "items=0-1", "bytes", "bytes=", "bytes=-", "bytes=5-1", "bytes=a-b", "", "0-5",
     "bytes=0-1-2", "bytes=--5", "bytes=9" * 50],
)  # fmt: skip
def test_any_other_range_gets_the_whole_file(front: Front, file: File, target: str, wanted: str) -> None:
    answer = front.get(target, {"Range": wanted})
    assert (answer.status, answer.body) == (200, file.data)


def test_if_range_goes_by_the_strong_etag(front: Front, file: File, target: str) -> None:
    etag = front.head(target).headers["etag"]

    def with_if_range(value: str) -> Answer:
        return front.get(target, {"Range": "bytes=10-19", "If-Range": value})

    assert (with_if_range(etag).status, with_if_range(etag).body) == (206, file.data[10:20])
    for other in ('"other"', f"W/{etag}", "Fri, 20 Nov 2026 09:00:00 GMT", etag.strip('"'), "*", ""):
        assert (with_if_range(other).status, with_if_range(other).body) == (200, file.data)
    beyond = front.get(target, {"Range": "bytes=99999999-", "If-Range": '"other"'})
    assert (beyond.status, beyond.body) == (200, file.data)


def test_what_the_client_has_is_not_sent_again(front: Front, target: str) -> None:
    etag = front.head(target).headers["etag"]
    for more in ({}, {"Range": "bytes=0-9"}, {"Range": "bytes=99999999-"}):
        for method, asked in (("GET", target), ("HEAD", target), ("GET", f"{target}?cold")):
            for sent in (etag, f"W/{etag}", "*", f'"x", {etag}'):
                answer = front.ask(method, asked, {"If-None-Match": sent, **more})
                assert (answer.status, answer.body, answer.headers["etag"]) == (304, b"", etag)
    assert front.get(target, {"If-None-Match": '"other"'}).status == 200


def test_head_knows_no_ranges(front: Front, file: File, target: str) -> None:
    for wanted in ("bytes=0-9", "bytes=99999999-"):
        answer = front.ask("HEAD", target, {"Range": wanted})
        assert (answer.status, answer.headers["content-length"]) == (200, str(len(file.data)))


@pytest.mark.parametrize("plus", ["+", "%2B", "%2b"])
def test_the_plus_of_a_local_version_may_be_encoded_or_not(front: Front, plus: str) -> None:
    name = fresh()
    made = wheel(name, "1.0+local.1")
    front.publish(made)
    target = url(name, made).replace("+", plus)
    answer = front.get(target)
    assert (answer.status, answer.body) == (200, made.data)
    assert 'filename="' + made.filename + '"' in answer.headers["content-disposition"]
    assert front.get(f"{target}.metadata").status == 200
    [listed] = front.page(name)["files"]
    assert "%2B" in listed["url"]
    assert front.get(f"/simple/{name}/{listed['url']}".replace(f"/simple/{name}/../..", "")).body == made.data


def test_any_letter_may_be_percent_encoded(front: Front, file: File, target: str) -> None:
    folder, _, filename = target.rpartition("/")
    encoded = "".join(f"%{ord(letter):02x}" for letter in filename)
    assert front.get(f"{folder}/{encoded}").body == file.data


def test_the_companion_is_the_metadata_of_the_wheel(front: Front, file: File, target: str) -> None:
    with zipfile.ZipFile(io.BytesIO(file.data)) as archive:
        [inside] = [archive.read(path) for path in archive.namelist() if path.endswith("/METADATA")]
    digest = hashlib.sha256(inside).hexdigest()
    [listed] = front.page(target.split("/")[2])["files"]
    assert listed["core-metadata"] == {"sha256": digest}
    for _ in range(2):
        answer = front.get(f"{target}.metadata", {"Accept-Encoding": "gzip", "Range": "bytes=0-1"})
        assert (answer.status, answer.body, answer.headers["etag"]) == (200, inside, f'"{digest}"')
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "immutable" in answer.headers["cache-control"]
        assert front.head(f"{target}.metadata").headers == answer.headers
        assert front.get(f"{target}.metadata", {"If-None-Match": f'"{digest}"'}).status == 304


def test_what_is_not_there_is_404(front: Front, file: File, target: str) -> None:
    name = target.split("/")[2]
    source = sdist(name)
    front.publish(source)
    other = fresh()
    front.publish(wheel(other))
    for missing in (
        f"/files/{name}/{name}-9.9-py3-none-any.whl",
        f"{url(name, source)}.metadata",  # only wheels have one
        f"{target}.metadata.metadata",
        f"{target}.asc",
        f"{target}/",
        f"/files/{other}/{file.filename}",
        f"/wheels{target}",
        f"/files/{name}/",
        f"/files/{name}",
        f"/files/{name}/.metadata",
        f"/files/nobody-has-this/{file.filename}",
        f"/files/{name}/..%2F{name}%2F{file.filename}",
        f"/files/{name}/{'a' * 60_000}",
    ):
        answer = front.get(missing, {"Accept": PIP})
        assert answer.status == 404, missing
        assert answer.headers["cache-control"] == "no-store"


def test_a_deleted_file_cannot_be_fetched_from_the_next_request_on(front: Front, file: File, target: str) -> None:
    for suffix in ("", ".metadata"):
        assert [front.get(target + suffix).status for _ in range(2)] == [200, 200]
    front.delete(target.split("/")[2], file.filename)
    for suffix in ("", ".metadata"):
        assert [front.ask(method, target + suffix).status for method in ("GET", "HEAD")] == [404, 404]
    front.restore(target.split("/")[2], file.filename)
    assert front.get(target).body == file.data


def test_a_quarantined_project_offers_no_file(front: Front, file: File, target: str) -> None:
    name = target.split("/")[2]
    assert front.get(target).status == 200
    front.mark(name, "quarantined", "looks bad")
    assert front.page(name)["files"] == []
    assert front.page(name)["project-status"] == {"status": "quarantined", "reason": "looks bad"}
    for suffix in ("", ".metadata"):
        assert front.get(target + suffix).status == 404
    front.mark(name, "active")
    assert front.get(target).body == file.data


def test_a_withheld_file_is_403_with_the_reason(front: Front) -> None:
    assert front.page("withheld")["files"] == []
    for target in (f"/files/withheld/{WITHHELD}", f"/wheels/files/withheld/{WITHHELD}.metadata"):
        for headers in ({}, {"Range": "bytes=0-1"}, {"If-None-Match": "*"}):
            answer = front.get(target, headers)
            assert answer.status == 403
            assert f"{WITHHELD} is withheld: " in answer.text
            assert "this is no archive" not in answer.text


@pytest.mark.parametrize("headers", [{}, {"Range": "bytes=5-9"}, {"Range": "bytes=-5"}])
@pytest.mark.parametrize("warm", [False, True])
def test_bytes_that_the_store_lost_are_503_and_not_404(
    front: Front, file: File, target: str, headers: dict[str, str], *, warm: bool
) -> None:
    """A 404 would send clients to another index."""
    if warm:
        front.get(target)
    front.blob(file.filename).unlink()
    for method in ("GET", "HEAD"):
        answer = front.ask(method, target, headers)
        assert answer.status == 503
        assert "retry-after" in answer.headers
        assert str(front.data) not in answer.text  # the folders of this machine are nobody's business


@pytest.mark.parametrize("warm", [False, True])
def test_a_companion_that_the_store_lost_is_503(front: Front, file: File, target: str, *, warm: bool) -> None:
    front.blob(f"{file.filename}.metadata").unlink()
    name = target.split("/")[2]
    assert front.get(f"{target}.metadata").status == 503
    assert front.get(f"/pypi/{name}/json").status == 503
    assert front.get(target).body == file.data


@pytest.mark.parametrize("headers", [{}, {"Range": "bytes=5-9"}, {"Range": "bytes=-5"}, {"Range": "bytes=2000-"}])
@pytest.mark.parametrize("change", [-1, -1500, +7])
@pytest.mark.parametrize("warm", [False, True])
def test_a_file_that_was_cut_or_grew_in_the_store_is_503(
    front: Front, file: File, target: str, headers: dict[str, str], change: int, *, warm: bool
) -> None:
    if warm:
        front.get(target)
    blob = front.blob(file.filename)
    blob.chmod(0o644)
    blob.write_bytes(file.data[:change] if change < 0 else file.data + bytes(change))
    answer = front.get(target, headers)
    assert answer.status == 503
    assert file.filename in answer.text


def test_a_link_in_place_of_the_file_is_not_followed(front: Front, file: File, target: str) -> None:
    blob = front.blob(file.filename)
    blob.unlink()
    blob.symlink_to("/etc/passwd")
    assert front.get(target).status == 503
