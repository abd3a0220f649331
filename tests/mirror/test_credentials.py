"""Who upstream is told that we are, and who is not told."""

from pathlib import Path
from typing import Any

import pytest

from tests.mirror.asking import UNAVAILABLE, ask_page, download, names, path_of
from tests.mirror.conftest import Mirror
from tests.upstream.double import OTHER, Upstream
from tests.upstream.stock import Manner, wheel

SECRET = "a-secret-of-ours"
WHO = f"somebody:{SECRET}"
ITEM = wheel("demo")


def with_netrc(folder: Path) -> dict[str, str]:
    home = folder / "home"
    home.mkdir()
    (home / ".netrc").write_text(f"machine 127.0.0.1 login somebody password {SECRET}\n")
    (home / ".netrc").chmod(0o600)
    return {"HOME": str(home), "NETRC": str(home / ".netrc")}


@pytest.fixture(params=["url", "credentials", "environment", "netrc", "pip"])
def settings(request: pytest.FixtureRequest, upstream: Upstream, tmp_path: Path) -> dict[str, Any]:
    """Each place where they may stand."""
    places: dict[str, dict[str, Any]] = {
        "url": {"url": upstream.url_for(WHO)},
        "credentials": {"credentials": f'"{WHO}"'},
        "environment": {"credentials": '{ env = "OUR_SECRET" }', "env": {"OUR_SECRET": WHO}},
        "pip": {"url": "pip", "credentials": '"pip"', "env": {"PIP_INDEX_URL": upstream.url_for(WHO)}},
    }
    if request.param == "netrc":
        return {"env": with_netrc(tmp_path)}
    return places[request.param]


def test_credentials_are_sent_to_upstream_and_to_nobody_else(
    mirror: Mirror, upstream: Upstream, settings: dict[str, Any]
) -> None:
    far = wheel("far")
    upstream.password = WHO
    upstream.add("demo", ITEM)
    upstream.add("far", far, manner=Manner(base=upstream.other, metadata="none"))
    server = mirror(**settings)
    assert names(server, "demo") == {ITEM.filename}
    assert download(server, "demo", ITEM).body == ITEM.data
    assert {seen.credentials for seen in upstream.asked("*demo*")} == {WHO}
    # The other host wants them too, and must not get them.
    assert names(server, "far") == {far.filename}
    assert server.get(path_of("far", far)).status in UNAVAILABLE
    elsewhere = upstream.asked(host=OTHER)
    assert elsewhere
    assert {seen.headers.get("authorization", "") for seen in elsewhere} == {""}
    assert SECRET not in server.said()
    assert SECRET not in ask_page(server, "demo").text


def test_a_redirect_to_another_host_takes_no_credentials_along(mirror: Mirror, upstream: Upstream) -> None:
    upstream.add("demo", ITEM)
    server = mirror(url=upstream.url_for(WHO), prefetch="0")
    assert names(server, "demo")
    upstream.fault(path_of("demo", ITEM), redirect=f"{upstream.other}/files/demo/elsewhere")
    assert server.get(path_of("demo", ITEM)).status != 404
    assert {seen.credentials for seen in upstream.asked(host=OTHER)} <= {""}


def test_credentials_that_are_refused_are_a_failure_of_ours_and_not_of_the_client(
    mirror: Mirror, upstream: Upstream
) -> None:
    upstream.password = "another:one"
    upstream.add("demo", ITEM)
    server = mirror(url=upstream.url_for(WHO))
    answer = ask_page(server, "demo")
    assert answer.status in UNAVAILABLE
    assert "www-authenticate" not in answer.headers
    assert SECRET not in server.said() + answer.text


def test_what_pip_is_configured_for_is_mirrored_without_its_credentials(
    mirror: Mirror, upstream: Upstream, tmp_path: Path
) -> None:
    upstream.add("demo", ITEM)
    configuration = tmp_path / "pip.conf"
    configuration.write_text(f"[global]\nindex-url = {upstream.url_for(WHO)}\n")
    server = mirror(url="pip", env={"PIP_CONFIG_FILE": str(configuration)})
    assert names(server, "demo") == {ITEM.filename}
    assert {seen.credentials for seen in upstream.asked()} == {""}


def test_a_clients_credentials_are_not_passed_on(mirror: Mirror, upstream: Upstream) -> None:
    upstream.add("demo", ITEM)
    server = mirror()
    answer = server.get("/simple/demo/", {"Authorization": f"Bearer {server.first_token}", "Cookie": "a=b"})
    assert answer.status == 200
    for seen in upstream.asked():
        assert {"authorization", "cookie"}.isdisjoint(seen.headers)
