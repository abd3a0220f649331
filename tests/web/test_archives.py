"""`/archives/…`: every answer that a client may get."""

import base64
import hashlib
from typing import Any
from urllib.parse import quote

import pytest

from tests.e2e.processes import until
from tests.e2e.raw import Answer, basic
from tests.web.fronts import Front, fresh

DATA = b"0123456789"


def digest(data: bytes) -> str:
    return f"sha-256=:{base64.b64encode(hashlib.sha256(data).digest()).decode()}:"


def put(
    front: Front, target: str, data: bytes = b"", *, token: str | None = None, index: str = "", **headers: str
) -> Answer:  # fmt: skip
    """As curl -T does it. A token that is not named is one that may upload."""
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    if token != "":
        fields["Authorization"] = basic(front.uploader if token is None else token)
    if not data:
        fields["Content-Length"] = "0"
    return front.ask("PUT", f"{front.path}{index}/archives/{target}", fields, data)


def pushed(front: Front, *versions: str, name: str = "", query: str = "") -> str:
    name = name or fresh("model")
    for version in versions:
        answer = put(front, f"{name}/{quote(version, safe='')}{query}", DATA + version.encode())
        assert answer.status == 201, answer
    return name


def about(front: Front, name: str, *, index: str = "") -> dict[str, Any]:
    answer = front.get(f"{index}/archives/{name}")
    assert answer.status == 200, answer
    found: dict[str, Any] = answer.json()
    return found


def test_a_pushed_file_is_there_with_its_digests(front: Front) -> None:
    name, sha256 = fresh("model"), hashlib.sha256(DATA).hexdigest()
    answer = put(front, f"{name}/1.0?filename=model.bin", DATA, Repr_Digest=digest(DATA))
    assert (answer.status, answer.text) == (201, f"Pushed: {name} 1.0, sha256 {sha256}\n")
    got = front.get(f"/archives/{name}/1.0")
    assert (got.status, got.body) == (200, DATA)
    assert got.headers["etag"] == f'"{sha256}"'
    assert got.headers["repr-digest"] == digest(DATA)
    assert got.headers["content-type"] == "application/octet-stream"
    assert got.headers["content-disposition"] == 'attachment; filename="model.bin"'
    assert got.headers["cache-control"] == "public, max-age=365000000, immutable"
    head = front.head(f"/archives/{name}/1.0")
    assert (head.status, head.headers, head.body) == (200, got.headers, b"")
    assert front.staging == []


def test_the_archive_tells_its_versions_and_nobodys_name(front: Front) -> None:
    name = pushed(front, "1.10", "1.2")
    found = about(front, name)
    assert (found["name"], found["localname"], found["channels"]) == (name, name, {})
    assert [one["version"] for one in found["versions"]] == ["1.2", "1.10"]
    assert found["versions"][0]["size"] == len(DATA) + 3
    assert found["versions"][0]["by"] is None
    assert about(front, f"{name}/") == found


def test_archives_are_listed_for_each_index_that_leads_to_them(front: Front) -> None:
    name = pushed(front, "1.0", query="?promote=latest")
    for index in ("", "/root", "/private"):
        listed = front.get(f"{index}/archives/").json()["archives"]
        assert {"name": name, "localname": name, "channels": {"latest": "1.0"}} in listed
    moved = front.get("/private/archives")
    assert (moved.status, moved.headers["location"]) == (301, f"{front.path}/private/archives/")


@pytest.mark.parametrize("target", ["", "{name}"])
def test_lists_have_an_etag(front: Front, target: str) -> None:
    name = pushed(front, "1.0")
    first = front.get(f"/archives/{target.format(name=name)}")
    assert first.headers["cache-control"] == "no-cache"
    again = front.get(f"/archives/{target.format(name=name)}", {"If-None-Match": first.headers["etag"]})
    assert (again.status, again.body) == (304, b"")


@pytest.mark.parametrize(
    ("asked", "status", "body", "content_range"),
    [
        ("bytes=2-4", 206, b"234", "bytes 2-4/10"),
        ("bytes=7-", 206, b"789", "bytes 7-9/10"),
        ("bytes=-3", 206, b"789", "bytes 7-9/10"),
        ("bytes=10-", 416, b"", "bytes */10"),
        ("bytes=0-1,3-4", 200, DATA, None),
        ("lines=1-2", 200, DATA, None),
    ],
)
def test_a_range_is_honoured(front: Front, asked: str, status: int, body: bytes, content_range: str | None) -> None:
    name = fresh("model")
    put(front, f"{name}/1.0", DATA)
    got = front.get(f"/archives/{name}/1.0", {"Range": asked})
    assert (got.status, got.body, got.headers.get("content-range")) == (status, body, content_range)


def test_a_range_of_other_bytes_than_the_client_has_is_the_whole(front: Front) -> None:
    name = fresh("model")
    put(front, f"{name}/1.0", DATA)
    etag = front.head(f"/archives/{name}/1.0").headers["etag"]
    assert front.get(f"/archives/{name}/1.0", {"Range": "bytes=2-4", "If-Range": etag}).status == 206
    assert front.get(f"/archives/{name}/1.0", {"Range": "bytes=2-4", "If-Range": '"x"'}).body == DATA
    assert front.get(f"/archives/{name}/1.0", {"If-None-Match": etag}).status == 304


def test_the_same_bytes_again_are_200_and_other_ones_409(front: Front) -> None:
    name = pushed(front, "1.0")
    data = DATA + b"1.0"
    again = put(front, f"{name}/1.0", data)
    assert (again.status, again.text.partition(":")[0]) == (200, "Already here, with the same bytes")
    other = put(front, f"{name}/1.0", b"other")
    assert (other.status, other.text) == (
        409, f"Already Exists: {name}, Version 1.0 (a version never changes: push another one)\n",
    )  # fmt: skip
    assert front.get(f"/archives/{name}/1.0").body == data
    assert front.staging == []


def test_who_says_the_digest_hears_at_once_that_it_is_there(process: Front) -> None:
    """Also with no body at all: then none is read."""
    name = pushed(process, "1.0")
    sha256 = hashlib.sha256(DATA + b"1.0").hexdigest()
    assert put(process, f"{name}/1.0?sha256={sha256}&promote=stable").status == 200
    assert about(process, name)["channels"] == {"stable": "1.0"}
    assert put(process, f"{name}/1.0?sha256={'0' * 64}").status == 409


@pytest.mark.parametrize("header", ["Repr-Digest", "Content-Digest"])
def test_a_wrong_digest_is_400_and_nothing_is_kept(front: Front, header: str) -> None:
    name = fresh("model")
    answer = put(front, f"{name}/1.0", DATA, **{header: digest(b"other")})
    assert answer.status == 400
    assert hashlib.sha256(DATA).hexdigest() in answer.text
    assert front.get(f"/archives/{name}").status == 404
    assert front.staging == []


def test_digests_are_read_as_the_standard_has_them(front: Front) -> None:
    name = fresh("model")
    several = f"sha-512=:{base64.b64encode(b'x' * 64).decode()}:, {digest(DATA)}"
    assert put(front, f"{name}/1", DATA, Repr_Digest=several).status == 201
    assert put(front, f"{name}/2", DATA, Repr_Digest="md5=:AAAA:").status == 201, "of kinds that we do not know, none"
    for wrong in (
        "sha-256=abc",
        "sha-256=::",
        f"sha-256=:{'=' * 44}:",
        digest(DATA).replace("=:", "", 1),
        "sha-256=:ü:",
    ):
        assert put(front, f"{name}/3", DATA, Repr_Digest=wrong).status == 400, "what is meant and cannot be read"
    assert put(front, f"{name}/4?sha256=xyz", DATA).status == 400
    assert put(front, f"{name}/5?sha256={hashlib.sha256(DATA).hexdigest().upper()}", DATA).status == 201


def test_a_file_that_is_too_large_is_413_before_and_while_it_comes(front: Front) -> None:
    name, large = fresh("model"), b"x" * ((1 << 20) + 1)
    answer = put(front, f"{name}/1.0", large)
    assert (answer.status, "1 MiB" in answer.text) == (413, True)
    assert front.get(f"/archives/{name}").status == 404
    assert front.staging == []


def test_a_push_that_is_cut_leaves_nothing(process: Front) -> None:
    name = fresh("model")
    connection = process.process.connect()
    connection.putrequest("PUT", f"/archives/{name}/1.0")
    connection.putheader("Authorization", basic(process.uploader))
    connection.putheader("Content-Length", "900000")
    connection.endheaders()
    connection.send(b"x" * 500_000)
    connection.close()
    until(lambda: process.lines(f"/archives/{name}/1.0"), what="the end of the request")
    assert process.staging == []
    assert process.get(f"/archives/{name}").status == 404


# Channels.


def test_a_channel_leads_to_its_version(front: Front) -> None:
    name = pushed(front, "1.0", "2.0/rc 1", query="?promote=latest")
    moved = front.get(f"/archives/{name}/latest")
    assert moved.status == 302
    assert moved.headers["location"] == f"{front.path}/archives/{name}/2.0%2Frc%201"
    assert moved.headers["cache-control"] == "no-cache"
    assert front.get(moved.headers["location"].removeprefix(front.path)).body == DATA + b"2.0/rc 1"


def test_a_channel_in_a_sub_path_leads_there(below: Front) -> None:
    name = pushed(below, "1.0", query="?promote=latest")
    assert below.get(f"/archives/{name}/latest").headers["location"] == f"/sub/pypi/archives/{name}/1.0"


def test_put_of_a_channel_promotes(front: Front) -> None:
    name = pushed(front, "1.0", "2.0")
    answer = put(front, f"{name}/stable?version=1.0")
    assert (answer.status, answer.text) == (200, f"stable of {name} is version 1.0\n")
    assert about(front, name)["channels"] == {"stable": "1.0"}
    assert put(front, f"{name}/stable?version=9").status == 404
    assert put(front, f"{name}/2.0?version=1.0").status == 400
    assert put(front, f"{name}/stable", DATA).status == 400
    assert put(front, f"{name}/latest", DATA).status == 400


def test_put_of_an_archive_makes_it(front: Front) -> None:
    name = fresh("model")
    assert put(front, f"{name}?localname=narf.tar.gz").status == 201
    assert put(front, f"{name}?localname=narf.tar.gz").status == 200
    assert put(front, f"{name}?localname=other").status == 409
    assert put(front, name).status == 400
    assert about(front, name)["localname"] == "narf.tar.gz"


# Who may.


def test_writing_needs_a_token_that_may(front: Front) -> None:
    name = pushed(front, "1.0", "2.0", query="?promote=latest")
    assert put(front, f"{name}/3.0", DATA, token="").status == 401
    assert put(front, f"{name}/3.0", DATA, token="entrepot_x_y").status == 401
    assert put(front, f"{name}/3.0", DATA, token=front.token("read")).status == 403
    assert put(front, f"{name}/3.0", DATA, token=front.token("upload", projects=("other",))).status == 403
    assert put(front, f"{name}/3.0", DATA, token=front.token("upload", indexes=("secret",))).status == 403
    assert put(front, f"{name}/3.0", DATA, token=front.token("upload", projects=(name,))).status == 201
    assert put(front, f"{name}?localname=x", token=front.token("read")).status == 403
    assert put(front, f"{name}/stable?version=1.0", token=front.token("read")).status == 403
    assert front.staging == []


def test_deleting_needs_a_token_that_manages(front: Front) -> None:
    name = pushed(front, "1.0", "2.0", query="?promote=latest")

    def delete(version: str, token: str) -> Answer:
        fields = {"Authorization": basic(token)} if token else {}
        return front.ask("DELETE", f"{front.path}/archives/{name}/{version}", fields)

    manager = front.token("manage")
    assert delete("1.0", "").status == 401
    assert delete("1.0", front.uploader).status == 403
    assert delete("2.0", manager).status == 409
    assert delete("1.0", manager).text == f"Deleted: {name} 1.0\n"
    assert delete("1.0", manager).status == 404
    assert front.get(f"/archives/{name}/1.0").status == 404
    assert delete("latest", manager).status == 200
    assert about(front, name)["channels"] == {}
    assert put(front, f"{name}/1.0", b"other").status == 409, "other bytes never take its name"


def test_a_guarded_index_shows_its_archives_to_those_who_may_read(front: Front) -> None:
    name, other = fresh("model"), fresh("model")
    for one in (name, other):
        assert put(front, f"{one}/1.0?promote=latest", DATA, index="/secret").status == 201
    reader = {"Authorization": basic(front.token("read", projects=(name,)))}
    for target in (f"/{name}", f"/{name}/1.0", f"/{name}/latest"):
        assert front.get(f"/secret/archives{target}").status == 401
        assert front.get(f"/mixed/archives{target}").status == 401
        assert front.get(f"/private/archives{target}").status == 404
    assert front.get("/secret/archives/").status == 401
    assert [one["name"] for one in front.get("/secret/archives/", reader).json()["archives"]] == [name]
    got = front.get(f"/secret/archives/{name}/1.0", reader)
    assert (got.status, got.headers["cache-control"]) == (200, "private, max-age=365000000, immutable")
    assert front.get(f"/secret/archives/{other}/1.0", reader).status == 404
    assert front.get(f"/secret/archives/{name}", reader).headers["cache-control"] == "private, no-cache"


def test_open_lets_everybody_write(below: Front) -> None:
    name = fresh("model")
    assert put(below, f"{name}/1.0", DATA, token="").status == 201


# What is not there, and what is no name.


def test_what_is_not_there_is_404(front: Front) -> None:
    name = pushed(front, "1.0")
    for target in (
        f"/archives/{fresh('none')}",
        f"/archives/{name}/9",
        f"/archives/{name}/latest",
        "/wheels/archives/",
    ):
        assert front.get(target).status == 404, target
    assert put(front, "x/1.0", DATA, index="/wheels").status == 404
    problem = front.get(f"/archives/{name}/9", {"Accept": "application/json"})
    assert problem.json()["detail"] == f"Does Not Exist: {name}, Version 9"


@pytest.mark.parametrize(
    "target",
    [
        "model/..", "model/../x", "model/%2e%2e/x", "..%2fmodel/1.0", "model/a%5Cb", "model/a%0Ab", "model/a%00b",
        "model/%1b[2J", f"model/{'x' * 300}", f"{'x' * 300}/1.0", "mo%20del/1.0", "model/a//b", "model/1.0/",
    ],
)  # fmt: skip
def test_what_is_no_name_is_refused_and_nothing_is_written(front: Front, target: str) -> None:
    before = sorted(front.settings.store_folder.rglob("*"))
    answer = put(front, target, DATA)
    assert answer.status in {400, 404, 405}, answer
    assert [
        path for path in sorted(front.settings.store_folder.rglob("*")) if path not in before and path.is_file()
    ] == []


@pytest.mark.parametrize("filename", ["../x", "a%2F..%2Fb", "%00", "", "a%0Ab"])
def test_a_file_name_that_leads_elsewhere_is_400(front: Front, filename: str) -> None:
    name = fresh("model")
    assert put(front, f"{name}/1.0?filename={filename}", DATA).status == 400
    assert put(front, f"{name}?localname={filename}").status == 400
    assert front.get(f"/archives/{name}").status == 404


@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_other_methods_are_405(front: Front, method: str) -> None:
    answer = front.ask(method, "/archives/model/1.0")
    assert (answer.status, answer.headers["allow"]) == (405, "DELETE, GET, HEAD, PUT")


def test_a_write_from_a_web_page_is_refused(front: Front) -> None:
    assert put(front, f"{fresh('model')}/1.0", DATA, Origin="https://evil.example").status == 403


def test_bytes_that_are_lost_are_no_404(front: Front) -> None:
    name = pushed(front, "1.0")
    sha256 = hashlib.sha256(DATA + b"1.0").hexdigest()
    blob = front.settings.store_folder / "private" / "archives" / name / "blobs" / sha256[:2] / sha256
    away = blob.rename(blob.with_name("away"))
    for answer in (front.get(f"/archives/{name}/1.0"), front.head(f"/archives/{name}/1.0")):
        assert answer.status == 503
    away.rename(blob)
    assert front.get(f"/archives/{name}/1.0").status == 200
