"""`+at`, `local`, `explain` and redirects: other ways to read an index, and the same rules for page and download."""

from datetime import UTC, datetime
from urllib.parse import urljoin

import pytest

from entrepot.config import Hosted, IndexSettings, Mirror, Rule, Virtual
from entrepot.index import Sink
from entrepot.model import ProjectName
from tests.e2e.raw import basic
from tests.indexes import DAY, DEMO, NOON, Clock, Kept, Public, file
from tests.sources.samples import add
from tests.web.doubled import Doubled, doubled
from tests.web.fronts import HTML, JSON, Front, Loop, fresh, wheel

BEFORE, AFTER = datetime(2026, 3, 1, 23, 59, 59, tzinfo=UTC), datetime(2026, 3, 2, tzinfo=UTC)
AT = "/+at/2026-03-01"


def dated(front: Front, name: str, *, index: str = "private") -> tuple[str, str]:
    """A project with a wheel from before the end of that day and one from after it."""
    filenames = [f"{name}-{version}-py3-none-any.whl" for version in ("1.0", "2.0")]

    async def stock(sink: Sink) -> None:
        for filename, moment in zip(filenames, (BEFORE, AFTER), strict=True):
            await add(sink, filename, now=moment)

    front.change(stock, index=index)
    return filenames[0], filenames[1]


# As of a day


@pytest.mark.parametrize("index", ["", "/root", "/private"])
def test_a_view_of_a_day_has_the_files_of_until_then_for_pages_and_downloads(front: Front, index: str) -> None:
    name = fresh()
    before, after = dated(front, name)
    page = front.page(name, index=f"{index}{AT}")
    assert ([one["filename"] for one in page["files"]], page["versions"]) == ([before], ["1.0"])
    assert len(front.page(name, index=index)["files"]) == 2
    for suffix in ("", ".metadata"):
        for _ in range(2):
            assert front.get(f"{index}{AT}/files/{name}/{before}{suffix}").status == 200
            refused = front.get(f"{index}{AT}/files/{name}/{after}{suffix}")
            assert refused.status == 403
            assert f"{after} is withheld: uploaded 2026-03-02 00:00, after 2026-03-01" in refused.text
            assert front.get(f"{index}/files/{name}/{after}{suffix}").status == 200


def test_the_links_of_a_view_lead_into_the_view(front: Front) -> None:
    name = fresh()
    before, _ = dated(front, name)
    for page in (f"{AT}/simple/{name}/", f"/root{AT}/simple/{name}/", f"/local/simple/{name}/", f"/root/local/{name}/"):
        [url, *_] = [one["url"] for one in front.get(page, {"Accept": JSON}).json()["files"]]
        target = urljoin(page, url)
        view = page.partition("/simple/")[0].removesuffix(f"/{name}/")
        assert target == f"{view}/files/{name}/{before}"
        assert front.get(target).body == before.encode()


def test_a_view_follows_what_becomes_of_the_project(front: Front) -> None:
    name = fresh()
    before, after = dated(front, name)
    for _ in range(2):
        assert front.page(name, index=AT)["files"][0]["yanked"] is False
    front.amend(name, yanked="broken")
    assert front.page(name, index=AT)["files"][0]["yanked"] == "broken"
    front.delete(name, before)
    assert front.page(name, index=AT)["files"] == []
    assert front.get(f"{AT}/files/{name}/{before}").status == 404
    front.delete(name, after)
    assert front.page(name, index=AT)["files"] == []


def test_a_page_of_a_view_is_kept_and_told_by_its_etag(front: Front) -> None:
    name = fresh()
    dated(front, name)
    first = front.get(f"{AT}/simple/{name}/", {"Accept": JSON})
    assert front.get(f"{AT}/simple/{name}/", {"Accept": JSON}) == first
    assert front.get(f"/simple/{name}/", {"Accept": JSON}).headers["etag"] != first.headers["etag"]
    again = front.get(f"{AT}/simple/{name}/", {"Accept": JSON, "If-None-Match": first.headers["etag"]})
    assert again.status == 304
    assert front.get(f"{AT}/simple/{name}/", {"Accept": HTML}).headers["etag"] != first.headers["etag"]


def test_legacy_json_of_a_view_is_of_the_view(front: Front) -> None:
    name = fresh()
    before, _ = dated(front, name)
    told = front.get(f"{AT}/pypi/{name}/json").json()
    assert list(told["releases"]) == ["1.0"]
    [one] = told["urls"]
    assert one["url"].endswith(f"/root{AT}/files/{name}/{before}")
    assert front.get(f"{AT}/pypi/{name}/2.0/json").status == 404


@pytest.mark.parametrize("day", ["2026-02-30", "20260301", "2026-3-1", "yesterday", "2026-03-01T00", "%0A2026-03-01"])
@pytest.mark.parametrize("path", ["simple/", "simple/demo/", "files/demo/demo-1.0.tar.gz", "pypi/demo/json"])
def test_a_day_that_is_none_is_refused(asgi: Front, day: str, path: str) -> None:
    answer = asgi.get(f"/root/+at/{day}/{path}")
    assert answer.status == 400
    assert answer.text.endswith("is no day (YYYY-MM-DD, such as 2026-03-01)\n")


@pytest.mark.parametrize("index", ["", "/root"])
@pytest.mark.parametrize("view", [AT, "/local"])
def test_a_view_takes_no_uploads(front: Front, index: str, view: str) -> None:
    name = fresh()
    for path in ("legacy/", "legacy"):
        form = wheel(name).form()
        headers = {**form.headers, "Authorization": basic(front.uploader)}
        answer = front.ask("POST", f"{index}{view}/{path}", headers, b"".join(form.body()))
        assert (answer.status, answer.headers["allow"]) == (405, "")
        assert "this is a view, which takes no uploads" in answer.text
    assert front.ask("POST", f"{index}{view}/simple/").status == 405
    assert front.get(f"/simple/{name}/").status == 404


@pytest.mark.parametrize("index", ["", "/root"])
@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        ("/%2Bat/2026-03-01/simple", "/%2Bat/2026-03-01/simple/"),
        ("/%2Bat/2026-03-01/simple/demo", "/%2Bat/2026-03-01/simple/demo/"),
        ("/%2Bat/2026-03-01/simple/De_mo/", "/%2Bat/2026-03-01/simple/de-mo/"),
        ("/%2Bat/2026-03-01/pypi/De_mo/json", "/%2Bat/2026-03-01/pypi/de-mo/json"),
        ("/local", "/local/"),
        ("/local/simple", "/local/simple/"),
        ("/local/demo", "/local/demo/"),
        ("/local/De_mo/", "/local/de-mo/"),
        ("/local/Local/", "/local/local/"),
        ("/local/simple/Simple/", "/local/simple/simple/"),
        ("/local/files/De_mo/De_mo-1.tar.gz", "/local/files/de-mo/De_mo-1.tar.gz"),
        ("/explain/demo", "/explain/demo/"),
        ("/explain/De_mo/", "/explain/de-mo/"),
    ],
)
def test_names_and_slashes_are_put_right(front: Front, index: str, asked: str, meant: str) -> None:
    answer = front.get(index + asked)
    assert (answer.status, answer.headers["location"]) == (301, index + meant)


def test_a_view_of_a_guarded_index_is_guarded(front: Front) -> None:
    name = fresh()
    dated(front, name, index="secret")
    reader = {"Authorization": basic(front.token("read", indexes=("secret",), projects=(name,)))}
    other = {"Authorization": basic(front.token("read", indexes=("private",)))}
    for path in (f"{AT}/simple/{name}/", f"local/simple/{name}/", f"local/{name}/", f"explain/{name}/"):
        target = f"/secret/{path.removeprefix('/')}"
        for _ in range(2):
            assert front.get(target).status == 401
            assert front.get(target, reader).status == 200
            assert front.get(target, other).status == 404


def test_views_work_below_a_sub_path(below: Front) -> None:
    name = fresh()
    below.publish(wheel(name))
    for page in (f"/+at/9999-12-31/simple/{name}/", f"/local/{name}/"):
        assert below.get(page, {"Accept": JSON}).status == 200
    assert below.get("/local").headers["location"] == "/sub/pypi/local/"


# What is stored here


@pytest.mark.parametrize("index", ["", "/root", "/private"])
def test_the_local_view_has_all_that_is_hosted(front: Front, index: str) -> None:
    name = fresh()
    front.publish(wheel(name))
    for page in (f"{index}/local/simple/{name}/", f"{index}/local/{name}/"):
        assert [one["filename"] for one in front.get(page, {"Accept": JSON}).json()["files"]] == [wheel(name).filename]
    for page in (f"{index}/local/simple/", f"{index}/local/"):
        assert {"name": name} in front.get(page, {"Accept": JSON}).json()["projects"]
    for page in (f"{index}/local/simple/{name}x/", f"{index}/local/{name}x/"):
        assert front.get(page).status == 404


def test_projects_may_be_called_like_our_words(front: Front) -> None:
    for name in ("simple", "files", "pypi", "local"):
        front.publish(wheel(name))
        for page in (f"/local/simple/{name}/", f"{AT.replace('2026', '9999')}/simple/{name}/"):
            assert front.get(page, {"Accept": JSON}).json()["name"] == name
    assert front.get("/local/local/", {"Accept": JSON}).json()["name"] == "local"
    assert "projects" in front.get("/local/simple/", {"Accept": JSON}).json()


INDEX: dict[str, IndexSettings] = {
    "private": Hosted(),
    "upstream": Mirror(rules=(Rule(deny="demo==2.0"),)),
    "inner": Virtual(of=("private", "upstream")),
    "root": Virtual(of=("inner",), rules=(Rule(formats=("wheel", "sdist")), Rule(yanked="hide"))),
}
SDIST, LATER = "demo-1.0.tar.gz", "demo-2.0.tar.gz"


def test_the_local_view_never_asks_upstream(loop: Loop) -> None:
    upstream = Public("upstream", file(SDIST), file("other-1.0.tar.gz"))
    upstream.cached.put(file(SDIST), file(LATER))
    with doubled(loop, INDEX, upstream) as front:
        for page in ("/local/simple/demo/", "/root/local/demo/", "/upstream/local/demo/"):
            for _ in range(2):
                assert front.filenames(page) == [SDIST]
        assert front.get(f"/local/files/demo/{SDIST}").status == 200
        assert front.get(f"/local/files/demo/{LATER}").status == 403
        for page in ("/local/simple/other/", "/local/other/", "/local/files/other/other-1.0.tar.gz"):
            assert front.get(page).status == 404
        assert upstream.asked == []
        assert front.filenames("/simple/other/") == ["other-1.0.tar.gz"]


# Redirects


def test_an_unknown_page_is_redirected_for_now_and_to_upstream(loop: Loop) -> None:
    index: dict[str, IndexSettings] = {
        "private": Hosted(), "upstream": Mirror(), "root": Virtual(of=("private", "upstream"), fallback="redirect", own=("acme-*",)),
    }  # fmt: skip
    upstream = Public("upstream", file(SDIST))
    with doubled(loop, index, upstream, open_writes=True) as front:
        for accept in (JSON, HTML, "text/html"):
            answer = front.get("/simple/demo/", {"Accept": accept})
            assert (answer.status, answer.headers["location"]) == (302, "https://upstream.example/simple/demo/")
            assert answer.headers["cache-control"] == "no-cache"
        assert front.get("/simple/De_Mo/").status == 301
        assert front.filenames("/simple/acme-kit/") == []
        for page in (
            f"/files/demo/{SDIST}",
            "/pypi/demo/json",
            f"{AT}/simple/demo/",
            "/local/demo/",
            "/private/simple/demo/",
        ):
            assert front.get(page).status == 404
        assert front.upload(wheel("demo")).status == 200
        assert front.filenames("/simple/demo/") == [wheel("demo").filename]
        assert set(upstream.asked) <= {DEMO}


# Explanations


def test_an_explanation_is_told_in_json(front: Front) -> None:
    name = fresh()
    front.publish(wheel(name))
    answer = front.get(f"/explain/{name}/")
    assert (answer.status, answer.headers["content-type"], answer.headers["cache-control"]) == (
        200, "application/json", "no-store",
    )  # fmt: skip
    told = answer.json()
    assert (told["project"], told["index"], told["step"]["says"]) == (name, "root", "owns")
    assert [(one["filename"], one["shown"]) for one in told["files"]] == [(wheel(name).filename, True)]
    assert front.get(f"/wheels/explain/{name}/").json()["step"]["says"] == "unknown"
    assert front.get("/nowhere/explain/demo/").status == 404
    assert front.get("/explain/-/").status == 404


# Page and download agree

RULES = [
    (Rule(deny=("demo==1.0", "*-2.0-*.whl")),),
    (Rule(allow="demo>=2"),),
    (Rule(cooldown="7 days"), Rule(formats=("wheel",))),
    (Rule(at="2026-03-01", unknown="allow"),),
    (Rule(yanked="hide"),),
]
FILES = (
    file("demo-1.0-py3-none-any.whl", uploaded=BEFORE, core_metadata=True),
    file(SDIST, uploaded=None),
    file("demo-2.0-py3-none-any.whl", uploaded=AFTER, core_metadata=True, sha256="a"),
    file(LATER, uploaded=BEFORE, yanked="broken"),
    file("demo-3.0-py3-none-any.whl", uploaded=datetime(2026, 11, 19, tzinfo=UTC), core_metadata=True),
)


@pytest.mark.parametrize("rules", RULES, ids=str)
def test_what_a_page_withholds_cannot_be_opened_in_any_way(loop: Loop, rules: tuple[Rule, ...]) -> None:
    index: dict[str, IndexSettings] = {
        "ruled": Mirror(rules=rules),
        "plain": Mirror(),
        "second": Mirror(),
        "around": Virtual(of=("plain",), rules=rules),
        "outer": Virtual(of=("around",)),
        "merged": Virtual(of=("ruled", "second"), merge=("demo",)),
        "root": Virtual(of=("outer", "second"), rules=rules[:1]),
    }
    sources = [Public(name, *FILES) for name in ("ruled", "plain")]
    second = Public(
        "second", *FILES[:2], file("demo-2.0-py3-none-any.whl", uploaded=AFTER, sha256="b", core_metadata=True)
    )
    for source in (*sources, second):
        source.cached.put(*FILES)
    refused = 0
    with doubled(loop, index, *sources, second) as front:
        for name in index:
            for view in ("", AT, "/local"):
                refused += _refused(front, f"/{name}{view}")
    assert refused > 10


def _refused(front: Doubled, view: str) -> int:
    """How many files the view refuses: exactly those that its page does not show."""
    shown, refused = front.filenames(f"{view}/simple/demo/"), 0
    for one in FILES:
        for suffix in ("", ".metadata") if one.core_metadata else ("",):
            status = front.get(f"{view}/files/demo/{one.filename}{suffix}").status
            assert status in ({200} if one.filename in shown else {403, 404}), (view, one.filename)
            refused += status == 403
    return refused


def test_the_list_of_a_view_is_that_of_the_index(loop: Loop) -> None:
    kept = Kept("upstream", file(SDIST))
    with doubled(
        loop, {"upstream": Mirror(), "root": Virtual(of=("upstream",))}, Public("upstream", file(SDIST))
    ) as front:
        answer = front.get(f"{AT}/simple/", {"Accept": JSON})
        assert [one["name"] for one in answer.json()["projects"]] == list(map(str, kept.pages))
        assert ProjectName("demo") in kept.pages


# Time


def test_a_page_from_memory_changes_by_itself_when_a_cooldown_ends(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    young = file(LATER, uploaded=NOON - DAY)
    index: dict[str, IndexSettings] = {
        "upstream": Mirror(rules=(Rule(cooldown="7 days"),)), "root": Virtual(of=("upstream",)),
    }  # fmt: skip
    monkeypatch.setattr("entrepot.web.warm.time.time", lambda: clock.now.timestamp())  # noqa: PLW0108 - of that moment
    with doubled(loop, index, Public("upstream", file(SDIST), young), clock=clock) as front:
        for wait, shown, status in ((0 * DAY, [SDIST], 403), (5 * DAY, [SDIST], 403), (DAY, [SDIST, LATER], 200)):
            clock.now += wait
            for _ in range(2):
                assert front.filenames("/simple/demo/") == shown
                assert front.get(f"/files/demo/{LATER}").status == status
