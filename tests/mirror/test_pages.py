"""Upstream's pages, in whatever form it has them, become ours."""

import hashlib
from urllib.parse import urlsplit

import pytest
from pypi_simple import ACCEPT_HTML_ONLY, ACCEPT_JSON_ONLY, PyPISimple

from tests.distributions.build import zip_bytes
from tests.e2e import raw
from tests.e2e.processes import until
from tests.mirror.asking import (
    BROKEN,
    ask_page,
    download,
    fresh,
    listed,
    names,
    page,
    path_of,
    until_kept,
)
from tests.mirror.conftest import Mirror, Mirrored
from tests.upstream.double import Upstream
from tests.upstream.faults import other_bytes
from tests.upstream.stock import Item, Manner, sdist, thousands, wheel

FORMS = {"json": Manner(html=False), "html": Manner(json=False), "both": Manner()}


@pytest.fixture(params=FORMS)
def manner(request: pytest.FixtureRequest) -> Manner:
    """JSON alone, HTML alone, or what was asked for."""
    chosen = FORMS[request.param]
    return Manner(json=chosen.json, html=chosen.html)


@pytest.mark.parametrize("accept", [ACCEPT_JSON_ONLY, ACCEPT_HTML_ONLY], ids=["as-json", "as-html"])
def test_a_page_passes_and_an_independent_reader_understands_it(shared: Mirrored, manner: Manner, accept: str) -> None:
    name = fresh()
    built, source = wheel(name), sdist(name)
    shared.upstream.add(name, built, source, manner=manner)
    with PyPISimple(shared.server.simple, accept=accept) as reader:
        reader.s.trust_env = False
        read = {package.filename: package for package in reader.get_project_page(name).packages}
        assert set(read) == {built.filename, source.filename}
        assert read[built.filename].digests == {"sha256": built.sha256}
        assert read[built.filename].requires_python == ">=3.9"
        # Its hash is told when the bytes are here.
        assert reader.get_package_metadata_bytes(read[built.filename], verify=False) == built.metadata
        hosts = {urlsplit(package.url).netloc for package in read.values()}
        assert hosts == {urlsplit(shared.server.origin).netloc}


@pytest.mark.parametrize("absolute", [False, True], ids=["relative", "absolute"])
def test_files_come_from_where_the_page_says(shared: Mirrored, manner: Manner, absolute: bool) -> None:
    name = fresh()
    manner.base = shared.upstream.other if absolute else ""
    built, source = wheel(name), sdist(name)
    shared.upstream.add(name, built, source, manner=manner)
    assert [download(shared.server, name, item).body for item in (built, source)] == [built.data, source.data]
    hosts = {seen.host for seen in shared.upstream.asked(f"/files/{name}/*.tar.gz")}
    assert hosts == {"127.0.0.2" if absolute else "127.0.0.1"}


def test_urls_relative_to_the_page_are_understood(shared: Mirrored, manner: Manner) -> None:
    name = fresh()
    built = wheel(name, told={"url": f"../../files/{name}/{name}-1.0-py3-none-any.whl"})
    shared.upstream.add(name, built, manner=manner)
    assert download(shared.server, name, built).body == built.data


def test_yanks_and_what_they_say_pass(shared: Mirrored, manner: Manner) -> None:
    name = fresh()
    shared.upstream.add(
        name, wheel(name, "1.0", told={"yanked": "it is broken"}), wheel(name, "2.0"), manner=manner
    )  # fmt: skip
    yanked = {filename: file["yanked"] for filename, file in listed(shared.server, name).items()}
    assert sorted(yanked.values(), key=str) == [False, "it is broken"]
    assert page(shared.server, name)["versions"] == ["1.0", "2.0"]


def test_a_page_without_sizes_is_of_an_earlier_version(shared: Mirrored) -> None:
    name = fresh()
    shared.upstream.add(name, wheel(name), manner=Manner(sizes=False))
    told = page(shared.server, name)
    assert told["meta"]["api-version"] == "1.0"
    assert "size" not in told["files"][0]


def test_files_without_hashes_are_served(shared: Mirrored, manner: Manner) -> None:
    name = fresh()
    built = wheel(name)
    manner.hashes = ()
    shared.upstream.add(name, built, manner=manner)
    assert set(listed(shared.server, name)[built.filename]["hashes"]) <= {"sha256"}
    assert download(shared.server, name, built).body == built.data


def test_md5_alone_passes_and_is_checked(shared: Mirrored, manner: Manner) -> None:
    name = fresh()
    manner.hashes = ("md5",)
    good, bad = wheel(name, "1.0"), wheel(name, "2.0")
    shared.upstream.add(name, good, bad, manner=manner)
    assert listed(shared.server, name)[good.filename]["hashes"]["md5"] == good.digest("md5")
    assert download(shared.server, name, good).body == good.data
    with shared.upstream.fault(path_of(name, bad), change=other_bytes):
        try:
            answer = shared.server.get(path_of(name, bad))
        except BROKEN:
            return
        assert answer.status != 200


@pytest.mark.parametrize("old", [False, True], ids=["both-names", "old-name"])
def test_metadata_in_html_is_understood_in_both_spellings(shared: Mirrored, old: bool) -> None:
    name = fresh()
    built = wheel(name)
    shared.upstream.add(name, built, manner=Manner(json=False, old_spelling=old))
    assert listed(shared.server, name)[built.filename]["core-metadata"]


def test_a_project_that_upstream_has_under_an_old_name_is_found(shared: Mirrored) -> None:
    name = fresh("old-name")
    built = wheel(name)
    shared.upstream.add(name, built, manner=Manner(spelled=name.replace("old-name", "Old_Name")))
    assert names(shared.server, name) == {built.filename}
    assert download(shared.server, name, built).body == built.data


def test_who_asks_by_another_spelling_is_led_to_the_right_one(shared: Mirrored) -> None:
    name = fresh("good-name")
    shared.upstream.add(name, wheel(name))
    answer = shared.server.get(f"/simple/{name.replace('good-name', 'Good_Name')}/")
    assert (answer.status, answer.headers["location"].endswith(f"/simple/{name}/")) == (301, True)
    assert shared.upstream.asked(f"/simple/{name.replace('good-name', 'Good_Name')}*") == []


def test_a_page_is_asked_for_once_while_it_is_fresh(shared: Mirrored) -> None:
    name = fresh()
    shared.upstream.add(name, wheel(name))
    answers = [ask_page(shared.server, name, accept=accept) for accept in (raw.JSON, raw.HTML, raw.JSON, "text/html")]
    assert {answer.status for answer in answers} == {200}
    assert len(shared.upstream.asked(f"/simple/{name}/")) == 1


def test_a_client_that_has_the_page_hears_that_nothing_changed(shared: Mirrored) -> None:
    name = fresh()
    shared.upstream.add(name, wheel(name), manner=Manner(metadata="none"))
    first = ask_page(shared.server, name)
    # What is learned of the file's metadata in the background may change the page once.
    again = until(
        lambda: _unchanged(shared, name), what="a page that stays as it is"
    )  # fmt: skip
    assert first.status == 200
    assert again


def _unchanged(shared: Mirrored, name: str) -> bool:
    etag = ask_page(shared.server, name).headers["etag"]
    return shared.server.get(f"/simple/{name}/", {"Accept": raw.JSON, "If-None-Match": etag}).status == 304


def test_a_name_that_upstream_does_not_know_is_404_and_asked_for_once(shared: Mirrored) -> None:
    name = fresh("nowhere")
    assert [ask_page(shared.server, name, accept=accept).status for accept in (raw.JSON, raw.HTML)] == [404, 404]
    assert len(shared.upstream.asked(f"/simple/{name}/")) == 1
    assert shared.server.get(f"/files/{name}/{name}-1.0-py3-none-any.whl").status == 404


def test_a_file_that_is_not_on_the_page_is_not_asked_for(shared: Mirrored) -> None:
    name = fresh()
    shared.upstream.add(name, wheel(name, "1.0"))
    assert shared.server.get(path_of(name, f"{name}-2.0-py3-none-any.whl")).status == 404
    assert shared.upstream.asked(path_of(name, f"{name}-2.0*")) == []


def test_a_page_of_thousands_of_files_passes(shared: Mirrored, manner: Manner) -> None:
    name = fresh("many")
    shared.upstream.add(name, *thousands(name, 4_400), manner=manner)
    assert len(listed(shared.server, name)) == 4_400


def test_names_that_were_asked_for_are_listed(shared: Mirrored) -> None:
    seen, unseen = fresh("seen"), fresh("unseen")
    for name in (seen, unseen):
        shared.upstream.add(name, wheel(name))
    assert names(shared.server, seen)

    def listing(query: str = "") -> set[str]:
        answer = shared.server.get(f"/simple/{query}", {"Accept": raw.JSON})
        assert answer.status == 200, answer
        return {project["name"] for project in answer.json()["projects"]}

    until(lambda: seen in listing(), what="the name in the list")
    assert unseen not in listing()


@pytest.mark.parametrize(
    "body",
    [b"{", b"<html><body>maintenance</body></html>" + bytes(range(256)), b""],
    ids=["broken-json", "noise", "nothing"],
)
@pytest.mark.parametrize("kind", [raw.JSON, "text/plain", "application/octet-stream"])
def test_what_is_no_page_is_a_failure_and_not_an_empty_project(always: Mirrored, body: bytes, kind: str) -> None:
    name = fresh()
    always.upstream.add(name, wheel(name))
    with always.upstream.fault(f"/simple/{name}/", body=body, headers={"content-type": kind}):
        assert ask_page(always.server, name).status in {502, 503}


def test_a_flat_page_has_every_project(mirror: Mirror, upstream: Upstream) -> None:
    built, other = wheel("demo"), wheel("other-thing", "2.0")
    upstream.add("demo", built)
    upstream.add("other-thing", other)
    server = mirror(url=upstream.flat, layout='"flat"')
    assert names(server, "demo") == {built.filename}
    assert names(server, "other-thing") == {other.filename}
    assert download(server, "other-thing", other).body == other.data
    assert ask_page(server, "nowhere").status == 404
    assert len(upstream.asked("/flat/")) == 1
    said = server.command("explain", "nowhere")
    assert "upstream (mirror): unknown" in said


def test_new_bytes_under_an_old_name_are_fetched_and_not_mixed_with_the_old(mirror: Mirror, upstream: Upstream) -> None:
    old, new = wheel("demo"), wheel("demo", files={"demo/more.py": b"1\n"})
    assert old.filename == new.filename
    upstream.add("demo", old)
    server = mirror(ttl='"1 s"')
    assert download(server, "demo", old).body == old.data
    until_kept(server, old)
    upstream.remove("demo", old.filename)
    upstream.add("demo", new)
    hashed = hashlib.sha256(new.data).hexdigest()
    until(lambda: listed(server, "demo")[new.filename]["hashes"]["sha256"] == hashed, what="the new page", within=10)
    assert download(server, "demo", new).body == new.data


def test_a_name_that_upstream_does_not_know_yet_is_found_later(mirror: Mirror, upstream: Upstream) -> None:
    server = mirror(ttl='"1 s"')
    assert ask_page(server, "demo").status == 404
    upstream.add("demo", wheel("demo"))
    until(lambda: ask_page(server, "demo").status == 200, what="the new project")


def test_hosted_names_are_never_asked_for_upstream(shared: Mirrored, tmp_path_factory: pytest.TempPathFactory) -> None:
    name = fresh("private")
    file = tmp_path_factory.mktemp("dist") / f"{name}-1.0-py3-none-any.whl"
    file.write_bytes(wheel(name).data)
    shared.server.publish(file)
    shared.upstream.forget()
    assert names(shared.server, name) == {file.name}
    assert shared.upstream.asked(f"*{name}*") == []


def egg(name: str) -> Item:
    data = zip_bytes({"EGG-INFO/PKG-INFO": f"Metadata-Version: 2.2\nName: {name}\nVersion: 1.0\n".encode()})
    return Item(filename=f"{name}-1.0-py2.7.egg", data=data)


def test_old_eggs_are_listed_and_served_without_metadata(shared: Mirrored, manner: Manner) -> None:
    name = fresh("old")
    old, built = egg(name), wheel(name)
    shared.upstream.add(name, old, built, manner=manner)
    assert download(shared.server, name, old).body == old.data
    until_kept(shared.server, old)
    assert names(shared.server, name) == {old.filename, built.filename}
    assert not listed(shared.server, name)[old.filename].get("core-metadata")
    assert shared.server.get(f"/packages/2.7/{name[0]}/{name}/{old.filename}").body == old.data
    [told] = [each for each in _legacy(shared, name) if each["filename"] == old.filename]
    assert (told["packagetype"], told["python_version"]) == ("bdist_egg", "2.7")
    answer = shared.server.ask(
        "POST", "/requirements.txt", *_requirements(shared, name),
    )  # fmt: skip
    assert answer.json()["cached"] == [built.filename]


def _legacy(shared: Mirrored, name: str) -> list[dict[str, str]]:
    urls: list[dict[str, str]] = shared.server.get(f"/pypi/{name}/json").json()["urls"]
    return urls


def _requirements(shared: Mirrored, name: str) -> tuple[dict[str, str], bytes]:
    head = 'Content-Disposition: form-data; name="requirements"; filename="-"'
    body = f"--x\r\n{head}\r\n\r\n{name}\r\n--x--\r\n".encode()
    authorization = raw.basic(shared.server.first_token)
    return {"Content-Type": "multipart/form-data; boundary=x", "Authorization": authorization}, body
