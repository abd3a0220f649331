"""Unnormalised names and missing slashes: one 301 on the same host, with the query, below the sub-path."""

import pytest

from tests.e2e.raw import basic
from tests.web.conftest import TRUSTED
from tests.web.fronts import JSON, Front, fresh, wheel


@pytest.mark.parametrize("index", ["", "/root", "/private", "/nowhere"])
@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        ("/simple", "/simple/"),
        ("/simple/demo", "/simple/demo/"),
        ("/simple/demo?format=text/html", "/simple/demo/?format=text/html"),
        ("/simple?format=text%2Fhtml&x=%26", "/simple/?format=text%2Fhtml&x=%26"),
        ("/simple/de%3Fmo", "/simple/de%3Fmo/"),  # a "?" in the path is no query
        ("/simple/de%23mo", "/simple/de%23mo/"),
        ("/simple/d%C3%A9mo", "/simple/d%C3%A9mo/"),
        ("/simple/d%0D%0ASet-Cookie%3A%20x", "/simple/d%0D%0ASet-Cookie%3A%20x/"),
        ("/simple/%2541", "/simple/%2541/"),  # not decoded twice
    ],
)
def test_a_missing_slash_is_added(front: Front, index: str, asked: str, meant: str) -> None:
    answer = front.get(index + asked)
    assert (answer.status, answer.headers["location"]) == (301, index + meant)
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.body == b""


@pytest.mark.parametrize("index", ["", "/root", "/private"])
@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        ("/simple/Foo_Bar/", "/simple/foo-bar/"),
        ("/simple/foo--bar/", "/simple/foo-bar/"),
        ("/simple/FOO.bar/?format=text/html", "/simple/foo-bar/?format=text/html"),
        ("/simple/Simple/", "/simple/simple/"),
        ("/pypi/Foo.Bar/json", "/pypi/foo-bar/json"),
        ("/pypi/Foo.Bar/json/", "/pypi/foo-bar/json/"),
        ("/pypi/Foo.Bar/1.0/json", "/pypi/foo-bar/1.0/json"),
        ("/pypi/1.0/1.0/json", "/pypi/1-0/1.0/json"),  # a name like its version
        ("/pypi/JSON/json", "/pypi/json/json"),
        ("/files/Foo_Bar/Foo_Bar-1.0.tar.gz", "/files/foo-bar/Foo_Bar-1.0.tar.gz"),
        ("/files/Foo_Bar/foo_bar-1.0%2Blocal.tar.gz", "/files/foo-bar/foo_bar-1.0%2Blocal.tar.gz"),
        ("/files/a.b/a.b", "/files/a-b/a.b"),
    ],
)
def test_an_unnormalised_name_is_redirected(front: Front, index: str, asked: str, meant: str) -> None:
    for method in ("GET", "HEAD"):
        answer = front.ask(method, index + asked)
        assert (answer.status, answer.headers["location"]) == (301, index + meant)


def test_an_index_with_the_name_of_the_project_is_not_taken_for_it(front: Front) -> None:
    answer = front.get("/a--b/simple/a--b/")
    assert answer.status == 404  # there is no such index, and nothing of it is redirected


def test_a_redirect_leads_to_the_page(front: Front) -> None:
    name = fresh("Re_Direct.")
    front.publish(wheel(name))
    answer = front.get(f"/simple/{name}", {"Accept": JSON})
    steps = []
    while answer.status == 301:
        steps.append(answer.headers["location"])
        answer = front.get(steps[-1], {"Accept": JSON})
    assert len(steps) == 2
    assert answer.json()["name"] == name.lower().replace("_", "-").replace(".", "-")


@pytest.mark.parametrize(
    "name", ["-foo", "foo-", "_", ".", "..", "foo%20bar", "f%C3%B6o", "foo%0A", "%00", "foo%2Fbar"]
)
def test_what_can_be_no_name_is_404_and_not_redirected(front: Front, name: str) -> None:
    assert front.get(f"/simple/{name}/").status == 404
    assert front.get(f"/pypi/{name}/json").status == 404
    assert front.get(f"/files/{name}/x-1.0.tar.gz").status == 404


@pytest.mark.parametrize("length", [251, 300, 5_000, 60_000])
def test_a_name_that_no_store_could_hold_is_404(front: Front, length: int) -> None:
    for target in (f"/simple/{'a' * length}/", f"/files/{'a' * length}/x.whl", f"/pypi/{'A' * length}/json"):
        answer = front.get(target)
        assert answer.status == 404
        assert len(answer.body) < 1000
        assert "private" not in answer.text


@pytest.mark.parametrize(
    "target", ["//evil.example/simple/foo", "/%5Cevil.example/simple/foo", "/\\evil.example/simple/x"]
)
def test_no_redirect_leaves_the_host(front: Front, target: str) -> None:
    answer = front.get(target)
    location = answer.headers.get("location", "/")
    assert location.startswith("/")
    assert not location.startswith(("//", "/\\"))


def test_redirects_stay_below_the_sub_path(below: Front) -> None:
    assert below.get("/simple").headers["location"] == "/sub/pypi/simple/"
    assert below.get("/simple/Foo_Bar/?a=b").headers["location"] == "/sub/pypi/simple/foo-bar/?a=b"
    assert below.get("/root/files/A.B/x.whl").headers["location"] == "/sub/pypi/root/files/a-b/x.whl"


@pytest.mark.parametrize(
    ("prefix", "seen"),
    [
        ("/outside", "/outside"),
        ("/outside/", "/outside"),
        ("/a/b.c~d_e-f", "/a/b.c~d_e-f"),
        ("/", ""),
        ("/outside, /inside", "/outside"),
        # A proxy passes on what it does not know, so what cannot be a path is left alone.
        ("//evil.example", "/sub/pypi"),
        ("/\\evil.example", "/sub/pypi"),
        ("https://evil.example", "/sub/pypi"),
        ("", "/sub/pypi"),
        ("/a?b", "/sub/pypi"),
        ("/%2F/evil.example", "/sub/pypi"),
    ],
)
def test_a_trusted_proxy_tells_the_prefix(below: Front, prefix: str, seen: str) -> None:
    answer = below.get("/simple/Foo_Bar/", {"X-Forwarded-Prefix": prefix}, peer=TRUSTED)
    assert answer.headers["location"] == f"{seen}/simple/foo-bar/"


def test_nobody_else_does(below: Front) -> None:
    answer = below.get("/simple/Foo_Bar/", {"X-Forwarded-Prefix": "/outside"})
    assert answer.headers["location"] == "/sub/pypi/simple/foo-bar/"


def test_a_redirect_tells_nothing_of_a_project_that_may_not_be_read(front: Front) -> None:
    """The name is put right before anything is looked up: existing or not, the answer is the same."""
    token = front.token("read", indexes=("private",))
    name = fresh("Hidden_")
    front.publish(wheel(name), index="/secret")
    headers = {"Authorization": basic(token)}
    known, unknown = (front.get(f"/secret/simple/{n}/", headers) for n in (name, "Hidden_nobody"))
    assert (known.status, unknown.status) == (301, 301)
    normal = name.lower().replace("_", "-")
    known, unknown = (front.get(f"/secret/simple/{n}/", headers) for n in (normal, "hidden-nobody"))
    assert (known.status, known.text.replace(normal, "X")) == (404, unknown.text.replace("hidden-nobody", "X"))
