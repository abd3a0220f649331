"""The URLs of older servers answer as their users know it (parity rows 1.3 to 1.10), by curl as well."""

import json
import secrets
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.distributions.build import tar_gz, wheel_bytes
from tests.e2e.processes import clean_environment
from tests.e2e.raw import Answer, basic
from tests.e2e.servers import Server, Servers
from tests.mirror.conftest import CONFIG, NO_PROXY
from tests.upstream import stock
from tests.upstream.double import Upstream
from tests.web.fronts import File, Front, fresh, sdist, wheel


def form(field: str, filename: str | None, content: bytes) -> tuple[dict[str, str], bytes]:
    """The headers and the body of a form with one field."""
    boundary = secrets.token_hex(8)
    named = f'; filename="{filename}"' if filename is not None else ""
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="{field}"{named}\r\n\r\n'
    body = head.encode() + content + f"\r\n--{boundary}--\r\n".encode()
    return {"Content-Type": f"multipart/form-data; boundary={boundary}"}, body


def post(
    front: Front, target: str, field: str, filename: str | None, content: bytes, *, token: str | None = None
) -> Answer:
    headers, body = form(field, filename, content)
    given = front.uploader if token is None else token
    credentials = {"Authorization": basic(given)} if given else {}
    return front.ask("POST", front.path + target, {**headers, **credentials}, body)


def said(answer: Answer) -> tuple[int, Any]:
    assert answer.headers["content-type"] == "application/json"
    return answer.status, answer.json()


# 1.5: POST /uploadpackage/


@pytest.mark.parametrize("target", ["/uploadpackage/", "/uploadpackage"])
def test_a_package_is_uploaded(front: Front, target: str) -> None:
    name = fresh()
    for file in (sdist(name), wheel(name)):
        assert said(post(front, target, "sdist", file.filename, file.data)) == (200, {"uploaded": "ok"})
    assert front.filenames(name) == [wheel(name).filename, sdist(name).filename]
    assert front.get(f"/files/{name}/{sdist(name).filename}").body == sdist(name).data


def test_the_same_bytes_again_are_ok_and_other_bytes_409(front: Front) -> None:
    name = fresh()
    first, other = sdist(name), sdist(name, metadata_extra="Keywords: more\n")
    for _ in range(2):
        assert said(post(front, "/uploadpackage/", "sdist", first.filename, first.data)) == (200, {"uploaded": "ok"})
    status, answer = said(post(front, "/uploadpackage/", "sdist", first.filename, other.data))
    assert (status, answer["error"], sorted(answer)) == (409, True, ["error", "message"])
    assert answer["message"].startswith("File already exists")
    assert front.get(f"/files/{name}/{first.filename}").body == first.data


@pytest.mark.parametrize(("field", "filename"), [("other", "x"), ("other", None), ("sdist", None), ("sdist", "")])
def test_without_a_file_it_is_the_known_400(front: Front, field: str, filename: str | None) -> None:
    headers, body = form(field, filename, b"x")
    answer = front.ask("POST", "/uploadpackage/", {**headers, "Authorization": basic(front.uploader)}, body)
    assert said(answer) == (400, {"error": True, "message": "Missing package data."})


def test_no_form_at_all_is_the_known_400(front: Front) -> None:
    answer = front.ask("POST", "/uploadpackage/", {"Authorization": basic(front.uploader)}, b"x=1")
    assert said(answer) == (400, {"error": True, "message": "Missing package data."})


def test_bytes_that_are_no_archive_are_400(front: Front) -> None:
    name = fresh()
    status, answer = said(post(front, "/uploadpackage/", "sdist", f"{name}-1.0.tar.gz", b"this is no archive"))
    assert (status, answer["error"]) == (400, True)
    assert front.filenames(name) == []
    assert front.staging == []


def old_sdist(name: str, version: str = "1.0") -> bytes:
    """As setuptools wrote them for twenty years: everything is spelled as the author spelled it."""
    metadata = f"Metadata-Version: 1.1\nName: {name}\nVersion: {version}\n"
    members = {"PKG-INFO": metadata.encode(), "setup.py": b"from setuptools import setup\nsetup()\n"}
    return tar_gz({f"{name}-{version}/{path}": data for path, data in members.items()})


@pytest.mark.parametrize("sent", ["{name}-1.0.0-RC1.tar.gz", "-", "download.tgz", "other_thing-3.tar.gz", "{new}"])
def test_a_file_of_an_old_name_is_named_by_its_metadata(front: Front, sent: str) -> None:
    project = fresh("old")
    name = f"{project.upper()}.Sub-Thing"
    data = old_sdist(name, "1.0.0-RC1")
    filename = f"{project}_sub_thing-1.0.0rc1.tar.gz"
    for _ in range(2):
        uploaded = post(front, "/uploadpackage/", "sdist", sent.format(name=name, new=filename), data)
        assert said(uploaded) == (200, {"uploaded": "ok"})
    assert front.filenames(f"{project}-sub-thing") == [filename]
    assert front.get(f"/packages/source/{name[0]}/{name}/{filename}").body == data


def test_a_wheel_of_an_old_name_is_named_by_its_metadata_and_keeps_its_tags(front: Front) -> None:
    project = fresh("old")
    data = wheel_bytes(f"{project}-thing", "1.0", tags="py2.py3-none-any")
    sent = f"{project.upper()}.Thing-1.0.0-2-py2.py3-none-any.whl"
    assert said(post(front, "/uploadpackage/", "sdist", sent, data)) == (200, {"uploaded": "ok"})
    assert front.filenames(f"{project}-thing") == [f"{project}_thing-1.0-2-py2.py3-none-any.whl"]


def test_the_usual_upload_names_nothing_anew(front: Front) -> None:
    project = fresh("old")
    answer = front.upload(File(f"{project}.Thing-1.0.tar.gz", old_sdist(f"{project}.Thing")).form())
    assert answer.status == 400
    assert f"should be '{project}_thing-1.0.tar.gz'" in answer.text


def test_a_token_for_another_project_does_not_pass_under_its_name(front: Front) -> None:
    mine, other = fresh("mine"), fresh("other")
    token = front.token("upload", projects=(mine,))
    data = sdist(other).data
    status, answer = said(post(front, "/uploadpackage/", "sdist", sdist(mine).filename, data, token=token))
    assert (status, answer["error"]) == (403, True)
    assert front.filenames(other) == []


def test_an_egg_is_refused_in_clear_words(front: Front) -> None:
    status, answer = said(post(front, "/uploadpackage/", "sdist", f"{fresh()}-1.0-py2.7.egg", b"PK"))
    assert status == 400
    assert "wheels (.whl) and source distributions (.tar.gz) are accepted" in answer["message"]


# 1.8: tokens


@pytest.mark.parametrize(
    ("method", "target"),
    [("POST", "/uploadpackage/"), ("POST", "/requirements.txt"), ("PUT", "/packages/source/x/x/x-1.0.tar.gz")],
)
def test_without_a_token_it_is_401_and_says_how_to_get_one(front: Front, method: str, target: str) -> None:
    headers, body = form("requirements", "-", b"x")
    answer = front.ask(method, target, headers, body)
    assert answer.status == 401
    assert "`entrepot token create" in answer.text
    assert answer.headers["www-authenticate"].startswith("Basic")


@pytest.mark.parametrize("target", ["/uploadpackage/", "/requirements.txt"])
def test_a_token_that_may_only_read_is_403(front: Front, target: str) -> None:
    status, answer = said(post(front, target, "requirements", "-", b"", token=front.token("read")))
    assert (status, answer["error"]) == (403, True)


def test_an_open_server_asks_for_no_token(below: Front) -> None:
    name = fresh()
    file = sdist(name)
    assert said(post(below, "/uploadpackage/", "sdist", file.filename, file.data, token="")) == (
        200,
        {"uploaded": "ok"},
    )
    expected = {"cached": [file.filename], "failed": [], "unparseable": []}
    assert said(post(below, "/requirements.txt", "requirements", "-", name.encode(), token="")) == (200, expected)


def test_no_web_page_may_do_it(below: Front) -> None:
    headers, body = form("requirements", "-", b"x")
    answer = below.ask("POST", f"{below.path}/requirements.txt", {**headers, "Origin": "https://evil.example"}, body)
    assert answer.status == 403


# 1.6: GET, HEAD and PUT /packages/…


def published(front: Front) -> tuple[str, File, File]:
    name = fresh("Old")
    files = sdist(name.lower()), wheel(name.lower())
    front.publish(*files)
    return name, *files


def test_files_are_under_their_old_paths_in_any_case(front: Front) -> None:
    name, archive, package = published(front)
    for project in (name, name.lower(), name.upper()):
        for path in (f"source/{project[0]}/{project}", project, f"2.7/{project[0]}/{project}"):
            answer = front.get(f"/packages/{path}/{archive.filename}")
            assert (answer.status, answer.body) == (200, archive.data)
            assert answer.headers["content-type"] == "application/octet-stream"
            assert answer.headers["x-content-type-options"] == "nosniff"
            head = front.head(f"/packages/{path}/{package.filename}")
            assert (head.status, head.headers["content-length"]) == (200, str(len(package.data)))
    assert front.get(f"/packages/{package.filename}").body == package.data


def test_ranges_and_metadata_work_there_too(front: Front) -> None:
    name, archive, package = published(front)
    part = front.get(f"/packages/source/o/{name}/{archive.filename}", {"Range": "bytes=0-9"})
    assert (part.status, part.body) == (206, archive.data[:10])
    for path in (f"/packages/{name}", "/packages"):
        assert (
            front.get(f"{path}/{package.filename}.metadata").body
            == front.get(f"/files/{name.lower()}/{package.filename}.metadata").body
        )


@pytest.mark.parametrize(
    "path",
    [
        "source/n/nobody/nobody-1.0.tar.gz",
        "nobody/nobody-1.0.tar.gz",
        "2.7/n/nobody/nobody-1.0-py2.7.egg",
        "nobody-1.0.tar.gz",
        "what",
        "nobody-1.0-py2.7.egg",
    ],
)
def test_what_is_nowhere_is_404(front: Front, path: str) -> None:
    assert front.get(f"/packages/{path}").status == 404


@pytest.mark.parametrize("word", ["simple", "local", "explain", "legacy", "files"])
def test_a_project_may_have_the_name_of_a_view(make: Callable[..., Front], word: str) -> None:
    front, file = make("asgi", '[index.root]\ntype = "hosted"\n'), sdist(word)
    assert front.upload(file.form()).status == 200
    assert front.get(f"/packages/{word}/{file.filename}").body == file.data


def put(front: Front, target: str, data: bytes) -> Answer:
    return front.ask("PUT", target, {"Authorization": basic(front.uploader), "Content-Length": str(len(data))}, data)


def test_a_file_is_put_once(front: Front) -> None:
    name = fresh()
    file, other = sdist(name), sdist(name, metadata_extra="Keywords: more\n")
    target = f"/packages/source/{name[0]}/{name}/{file.filename}"
    assert put(front, target, file.data).status == 201
    assert front.get(target).body == file.data
    assert put(front, target, file.data).status == 200
    assert put(front, target, other.data).status == 409
    assert front.get(target).body == file.data


def test_a_file_of_another_project_is_400(front: Front) -> None:
    file = sdist(fresh())
    answer = put(front, f"/packages/source/o/other/{file.filename}", file.data)
    assert answer.status == 400
    assert "no file of project other" in answer.text


@pytest.mark.parametrize(("filename", "why"), [("demo-1.0-py2.7.egg", "wheels (.whl)"), ("demo-1.0.tar.gz", "problem")])
def test_what_is_no_distribution_cannot_be_put(front: Front, filename: str, why: str) -> None:
    answer = put(front, f"/packages/2.7/d/demo/{filename}", b"nonsense")
    assert answer.status == 400
    assert why in answer.text or "gzip" in answer.text


# 1.3, 1.7, 1.10: pages


@pytest.mark.parametrize("view", ["simple", "local"])
@pytest.mark.parametrize(
    ("asked", "meant"), [("Foo.Bar/1.0", "foo-bar/"), ("foo/1.0/", "foo/"), ("foo/1.0?x=y", "foo/?x=y")]
)
def test_the_page_of_a_version_is_that_of_its_project(front: Front, view: str, asked: str, meant: str) -> None:
    answer = front.get(f"/{view}/{asked}")
    assert (answer.status, answer.headers["location"]) == (301, f"/{view}/{meant}")


@pytest.mark.parametrize("path", ["foo/bar", "foo/", "foo/bar/", "foo%2Fbar/", "-/1.0"])
def test_what_is_no_version_of_a_project_is_404(front: Front, path: str) -> None:
    assert front.get(f"/simple/{path}").status == 404


def test_it_stays_below_the_sub_path(below: Front) -> None:
    assert below.get("/simple/foo/1.0").headers["location"] == "/sub/pypi/simple/foo/"


def test_what_is_kept_here_is_under_local(front: Front) -> None:
    name, archive, package = published(front)
    assert front.get(f"/local/{name.lower()}").headers["location"] == f"/local/{name.lower()}/"
    page = front.get(f"/local/{name.lower()}/").text
    assert archive.filename in page
    assert package.filename in page
    assert front.get("/local/nobody-has-this/").status == 404


def test_the_front_page_names_them(front: Front) -> None:
    text = front.get("/").text
    assert [
        word
        for word in ("/simple/", "/local/", "/requirements.txt", "/uploadpackage/", "/packages/")
        if word not in text
    ] == []


# 1.4: POST /requirements.txt


@dataclass(frozen=True)
class Mirrored:
    server: Server
    upstream: Upstream

    def post(self, content: bytes, filename: str = "requirements.txt", *, field: str = "requirements") -> Answer:
        headers, body = form(field, filename, content)
        return self.server.ask(
            "POST", "/requirements.txt", {**headers, "Authorization": basic(self.server.first_token)}, body
        )

    def filled(self, text: str) -> dict[str, list[str]]:
        status, answer = said(self.post(text.encode()))
        assert (status, sorted(answer)) == (200, ["cached", "failed", "unparseable"])
        return {key: sorted(value) for key, value in answer.items()}

    def local(self, name: str) -> list[str]:
        answer = self.server.get(f"/local/simple/{name}/", {"Accept": "application/vnd.pypi.simple.v1+json"})
        return [file["filename"] for file in answer.json()["files"]] if answer.status == 200 else []


@pytest.fixture(scope="module")
def mirrored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mirrored]:
    servers = Servers(tmp_path_factory.mktemp("requirements"))
    with Upstream() as upstream:
        config = CONFIG.format(url=upstream.url, more='private-addresses = true\ntimeout = "2 s"\n')
        yield Mirrored(servers(config=config, env=NO_PROXY), upstream)
        servers.end()


def stocked(mirrored: Mirrored) -> str:
    name = fresh("wanted")
    mirrored.upstream.add(
        name, stock.sdist(name), stock.wheel(name), stock.wheel(name, "1.1"), stock.wheel(name, "2.0a1")
    )
    return name


def test_what_is_asked_for_is_kept_here(mirrored: Mirrored) -> None:
    name = stocked(mirrored)
    answer = mirrored.filled(f"# ours\n\n{name}==1.0   # pinned\nnobody-has-this==1.0\n-r other.txt\n")
    kept = [f"{name}-1.0-py3-none-any.whl", f"{name}-1.0.tar.gz"]
    assert answer == {"cached": kept, "failed": ["nobody-has-this==1.0"], "unparseable": ["-r other.txt"]}
    assert sorted(mirrored.local(name)) == kept
    with mirrored.upstream.away():
        assert mirrored.server.get(f"/files/{name}/{kept[0]}").status == 200


def test_ranges_extras_markers_and_hashes_are_understood(mirrored: Mirrored) -> None:
    name, wheel_ = stocked(mirrored), stock.wheel
    digest = wheel_(name).sha256
    assert mirrored.filled(f"{name}[x]<2 ; python_version > '3'")["cached"] == [f"{name}-1.1-py3-none-any.whl"]
    assert mirrored.filled(f"{name}==1.0 \\\n  --hash=sha256:{digest}\n")["cached"] == [f"{name}-1.0-py3-none-any.whl"]
    wrong = f"{name}==1.0 --hash=sha256:{'0' * 64}"
    assert mirrored.filled(wrong) == {"cached": [], "failed": [wrong], "unparseable": []}


def test_a_hash_is_checked_where_upstream_tells_none(mirrored: Mirrored) -> None:
    name = fresh("bare")
    mirrored.upstream.add(name, stock.sdist(name), manner=stock.Manner(hashes=()))
    right, wrong = (f"{name}==1.0 --hash=sha256:{digest}" for digest in (stock.sdist(name).sha256, "0" * 64))
    assert mirrored.filled(right)["failed"] == []
    assert mirrored.filled(wrong) == {"cached": [], "failed": [wrong], "unparseable": []}


def test_locks_are_accepted(mirrored: Mirrored) -> None:
    name = stocked(mirrored)
    file = stock.wheel(name)
    entry = f'url = "https://files.example/{file.filename}", hashes = {{ sha256 = "{file.sha256}" }}'
    lock = f'lock-version = "1.0"\ncreated-by = "test"\n[[packages]]\nname = "{name}"\nversion = "1.0"\nwheels = [{{ {entry} }}]\n'
    assert mirrored.filled(lock) == {"cached": [file.filename], "failed": [], "unparseable": []}
    assert mirrored.filled(lock.replace(file.sha256, "0" * 64)) == {
        "cached": [],
        "failed": [f"{name}==1.0"],
        "unparseable": [],
    }


def test_nothing_but_requirements_is_acted_on(mirrored: Mirrored) -> None:
    lines = [
        "-e .",
        "--index-url=https://evil.example",
        "./setup.py",
        "https://evil.example/x.whl",
        "x @ https://evil.example/x",
        "-c c",
        "??",
    ]
    mirrored.upstream.forget()
    assert mirrored.filled("\n".join(lines)) == {"cached": [], "failed": [], "unparseable": sorted(lines)}
    assert mirrored.upstream.asked() == []


def test_private_names_are_not_asked_upstream(mirrored: Mirrored) -> None:
    name = fresh("private")
    file = sdist(name)
    answer = mirrored.server.upload(file.form(), token=mirrored.server.first_token)
    assert answer.status == 200
    mirrored.upstream.forget()
    assert mirrored.filled(name)["cached"] == [file.filename]
    assert mirrored.upstream.asked(f"*{name}*") == []


def test_a_file_that_does_not_come_fails_its_line_alone(mirrored: Mirrored) -> None:
    name, other = stocked(mirrored), stocked(mirrored)
    fault = mirrored.upstream.fault(f"/files/{name}/{name}-1.0.tar.gz", status=500)
    answer = mirrored.filled(f"{name}==1.0\n{other}==1.1")
    fault.end()
    assert answer["failed"] == [f"{name}==1.0"]
    assert answer["cached"] == sorted([f"{name}-1.0-py3-none-any.whl", f"{other}-1.1-py3-none-any.whl"])


@pytest.mark.parametrize(("field", "filename"), [("other", None), ("other", "x"), ("requirements", None)])
def test_without_the_field_it_is_the_known_400(mirrored: Mirrored, field: str, filename: str | None) -> None:
    headers, body = form(field, filename, b"x")
    answer = mirrored.server.ask(
        "POST", "/requirements.txt", {**headers, "Authorization": basic(mirrored.server.first_token)}, body
    )
    assert said(answer) == (400, {"error": True, "message": "Missing requirements data."})


@pytest.mark.parametrize("content", [b"#" * ((1 << 20) + 1), b"\n" * 2_001, b"x==1\n" * 2_001])
def test_too_much_is_413(mirrored: Mirrored, content: bytes) -> None:
    status, answer = said(mirrored.post(content))
    assert (status, answer["error"]) == (413, True)


def test_as_much_as_is_allowed_is_read(mirrored: Mirrored) -> None:
    assert said(mirrored.post(b"\n" * 2_000 + b"#" * 1000))[0] == 200


@pytest.fixture
def curl(tmp_path: Path) -> Callable[..., str]:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed: apt-get install curl")

    def run(*words: str | Path, stdin: bytes = b"") -> str:
        command = ["curl", "--silent", "--show-error", *map(str, words)]
        ran = subprocess.run(
            command, input=stdin, capture_output=True, timeout=60, check=False, cwd=tmp_path, env=clean_environment()
        )
        assert ran.returncode == 0, ran.stderr
        return ran.stdout.decode()

    return run


def test_the_old_command_lines_work_by_curl(mirrored: Mirrored, curl: Callable[..., str], tmp_path: Path) -> None:
    name, mine = stocked(mirrored), fresh("mine")
    (tmp_path / "requirements.txt").write_text(f"{name}==1.1\n")
    file = sdist(mine)
    (tmp_path / file.filename).write_bytes(file.data)
    user, url = f"__token__:{mirrored.server.first_token}", mirrored.server.url
    expected = {"cached": [f"{name}-1.1-py3-none-any.whl"], "failed": [], "unparseable": []}
    for given in ("requirements=@requirements.txt", "requirements=@-"):
        assert (
            json.loads(
                curl("-u", user, "-X", "POST", f"{url}/requirements.txt", "-F", given, stdin=f"{name}==1.1".encode())
            )
            == expected
        )
    assert json.loads(curl("-u", user, "-F", f"sdist=@{file.filename}", f"{url}/uploadpackage/")) == {"uploaded": "ok"}
    (tmp_path / "again").write_text(
        curl("-o", "got", "-w", "%{http_code}", f"{url}/packages/source/{mine[0]}/{mine}/{file.filename}")
    )
    assert (tmp_path / "got").read_bytes() == file.data
    other = sdist(mine, "2.0")
    (tmp_path / other.filename).write_bytes(other.data)
    target = f"{url}/packages/source/{mine[0]}/{mine}/{other.filename}"
    assert curl("-u", user, "-T", other.filename, "-o", "answer", "-w", "%{http_code}", target) == "201"
    assert (
        curl("-o", "answer", "-w", "%{http_code}", "-F", "requirements=@requirements.txt", f"{url}/requirements.txt")
        == "401"
    )
