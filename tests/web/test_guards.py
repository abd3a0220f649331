"""What is refused before anything is looked at: rebound names, writes from web pages, writes through proxies."""

import pytest

from entrepot.web.guards import HostGuard
from tests.web.conftest import TRUSTED
from tests.web.fronts import Driver, Front, fresh, wheel

TARGETS = ("/", "/health", "/ready", "/simple/", "/simple/demo/", "/files/demo/x.whl", "/nowhere")


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST", "localhost:1", "LocalHost:65535", "127.0.0.1", "127.0.0.1:8080", "[::1]", "[::1]:8080",
     "packages.example", "PACKAGES.example:80"],
)  # fmt: skip
def test_names_of_this_machine_are_answered(front: Front, host: str) -> None:
    assert front.get("/health", {"Host": host}).status == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8080",
        "localhost.evil.example",
        "evil.localhost",
        "localhost.",
        "127.0.0.1.evil.example",
        "127.0.0.2",
        "127.1",
        "2130706433",
        "0.0.0.0",
        "0",
        "[::2]",
        "[::ffff:127.0.0.1]",
        "localhost,evil.example",
        "a" * 200,
        "",
    ],
)
def test_any_other_name_may_have_been_rebound(front: Front, host: str) -> None:
    for target in TARGETS:
        for _ in range(2):
            answer = front.get(target, {"Host": host})
            assert answer.status == 421
            assert answer.headers["content-type"] == "text/plain; charset=utf-8"
            assert answer.headers["x-content-type-options"] == "nosniff"
    answer = front.upload(wheel(fresh()).form(), headers={"Host": host})
    assert answer.status == 421


@pytest.mark.parametrize(
    "host",
    [
        "localhost:80:80", "::1", "localhost@evil.example", "evil.example#localhost", "localhost/",
        "localhost evil.example", "a" * 60_000,
    ],
)  # fmt: skip
def test_what_is_no_host_is_answered_by_nobody(front: Front, host: str) -> None:
    """400 where we read the request ourselves (RFC 9112 §3.2); other servers hand it on."""
    for target in TARGETS:
        assert front.get(target, {"Host": host}).status == (421 if isinstance(front.ask, Driver) else 400)


def test_a_warm_page_is_not_given_to_a_rebound_name(front: Front) -> None:
    name = fresh()
    front.publish(wheel(name))
    assert [front.get(f"/simple/{name}/").status for _ in range(2)] == [200, 200]
    for target in (f"/simple/{name}/", f"/files/{name}/{wheel(name).filename}"):
        front.get(target)
        assert front.get(target, {"Host": "evil.example"}).status == 421


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "http://localhost"},  # another port of this machine is another site
        {"Origin": "null"},
        {"Origin": ""},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": ""},
        {"Sec-Fetch-Site": "anything"},
        {"Origin": "https://evil.example", "Sec-Fetch-Site": "none"},
        {"Origin": "https://evil.example", "Sec-Fetch-Mode": "no-cors", "Referer": "https://evil.example/"},
    ],
)
def test_a_web_page_cannot_write(front: Front, headers: dict[str, str]) -> None:
    name = fresh()
    answer = front.upload(wheel(name).form(), headers=headers)
    assert answer.status == 403
    assert "web page" in answer.text
    assert front.filenames(name) == []
    for method in ("PUT", "DELETE", "PATCH", "PROPFIND"):
        assert front.ask(method, "/simple/", headers).status == 403


@pytest.mark.parametrize("site", ["none", "same-origin"])
def test_what_the_user_does_in_the_address_bar_is_no_web_page(front: Front, site: str) -> None:
    assert front.upload(wheel(fresh()).form(), headers={"Sec-Fetch-Site": site}).status == 200


def test_a_web_page_may_read_what_browsers_let_it(front: Front) -> None:
    """Reading changes nothing; without CORS headers the browser keeps the answer from the page."""
    headers = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
    for target in ("/simple/", "/health"):
        answer = front.get(target, headers)
        assert answer.status == 200
        assert not [name for name in answer.headers if name.startswith("access-control-")]
    preflight = front.ask("OPTIONS", "/legacy/", {**headers, "Access-Control-Request-Method": "POST"})
    assert preflight.status == 405
    assert not [name for name in preflight.headers if name.startswith("access-control-")]


# Open to writers without a token.


def test_open_takes_uploads_of_anybody_who_comes_directly(below: Front) -> None:
    name = fresh()
    assert below.upload(wheel(name).form(), token="").status == 200
    assert below.filenames(name) == [wheel(name).filename]


@pytest.mark.parametrize(
    "mark", ["Forwarded", "X-Forwarded-For", "Via", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-IP"]
)
@pytest.mark.parametrize("peer", ["127.0.0.1", TRUSTED])
def test_open_is_not_for_those_who_come_through_a_proxy(below: Front, mark: str, peer: str) -> None:
    name = fresh()
    form = wheel(name).form()
    body = b"".join(form.body())
    for value in ("127.0.0.1", ""):
        answer = below.ask("POST", "/sub/pypi/legacy/", {**form.headers, mark: value}, body, peer=peer)
        assert answer.status == 403
        assert "proxy" in answer.text
    assert below.filenames(name) == []


def test_with_a_token_a_proxy_is_no_matter(below: Front) -> None:
    assert below.upload(wheel(fresh()).form(), headers={"X-Forwarded-For": "10.1.2.3"}).status == 200


def test_open_does_not_let_web_pages_write(below: Front) -> None:
    assert below.upload(wheel(fresh()).form(), token="", headers={"Origin": "http://localhost"}).status == 403
    assert below.upload(wheel(fresh()).form(), token="", headers={"Host": "evil.example"}).status == 421


def test_open_does_not_take_a_wrong_token_for_none(below: Front) -> None:
    assert below.upload(wheel(fresh()).form(), token="entrepot_0_0").status == 401


# The sub-path.


def test_everything_but_health_and_ready_lies_below_the_sub_path(below: Front) -> None:
    for target in ("/health", "/ready"):
        assert below.ask("GET", target).status == 200
        assert below.ask("GET", f"/sub/pypi{target}").status == 200
    for target in (
        "/",
        "/simple/",
        "/sub",
        "/sub/",
        "/sub/pypi",
        "/sub/pypisimple/",
        "/SUB/PYPI/simple/",
        "/sub/simple/",
    ):
        answer = below.ask("GET", target)
        assert (answer.status, "/sub/pypi/" in answer.text) == (404, True), target
    assert below.ask("POST", "/legacy/").status == 404
    for target in ("/", "/simple/", "/root/simple/"):
        assert below.get(target).status == 200


def test_below_a_sub_path_pages_lead_to_their_files(below: Front) -> None:
    name = fresh()
    file = wheel(name)
    below.publish(file)
    [listed] = below.page(name)["files"]
    assert listed["url"] == f"../../files/{name}/{file.filename}"
    for _ in range(2):
        assert below.get(f"/files/{name}/{file.filename}").body == file.data
        assert below.ask("GET", f"/files/{name}/{file.filename}").status == 404
    assert f"/sub/pypi/root/files/{name}/" in below.get(f"/pypi/{name}/json").json()["urls"][0]["url"]
    assert "/sub/pypi/simple/" in below.get("/").text


def test_a_configured_age_lets_clients_keep_pages(below: Front) -> None:
    name = fresh()
    below.publish(wheel(name))
    token = {"Authorization": f"Bearer {below.token('read')}"}
    for target in ("/simple/", f"/simple/{name}/", f"/pypi/{name}/json"):
        for _ in range(2):
            assert below.get(target).headers["cache-control"] == "public, max-age=600"
            assert below.get(target, token).headers["cache-control"] == "private, max-age=600"


def test_the_front_page_repeats_the_host_only_as_text(front: Front) -> None:
    answer = front.get("/", {"Host": "localhost:1234"})
    assert "http://localhost:1234/simple/" in answer.text
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_names_of_any_length_are_not_remembered() -> None:
    """A Host header may have 400 kB, and 256 of those would be a hundred megabytes."""
    guard = HostGuard(("example.org",))
    assert guard.allows("example.org")
    for number in range(10):
        assert not guard.allows(f"{number}" * 1000)
    assert guard._remembered.cache_info().currsize == 1
