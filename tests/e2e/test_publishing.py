"""twine, uv and poetry publish, and show their users why something was refused."""

import hashlib
import zipfile
from pathlib import Path

import pytest

from tests.distributions.build import make_sdist, make_wheel, wheel_members, zip_bytes
from tests.e2e.clients import Publisher, Twine, Uv
from tests.e2e.packages import Built
from tests.e2e.servers import Server, Servers


def sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def test_a_wheel_and_an_sdist_are_published(publisher: Publisher, server: Server, greeter: Built) -> None:
    token = server.token("upload", name="robot")
    publisher.publish(server.legacy, token, *greeter.files).ok()
    assert server.files("greeter") == {file.name: sha256(file) for file in greeter.files}
    assert [server.download("greeter", file.name) for file in greeter.files] == [
        file.read_bytes() for file in greeter.files
    ]


def test_the_access_log_names_the_token_and_never_shows_it(server: Server, twine: Twine, greeter: Built) -> None:
    token = server.token("upload", name="robot")
    twine.publish(server.legacy, token, greeter.wheel).ok()
    [upload] = [request for request in server.requests() if request.method == "POST"]
    assert (upload.path, upload.status, upload.token) == ("/legacy/", 200, token.split("_")[1])
    assert token.split("_", 2)[2] not in server.said() + str(server.requests())


def test_publishing_the_same_bytes_again_succeeds_and_changes_nothing(
    publisher: Publisher, server: Server, greeter: Built
) -> None:
    publisher.publish(server.legacy, server.first_token, *greeter.files).ok()
    before = server.get("/simple/greeter/").headers["etag"]
    publisher.publish(server.legacy, server.first_token, *greeter.files).ok()
    assert server.get("/simple/greeter/").headers["etag"] == before


def test_other_bytes_under_a_known_name_are_refused_and_the_client_says_why(
    publisher: Publisher, server: Server, dist: Path, tmp_path: Path
) -> None:
    first = make_wheel(tmp_path, "demo", "1.0")
    server.publish(first)
    second = make_wheel(dist, "demo", "1.0", files={"demo/__init__.py": b"changed = True\n"})
    assert "File already exists" in publisher.publish(server.legacy, server.first_token, second).refused()
    assert server.download("demo", first.name) == first.read_bytes()


def test_a_wrong_token_is_refused_with_401(publisher: Publisher, server: Server, dist: Path) -> None:
    said = publisher.publish(server.legacy, "entrepot_0123456789ab_wrong", make_wheel(dist)).refused()
    assert "401" in said
    assert server.files("demo") == {}


def test_a_token_without_the_grant_is_refused_with_403(publisher: Publisher, server: Server, dist: Path) -> None:
    reader = server.token("read", name="reader")
    said = publisher.publish(server.legacy, reader, make_wheel(dist)).refused()
    assert "403" in said
    assert "reader may not upload" in said
    assert server.files("demo") == {}


def test_a_token_for_some_projects_publishes_those_and_no_others(twine: Twine, server: Server, dist: Path) -> None:
    token = server.token("upload", name="acme", args=("--project", "acme-*"))
    twine.publish(server.legacy, token, make_wheel(dist, "acme-tools")).ok()
    said = twine.publish(server.legacy, token, make_wheel(dist, "other")).refused()
    assert "acme may not upload to project other" in said
    assert (len(server.files("acme-tools")), len(server.files("other"))) == (1, 0)


def test_a_revoked_token_is_refused_at_once_by_the_running_server(twine: Twine, server: Server, dist: Path) -> None:
    token = server.token("upload", name="leaver")
    twine.publish(server.legacy, token, make_wheel(dist, "demo", "1.0")).ok()
    server.command("token", "revoke", "leaver", "--yes")
    assert "401" in twine.publish(server.legacy, token, make_wheel(dist, "demo", "2.0")).refused()


def test_uv_without_a_token_is_told_that_credentials_are_missing(uv: Uv, server: Server, dist: Path) -> None:
    publish = ("publish", "--trusted-publishing", "never", "--publish-url", server.legacy)
    assert "Missing credentials" in uv.run(*publish, make_wheel(dist)).refused()
    assert server.files("demo") == {}


def test_a_file_over_the_limit_is_refused_with_413_that_names_it(
    publisher: Publisher, serve: Servers, dist: Path
) -> None:
    server = serve(config='[server]\nmax-upload = "100 KiB"\n')
    noise = b"".join(hashlib.sha256(bytes([n % 256, n // 256])).digest() for n in range(10_000))
    large = make_wheel(dist, files={"demo/noise.bin": noise})
    said = publisher.publish(server.legacy, server.first_token, large).refused()
    assert "413" in said
    assert "larger than 100 KiB" in said
    assert server.files("demo") == {}


@pytest.mark.parametrize("why", ["401", "413"])
def test_the_reason_arrives_also_while_a_large_body_is_still_on_its_way(
    publisher: Publisher, serve: Servers, dist: Path, why: str
) -> None:
    # The server knows from the headers that it will refuse. What it then does not read must not break the connection
    # before the client has its answer: a broken pipe tells nobody that a token is wrong.
    server = serve(config='[server]\nmax-upload = "1 MiB"\n' if why == "413" else "")
    members = wheel_members("large", files={"large/zeros.bin": bytes(32 << 20)})
    wheel = dist / "large-1.0-py3-none-any.whl"
    wheel.write_bytes(zip_bytes(members, compression=zipfile.ZIP_STORED))
    token = "entrepot_0123456789ab_wrong" if why == "401" else server.first_token
    said = publisher.publish(server.legacy, token, wheel).refused()
    assert why in said
    assert ("larger than 1 MiB" if why == "413" else "token is not known") in said


@pytest.mark.parametrize("client", ["twine", "uv"])
def test_all_problems_of_a_hostile_wheel_are_shown_at_once(
    client: str, request: pytest.FixtureRequest, server: Server, dist: Path
) -> None:
    members = {**wheel_members("demo", "1.0", record=False), "../evil.py": b"print('out of here')\n"}
    del members["demo-1.0.dist-info/WHEEL"]
    hostile = dist / "demo-1.0-py3-none-any.whl"
    hostile.write_bytes(zip_bytes(members))
    publisher: Publisher = request.getfixturevalue(client)
    said = publisher.publish(server.legacy, server.first_token, hostile).refused()
    for part in ("400", "../evil.py", "demo-1.0.dist-info/RECORD", "demo-1.0.dist-info/WHEEL"):
        assert part in said
    assert server.files("demo") == {}


def test_uv_with_a_check_url_skips_what_is_there(uv: Uv, server: Server, greeter: Built) -> None:
    publish = ("publish", "--trusted-publishing", "never", "--publish-url", server.legacy)
    check = (*publish, "--check-url", server.simple, "--token", server.first_token, *greeter.files)
    uv.run(*check).ok()
    said = uv.run(*check).ok()
    assert said.count("already exists, skipping") == 2
    assert sum(request.method == "POST" for request in server.requests()) == 2


def test_uv_with_a_check_url_sees_that_the_bytes_differ(uv: Uv, server: Server, dist: Path, tmp_path: Path) -> None:
    server.publish(make_wheel(tmp_path, "demo", "1.0"))
    other = make_wheel(dist, "demo", "1.0", files={"demo/__init__.py": b"changed = True\n"})
    publish = ("publish", "--trusted-publishing", "never", "--publish-url", server.legacy)
    said = uv.run(*publish, "--check-url", server.simple, "--token", server.first_token, other).refused()
    assert "do not match" in said


def test_a_project_is_found_under_every_spelling_of_its_name(uv: Uv, server: Server, dist: Path) -> None:
    uv.publish(server.legacy, server.first_token, make_wheel(dist, "Acme.Pretty_Name", "1.0")).ok()
    moved = server.get("/simple/Acme.Pretty_Name/")
    assert (moved.status, moved.headers["location"]) == (301, "/simple/acme-pretty-name/")
    assert list(server.files("acme-pretty-name")) == ["acme_pretty_name-1.0-py3-none-any.whl"]


def test_the_index_may_be_named_in_the_url(publisher: Publisher, server: Server, dist: Path) -> None:
    publisher.publish(f"{server.url}/private/legacy/", server.first_token, make_sdist(dist)).ok()
    assert list(server.files("demo")) == ["demo-1.0.tar.gz"]
    assert server.get("/private/simple/demo/").status == 200
