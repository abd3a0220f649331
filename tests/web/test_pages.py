"""Simple pages: which form a client gets, with which headers, and when it need not be sent again."""

import gzip
import sys
from typing import Any

import httpx
import pytest

from tests.web.fronts import HTML, JSON, PIP, Front, fresh, sdist, wheel

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

UV = f"{JSON}, {HTML};q=0.2, text/html;q=0.01"
POETRY = f"{JSON}, */*;q=0.1"
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"

TARGETS = ("list", "project")


@pytest.fixture
def name(front: Front) -> str:
    """A project of two files, which take more than one line."""
    name = fresh()
    front.publish(wheel(name), sdist(name))
    return name


@pytest.fixture(params=TARGETS)
def target(request: pytest.FixtureRequest, name: str) -> str:
    return "/simple/" if request.param == "list" else f"/simple/{name}/"


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        (PIP, JSON),
        (UV, JSON),
        (POETRY, JSON),
        (BROWSER, "text/html; charset=utf-8"),
        ("text/html", "text/html; charset=utf-8"),  # Dependabot, hatch
        ("*/*", "text/html; charset=utf-8"),  # curl
        (None, "text/html; charset=utf-8"),
        ("", "text/html; charset=utf-8"),
        (HTML, f"{HTML}; charset=utf-8"),
        ("application/vnd.pypi.simple.latest+json", JSON),
        ("application/vnd.pypi.simple.latest+html", f"{HTML}; charset=utf-8"),
        (f"{JSON};q=0.1, text/html;q=0.2", "text/html; charset=utf-8"),
        (f"{JSON};q=0, */*", "text/html; charset=utf-8"),
        (f"TEXT/HTML;q=0.5,{JSON.upper()}", JSON),
    ],
)
def test_clients_get_the_form_that_they_ask_for(
    front: Front, target: str, accept: str | None, content_type: str
) -> None:
    headers = {"Accept": accept} if accept is not None else {}
    for _ in range(2):  # made, and then from memory
        answer = front.get(target, headers)
        assert (answer.status, answer.headers["content-type"]) == (200, content_type)
        assert answer.headers["vary"] == "Accept, Accept-Encoding"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-cache"
        assert answer.headers["content-length"] == str(len(answer.body))


@pytest.mark.parametrize(
    "accept", ["application/json", "image/png", f"{JSON};q=0", "application/vnd.pypi.simple.v2+json"]
)
def test_a_client_that_takes_none_of_our_forms_gets_406(front: Front, target: str, accept: str) -> None:
    front.get(target)
    answer = front.get(target, {"Accept": accept})
    assert answer.status == 406
    assert answer.headers["vary"] == "Accept"
    assert "vnd.pypi.simple.v1+json" in answer.text


@pytest.mark.parametrize(
    ("parameter", "content_type"),
    [
        ("application/vnd.pypi.simple.v1%2Bjson", JSON),
        ("application/vnd.pypi.simple.v1+json", JSON),  # as the PEP's own example has it
        ("application/vnd.pypi.simple.latest%2Bjson", JSON),
        ("text/html", "text/html; charset=utf-8"),
        ("text%2Fhtml", "text/html; charset=utf-8"),
    ],
)
def test_the_format_parameter_goes_before_the_header(
    front: Front, target: str, parameter: str, content_type: str
) -> None:
    for accept in ("text/html", JSON, "image/png"):
        answer = front.get(f"{target}?format={parameter}", {"Accept": accept})
        assert (answer.status, answer.headers["content-type"]) == (200, content_type)


@pytest.mark.parametrize("parameter", ["json", "", "application/xml", "%00", "%ff"])
def test_an_unknown_format_parameter_is_406(front: Front, target: str, parameter: str) -> None:
    assert front.get(f"{target}?format={parameter}", {"Accept": PIP}).status == 406


def test_a_page_asked_for_with_a_parameter_never_answers_for_one_without(front: Front, target: str) -> None:
    asked = front.get(f"{target}?format=text/html", {"Accept": JSON})
    plain = front.get(target, {"Accept": JSON})
    assert (asked.headers["content-type"], plain.headers["content-type"]) == ("text/html; charset=utf-8", JSON)


def test_each_form_has_an_etag_of_its_own(front: Front, target: str) -> None:
    forms = [
        {"Accept": accept, "Accept-Encoding": coding}
        for accept in (JSON, HTML, "text/html")
        for coding in ("identity", "gzip", "zstd")
    ]
    front.publish(*[wheel(fresh("filler-of-some-length-so-that-pages-grow")) for _ in range(15)])
    etags = [front.get(target, headers).headers["etag"] for headers in forms]
    again = [front.get(target, headers).headers["etag"] for headers in forms]
    assert etags == again
    assert len(set(etags)) == len(etags)
    assert all(etag.startswith('"') and etag.endswith('"') for etag in etags)


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
def test_a_page_comes_compressed_to_who_can_read_it(front: Front, name: str, coding: str) -> None:
    plain = front.get(f"/simple/{name}/", {"Accept": JSON})
    headers = {"Accept": JSON, "Accept-Encoding": f"{coding}, deflate"}
    for _ in range(2):
        packed = front.get(f"/simple/{name}/", headers)
        assert packed.headers["content-encoding"] == coding
        assert int(packed.headers["content-length"]) == len(packed.body) < len(plain.body)
        unpack = gzip.decompress if coding == "gzip" else zstd.decompress
        assert unpack(packed.body) == plain.body
        assert packed.headers["vary"] == plain.headers["vary"]


@pytest.mark.parametrize("accepted", ["identity", "br", "gzip;q=0", "*;q=0", "", "deflate", "GZIP;q=0,zstd;q=0.000"])
def test_a_client_that_reads_no_coding_of_ours_gets_none(front: Front, name: str, accepted: str) -> None:
    answer = front.get(f"/simple/{name}/", {"Accept": JSON, "Accept-Encoding": accepted})
    assert "content-encoding" not in answer.headers
    assert answer.json()["name"] == name


def test_a_small_page_is_not_compressed(front: Front) -> None:
    name = fresh("s")
    front.publish(sdist(name, requires_python=""))
    answer = front.get(f"/simple/{name}/", {"Accept": JSON, "Accept-Encoding": "gzip"})
    assert len(answer.body) < 600
    assert "content-encoding" not in answer.headers


@pytest.mark.parametrize("accept", [JSON, HTML, "text/html"])
def test_head_has_the_headers_of_get_and_no_body(front: Front, target: str, accept: str) -> None:
    for coding in ("identity", "gzip"):
        headers = {"Accept": accept, "Accept-Encoding": coding}
        cold, got, hot = front.head(target, headers), front.get(target, headers), front.head(target, headers)
        assert got.body
        assert (cold.status, cold.headers, cold.body) == (200, got.headers, b"")
        assert hot == cold


@pytest.mark.parametrize(
    "sent",
    ["{}", "W/{}", '"other", {}', '"other" , W/{} , "more"', "*", ' {} ,"x"', "*, {}"],
)
def test_what_the_client_has_is_not_sent_again(front: Front, target: str, sent: str) -> None:
    page = front.get(target, {"Accept": PIP})
    for method in ("GET", "HEAD"):
        answer = front.ask(method, target, {"Accept": PIP, "If-None-Match": sent.format(page.headers["etag"])})
        assert (answer.status, answer.body) == (304, b"")
        for header in ("etag", "vary", "cache-control"):  # RFC 9110 §15.4.5
            assert answer.headers[header] == page.headers[header]
        assert not {"content-type", "content-encoding"} & set(answer.headers)


@pytest.mark.parametrize("sent", ['"other"', "{0}x", '"', "", ",", 'W/"', '"{0}"'])
def test_anything_else_in_if_none_match_gets_the_page(front: Front, target: str, sent: str) -> None:
    page = front.get(target, {"Accept": PIP})
    answer = front.get(target, {"Accept": PIP, "If-None-Match": sent.format(page.headers["etag"].strip('"'))})
    if sent == '"{0}"':
        assert answer.status == 304
    else:
        assert (answer.status, answer.body) == (200, page.body)


def test_the_etag_of_one_form_does_not_do_for_another(front: Front, target: str) -> None:
    etag = front.get(target, {"Accept": JSON}).headers["etag"]
    assert front.get(target, {"Accept": HTML, "If-None-Match": etag}).status == 200


def test_the_page_says_what_the_standard_wants(front: Front, name: str) -> None:
    made = wheel(name)
    page = front.page(name)
    assert page["meta"] == {"api-version": "1.4"}
    assert (page["name"], page["versions"]) == (name, ["1.0"])
    [file] = [file for file in page["files"] if file["filename"] == made.filename]
    assert file["size"] == len(made.data)
    assert file["url"] == f"../../files/{name}/{made.filename}"
    assert file["upload-time"].endswith("Z")
    html = front.get(f"/simple/{name}/", {"Accept": HTML}).text
    assert '<meta name="pypi:repository-version" content="1.4">' in html
    assert f">{made.filename}</a>" in html


def test_the_list_names_the_project_once_in_every_form(front: Front, name: str) -> None:
    listed = [project["name"] for project in front.get("/simple/", {"Accept": JSON}).json()["projects"]]
    assert listed == sorted(set(listed))
    assert name in listed
    assert front.get("/simple/", {"Accept": HTML}).text.count(f">{name}</a>") == 1


def test_html_pages_can_run_nothing(front: Front, target: str) -> None:
    for accept in ("text/html", HTML):
        policy = front.get(target, {"Accept": accept}).headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "sandbox" in policy


def test_what_an_uploader_writes_is_escaped_in_html(front: Front) -> None:
    name = fresh()
    front.publish(wheel(name))
    front.amend(name, yanked="\"><script>alert(1)</script>' onload=x &amp; \x1b[31m")
    html = front.get(f"/simple/{name}/", {"Accept": "text/html"}).text
    assert "<script" not in html
    assert html.count("<a ") == 1
    assert "data-yanked=" in html


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        (PIP, "application/problem+json"),
        (UV, "application/problem+json"),
        (BROWSER, "text/plain; charset=utf-8"),
        ("*/*", "text/plain; charset=utf-8"),
        (None, "text/plain; charset=utf-8"),
    ],
)
def test_an_unknown_project_is_404_in_words_that_the_client_can_show(
    front: Front, accept: str | None, content_type: str
) -> None:
    answer = front.get("/simple/nobody-has-this/", {"Accept": accept} if accept else {})
    assert (answer.status, answer.headers["content-type"]) == (404, content_type)
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "nobody-has-this" in answer.text
    if "json" in content_type:
        problem = answer.json()
        assert (problem["status"], problem["title"]) == (404, "Not found")
        assert "nobody-has-this" in problem["detail"]


@pytest.mark.parametrize("index", ["nowhere", "files", "%00", "..", "simple", "a" * 300, "%3Cb%3E"])
def test_an_unknown_index_is_404_and_names_those_that_all_may_read(front: Front, index: str) -> None:
    answer = front.get(f"/{index}/simple/")
    assert answer.status == 404
    assert "secret" not in answer.text
    assert len(answer.body) < 1000


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND"])
def test_a_page_can_only_be_read(front: Front, target: str, method: str) -> None:
    answer = front.ask(method, target)
    assert answer.status == 405
    assert {"GET", "HEAD"} <= set(answer.headers["allow"].split(", "))
    assert "access-control-allow-origin" not in answer.headers


def test_the_standard_client_of_asgi_gets_the_same(asgi: Front) -> None:
    """httpx's own transport, so that it is not only our driver that can talk to the app."""
    name = fresh()
    asgi.publish(wheel(name), sdist(name))
    app: Any = asgi.driver.site

    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
            return await client.get(f"/simple/{name}/", headers={"Accept": PIP})

    answer = asgi.loop.run(ask())
    assert answer.headers["content-encoding"] in {"gzip", "zstd"}
    assert answer.json() == asgi.page(name)
