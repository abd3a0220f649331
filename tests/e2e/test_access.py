"""Who may read and write, asked by real clients and by requests that no client would send."""

from pathlib import Path

import pytest

from tests.distributions.build import make_wheel, wheel_bytes, wheel_filename
from tests.e2e import raw
from tests.e2e.clients import Installer, Poetry, Twine, Uv, Venv
from tests.e2e.processes import until
from tests.e2e.raw import Form
from tests.e2e.servers import Server, Servers

PRIVATE = '[access]\nread = "token"\n'


def demo(version: str = "1.0") -> Form:
    return Form(wheel_filename("demo", version), wheel_bytes("demo", version))


# Reading.


def test_a_private_index_is_read_with_a_token_in_the_url(
    installer: Installer, venv: Venv, serve: Servers, dist: Path
) -> None:
    server = serve(config=PRIVATE)
    server.publish(make_wheel(dist))
    installer.install(venv, server.simple_for(server.token("read")), "demo").ok()
    assert venv.has() == {"demo": "1.0"}


def test_a_private_index_is_not_read_without_a_token(
    installer: Installer, venv: Venv, serve: Servers, dist: Path
) -> None:
    server = serve(config=PRIVATE)
    server.publish(make_wheel(dist))
    installer.install(venv, server.simple, "demo").refused()
    assert venv.has() == {}
    pages = [request for request in server.requests() if request.path == "/simple/demo/"]
    assert {request.status for request in pages} == {401}


def test_uv_reads_a_private_index_with_a_token_from_its_environment(
    uv: Uv, venv: Venv, serve: Servers, dist: Path
) -> None:
    server = serve(config=PRIVATE)
    server.publish(make_wheel(dist))
    credentials = {"UV_INDEX_OURS_USERNAME": "__token__", "UV_INDEX_OURS_PASSWORD": server.token("read")}
    install = ("pip", "install", "--python", venv.python, "--default-index", f"ours={server.simple}", "demo")
    uv.run(*install, env=credentials).ok()
    assert venv.has() == {"demo": "1.0"}


def test_poetry_reads_a_private_index_with_configured_credentials(
    poetry: Poetry, venv: Venv, serve: Servers, dist: Path
) -> None:
    server = serve(config=PRIVATE)
    server.publish(make_wheel(dist))
    project = poetry.project("app")
    poetry.run("source", "add", "--priority", "primary", "ours", server.simple, cwd=project).ok()
    user = {"POETRY_HTTP_BASIC_OURS_USERNAME": "__token__", "POETRY_HTTP_BASIC_OURS_PASSWORD": server.token("read")}
    poetry.run("add", "demo", cwd=project, env={"VIRTUAL_ENV": str(venv.folder), **user}).ok()
    assert venv.has() == {"demo": "1.0"}


def test_a_private_index_challenges_everybody_for_everything_it_holds(serve: Servers, dist: Path) -> None:
    server = serve(config=PRIVATE)
    wheel = make_wheel(dist)
    server.publish(wheel)
    inside = ("/simple/", "/simple/demo/", f"/files/demo/{wheel.name}", f"/files/demo/{wheel.name}.metadata")
    reader = {"Authorization": raw.basic(server.token("read"))}
    for path in (*inside, "/pypi/demo/json", "/simple/unknown/"):
        for _ in range(2):  # the second time from memory
            assert server.get(path).status == 401, path
            assert "Basic" in server.get(path).headers["www-authenticate"]
            answer = server.get(path, reader)
            assert answer.status == (404 if "unknown" in path else 200), path
            assert "unknown" in path or "private" in answer.headers["cache-control"]


def test_a_project_that_a_token_may_not_read_does_not_exist_for_it(serve: Servers, dist: Path) -> None:
    server = serve(config=PRIVATE)
    server.publish(make_wheel(dist, "acme-tools"), make_wheel(dist, "secret"))
    acme = {"Authorization": raw.basic(server.token("read", args=("--project", "acme-*")))}
    for _ in range(2):
        assert server.get("/simple/acme-tools/", acme).status == 200
        hidden, absent = (server.get(f"/simple/{name}/", acme) for name in ("secret", "nothing"))
        assert (hidden.status, hidden.text.replace("secret", "nothing")) == (404, absent.text)
    listed = server.get("/simple/", {**acme, "Accept": raw.JSON}).json()["projects"]
    assert [project["name"] for project in listed] == ["acme-tools"]


def test_an_expired_token_is_refused_and_says_so(server: Server) -> None:
    token = server.token("upload", args=("--expires", "1 s"))
    until(lambda: server.upload(demo(), token=token).status == 401, what="the token's end")
    assert "expired" in server.upload(demo(), token=token).text


# Writing.


def test_an_upload_without_a_token_is_challenged(steady: Server) -> None:
    answer = steady.upload(demo(), token=None)
    assert answer.status == 401
    assert answer.headers["www-authenticate"].startswith("Basic ")
    assert "token create" in answer.text
    assert steady.files("demo") == {}


def test_a_bearer_token_is_as_good_as_a_password(server: Server) -> None:
    token = server.token("upload")
    assert server.upload(demo(), token=None, headers={"Authorization": f"Bearer {token}"}).status == 200


def test_anybody_on_this_machine_publishes_to_an_open_server(serve: Servers, uv: Uv, twine: Twine, dist: Path) -> None:
    server = serve(args=["--open"])
    by_uv = ("publish", "--trusted-publishing", "never", "--publish-url", server.legacy)
    uv.run(*by_uv, "--username", "", "--password", "", make_wheel(dist, "one")).ok()
    twine.publish(server.legacy, "made-up", make_wheel(dist, "two")).ok()  # it insists on a password
    assert server.upload(demo(), token=None).status == 200
    assert server.upload(demo("3.0"), token="entrepot_123456789abc_revoked").status == 401
    assert not (server.data / "first-token").exists()
    assert [len(server.files(name)) for name in ("one", "two", "demo")] == [1, 1, 1]


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "Via"])
def test_an_open_server_refuses_uploads_that_came_through_a_proxy(serve: Servers, header: str) -> None:
    server = serve(args=["--open"])
    answer = server.upload(demo(), token=None, headers={header: "1.1 203.0.113.7"})
    assert answer.status == 403
    assert "proxy" in answer.text
    assert server.files("demo") == {}


@pytest.mark.parametrize(
    "sent_by_a_page",
    [{"Origin": "https://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"},
     {"Sec-Fetch-Site": "same-site"}],
    ids=lambda headers: "=".join(*headers.items()),
)  # fmt: skip
def test_a_web_page_cannot_publish_to_a_developers_server(serve: Servers, sent_by_a_page: dict[str, str]) -> None:
    server = serve(args=["--open"])
    assert server.upload(demo(), token=None, headers=sent_by_a_page).status == 403
    assert server.files("demo") == {}
    assert server.upload(demo(), token=None, headers={"Sec-Fetch-Site": "none"}).status == 200


@pytest.mark.parametrize("path", ["/", "/simple/", "/simple/demo/", "/legacy/"])
def test_a_rebound_host_name_is_not_answered(steady: Server, path: str) -> None:
    method = "POST" if path == "/legacy/" else "GET"
    for host in ("evil.example", f"evil.example:{steady.options.port}", "127.0.0.1.evil.example", ""):
        assert steady.ask(method, path, {"Host": host}).status == 421, host


def test_the_names_of_this_machine_and_configured_ones_are_answered(serve: Servers) -> None:
    server = serve(config='[server]\nhosts = ["packages.example.org"]\n')
    port = server.options.port
    for host in ("localhost", f"localhost:{port}", f"127.0.0.1:{port}", f"[::1]:{port}", "packages.example.org"):
        assert server.get("/simple/", {"Host": host}).status == 200, host
