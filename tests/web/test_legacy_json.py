"""The legacy JSON API over HTTP: for Renovate and Dependabot."""

import pytest

from tests.web.conftest import TRUSTED
from tests.web.fronts import Front, fresh, sdist, wheel


@pytest.fixture
def name(front: Front) -> str:
    name = fresh()
    front.publish(wheel(name, "1.0"), sdist(name, "1.0"), wheel(name, "2.0rc1"), wheel(name, "1.0+local.1"))
    return name


@pytest.mark.parametrize("slash", ["", "/"])
def test_the_document_of_a_project(front: Front, name: str, slash: str) -> None:
    answer = front.get(f"/pypi/{name}/json{slash}")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    assert answer.headers["vary"] == "Accept-Encoding"
    document = answer.json()
    assert (document["info"]["name"], document["info"]["version"]) == (name, "1.0+local.1")
    assert document["info"]["summary"] == f"{name} for tests"
    assert set(document["releases"]) == {"1.0", "1.0+local.1", "2.0rc1"}
    for release in document["releases"].values():
        assert all(file["yanked"] is False for file in release)


@pytest.mark.parametrize(
    ("asked", "version"),
    [
        ("1.0", "1.0"),
        ("1", "1.0"),
        ("1.0.0", "1.0"),
        ("v1.0", "1.0"),
        ("2.0rc1", "2.0rc1"),
        ("2.0-RC.1", "2.0rc1"),
        ("2rc1", "2.0rc1"),
        ("1.0+local.1", "1.0+local.1"),
        ("1.0%2BLocal-1", "1.0+local.1"),
    ],
)
def test_a_release_is_found_however_its_version_is_written(front: Front, name: str, asked: str, version: str) -> None:
    answer = front.get(f"/pypi/{name}/{asked}/json")
    assert answer.status == 200
    document = answer.json()
    assert document["info"]["version"] == version
    assert "releases" not in document
    assert {file["filename"].split("-")[1].removesuffix(".tar.gz") for file in document["urls"]} == {version}


@pytest.mark.parametrize("asked", ["3.0", "abc", "1.0.1", "9" * 5000, "..", "%00", "1.0+other", "0!0"])
def test_an_unknown_version_is_404(front: Front, name: str, asked: str) -> None:
    assert front.get(f"/pypi/{name}/{asked}/json").status == 404


def test_an_unknown_project_is_404(front: Front) -> None:
    for target in (
        "/pypi/nobody-has-this/json",
        "/pypi/nobody-has-this/1.0/json",
        "/private/pypi/nobody-has-this/json",
    ):
        assert front.get(target, {"Accept": "application/json"}).json()["status"] == 404


def test_a_project_without_files_is_404(front: Front) -> None:
    name = fresh()
    front.publish(wheel(name))
    front.delete(name, wheel(name).filename)
    assert front.get(f"/pypi/{name}/json").status == 404
    assert front.page(name)["files"] == []


def test_yanked_is_a_boolean(front: Front, name: str) -> None:
    front.amend(name, yanked="it loses data")
    document = front.get(f"/pypi/{name}/json").json()
    assert document["info"]["yanked"] is True
    assert document["info"]["yanked_reason"] == "it loses data"
    assert all(file["yanked"] is True for file in document["urls"])


def test_its_urls_lead_to_the_files(front: Front, name: str) -> None:
    for file in front.get(f"/private/pypi/{name}/json").json()["urls"]:
        before, path = file["url"].split("/private/")
        assert before.startswith("http://")
        download = front.get(f"/private/{path}")
        assert len(download.body) == file["size"]


@pytest.mark.parametrize("host", ["localhost", "localhost:8080", "127.0.0.1:99", "[::1]:1", "packages.example"])
def test_urls_have_the_host_that_the_client_used(front: Front, name: str, host: str) -> None:
    document = front.get(f"/pypi/{name}/json", {"Host": host}).json()
    assert document["urls"][0]["url"].startswith(f"http://{host}/root/files/{name}/")
    assert document["info"]["project_url"] == f"http://{host}/root/simple/{name}/"


def test_a_trusted_proxy_tells_scheme_host_and_prefix(below: Front) -> None:
    name = fresh()
    below.publish(wheel(name))
    forwarded = {
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "packages.example.org",
        "X-Forwarded-Prefix": "/team",
    }
    [file] = below.get(f"/pypi/{name}/json", forwarded, peer=TRUSTED).json()["urls"]
    assert file["url"].startswith(f"https://packages.example.org/team/root/files/{name}/")
    chain = {"X-Forwarded-Proto": "HTTPS, http", "X-Forwarded-Host": "outer.example, inner.example"}
    [file] = below.get(f"/pypi/{name}/json", chain, peer=TRUSTED).json()["urls"]
    assert file["url"].startswith(f"https://outer.example/sub/pypi/root/files/{name}/")
    for peer in ("127.0.0.1", "127.0.0.8"):
        [file] = below.get(f"/pypi/{name}/json", forwarded | {"Host": "localhost"}, peer=peer).json()["urls"]
        assert file["url"].startswith(f"http://localhost/sub/pypi/root/files/{name}/")


@pytest.mark.parametrize("proto", ["javascript", "https://evil.example/?", "", " "])
def test_no_proxy_can_make_another_scheme(below: Front, proto: str) -> None:
    name = fresh()
    below.publish(wheel(name))
    headers = {"X-Forwarded-Proto": proto, "Host": "localhost"}
    [file] = below.get(f"/pypi/{name}/json", headers, peer=TRUSTED).json()["urls"]
    assert file["url"].startswith("http://localhost/")


def test_what_one_client_saw_is_not_kept_for_another(front: Front, name: str) -> None:
    """The body holds the host that was asked for, so it must not come from memory."""
    target = f"/pypi/{name}/json"
    first = front.get(target, {"Host": "localhost"})
    second = front.get(target, {"Host": "127.0.0.1"})
    assert "http://127.0.0.1/" in second.text
    assert "localhost" not in second.text
    assert first.headers["etag"] != second.headers["etag"]


def test_it_answers_304_and_head_as_pages_do(front: Front, name: str) -> None:
    target = f"/pypi/{name}/json"
    got = front.get(target)
    assert front.head(target).headers == got.headers
    assert front.get(target, {"If-None-Match": got.headers["etag"]}).status == 304
