"""A private name is never answered from upstream, whatever became of its files: real pip and uv, and a trap upstream."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.distributions.build import make_wheel
from tests.e2e import raw
from tests.e2e.clients import Installer, Venv
from tests.e2e.processes import until
from tests.e2e.servers import Server, Servers
from tests.upstream.double import Upstream
from tests.upstream.stock import Item, wheel

NAME = "acme-secret"
MINE = {"acme_secret": "1.0"}
TRAP: Item = wheel(NAME, "99.0")
UPSTREAM = """
[index.upstream]
type = "mirror"
url = "{url}"
private-addresses = true
ttl = "0 s"
"""
HOSTED = """
[index.private]
type = "hosted"
[index.root]
type = "virtual"
of = ["private", "upstream"]
"""
STORED = """
[access]
store = "data"
[store.main]
url = "{store}"
[index.private]
type = "hosted"
store = "main"
[index.root]
type = "virtual"
of = ["private", "upstream"]
"""
FOLDER = """
[index.wheels]
type = "folder"
path = "{folder}"
[index.root]
type = "virtual"
of = ["wheels", "upstream"]
"""


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    """It has a newer version of the private name, and a public project."""
    with Upstream() as upstream:
        upstream.add(NAME, TRAP)
        upstream.add("public", wheel("public"))
        yield upstream


@pytest.fixture(params=["pip", "uv"])
def installer(request: pytest.FixtureRequest) -> Installer:
    chosen: Installer = request.getfixturevalue(request.param)
    return chosen


class Nothing:
    """What must hold after all of it: nobody got the trap, and upstream did not hear the name."""

    def __init__(self, installer: Installer, venv: Venv, upstream: Upstream) -> None:
        self.installer, self.venv, self.upstream = installer, venv, upstream

    def comes(self, server: Server, *, or_mine: bool = False) -> None:
        for wish in (NAME, f"{NAME}>=2", "Acme_Secret==99.0"):
            ran = self.installer.install(self.venv, server.simple, wish)
            has = self.venv.has()
            assert has in ([{}, MINE] if or_mine and wish == NAME else [{}]), ran.said
            if has:
                shutil.rmtree(next((self.venv.folder / "lib").glob("python*/site-packages/acme_secret-1.0.dist-info")))
        for spelled in (NAME, "Acme_Secret", "acme.secret"):
            answer = server.get(f"/files/{spelled}/{TRAP.filename}")
            assert answer.status >= 300, answer
            assert server.get(f"/files/{spelled}/{TRAP.filename}.metadata").status >= 300
            page = server.get(f"/simple/{spelled}/", {"Accept": raw.JSON})
            assert TRAP.filename not in page.text
        heard = [seen.path for seen in self.upstream.asked() if "acme" in seen.path.lower()]
        assert heard == []
        # And it is no dead server of which all this is true.
        assert self.upstream.asked("/simple/public/") == []
        assert server.get("/simple/public/").status == 200


@pytest.fixture
def nothing(installer: Installer, venv: Venv, upstream: Upstream) -> Nothing:
    return Nothing(installer, venv, upstream)


def published(serve: Servers, upstream: Upstream, dist: Path, config: str = HOSTED) -> Server:
    server = serve(config=UPSTREAM.format(url=upstream.url) + config)
    server.publish(make_wheel(dist, NAME, "1.0"))
    upstream.quiet()
    upstream.forget()  # publishing may have asked whether upstream knows the name
    return server


def test_a_private_project_is_the_only_one(nothing: Nothing, serve: Servers, upstream: Upstream, dist: Path) -> None:
    server = published(serve, upstream, dist)
    nothing.installer.install(nothing.venv, server.simple, NAME).ok()
    assert nothing.venv.has() == MINE
    shutil.rmtree(next((nothing.venv.folder / "lib").glob("python*/site-packages/acme_secret-1.0.dist-info")))
    nothing.comes(server, or_mine=True)


@pytest.mark.parametrize("restarted", [False, True], ids=["running", "restarted"])
def test_a_private_project_was_deleted(
    nothing: Nothing, serve: Servers, upstream: Upstream, dist: Path, restarted: bool
) -> None:
    server = published(serve, upstream, dist)
    server.command("delete", NAME, "--index", "private", "--yes")
    if restarted:
        server.stop()
        server.start()
    nothing.comes(server)


def test_a_private_project_was_yanked(nothing: Nothing, serve: Servers, upstream: Upstream, dist: Path) -> None:
    server = published(serve, upstream, dist)
    server.command("yank", NAME, "--index", "private")
    nothing.comes(server, or_mine=True)


def test_a_private_project_is_quarantined(nothing: Nothing, serve: Servers, upstream: Upstream, dist: Path) -> None:
    server = published(serve, upstream, dist)
    server.command("status", NAME, "quarantined", "--index", "private")
    nothing.comes(server)


def test_a_private_project_is_denied(nothing: Nothing, serve: Servers, upstream: Upstream, dist: Path) -> None:
    rules = 'rules = [ { deny = "acme-*" } ]\nrules-for = "all"\n'
    server = published(serve, upstream, dist, HOSTED + rules)
    nothing.comes(server)


def test_the_record_of_a_private_project_is_broken(
    nothing: Nothing, serve: Servers, upstream: Upstream, dist: Path
) -> None:
    server = published(serve, upstream, dist)
    record = server.data / "store" / "private" / "projects" / f"{NAME}.json"
    record.write_bytes(record.read_bytes()[:30])
    nothing.comes(server)


@pytest.mark.parametrize("which", ["default", "named"])
def test_the_data_of_a_private_index_is_not_mounted(
    nothing: Nothing, serve: Servers, upstream: Upstream, dist: Path, tmp_path: Path, which: str
) -> None:
    store = tmp_path / "disk"
    if which == "named":
        config = UPSTREAM.format(url=upstream.url) + STORED.format(store=store)
        first = serve(config=config, args=("--create",))
        first.publish(make_wheel(dist, NAME, "1.0"))
        server = first
    else:
        server = published(serve, upstream, dist)
        store = server.data / "store"
    upstream.quiet()
    upstream.forget()
    assert server.get(f"/simple/{NAME}/").status == 200
    store.rename(tmp_path / "unplugged")
    store.mkdir()  # the empty mount point
    for wish in (NAME, f"{NAME}>=2"):
        nothing.installer.install(nothing.venv, server.simple, wish).refused()
    assert nothing.venv.has() == {}
    assert [seen.path for seen in upstream.asked() if "acme" in seen.path] == []
    server.kill()
    shutil.rmtree(store)
    (tmp_path / "unplugged").rename(store)


def test_a_server_does_not_start_over_an_empty_mount_point(
    serve: Servers, upstream: Upstream, dist: Path, tmp_path: Path
) -> None:
    store = tmp_path / "disk"
    config = UPSTREAM.format(url=upstream.url) + STORED.format(store=store)
    server = serve(config=config, args=("--create",))
    server.publish(make_wheel(dist, NAME, "1.0"))
    server.stop()
    store.rename(tmp_path / "unplugged")
    store.mkdir()
    again = serve.prepare(type(server.options)(data=server.data, config=config))
    assert str(store) in again.start_in_vain()


@pytest.mark.parametrize("how", ["emptied", "gone"])
@pytest.mark.parametrize("restarted", [False, True], ids=["running", "restarted"])
def test_a_folder_lost_its_files(
    nothing: Nothing, serve: Servers, upstream: Upstream, dist: Path, how: str, restarted: bool
) -> None:
    make_wheel(dist, NAME, "1.0")
    server = serve(config=UPSTREAM.format(url=upstream.url) + FOLDER.format(folder=dist))
    assert server.files(NAME)
    for file in dist.iterdir():
        file.unlink()
    if how == "gone":
        dist.rmdir()
    if restarted:
        server.stop()
        server.start()
    until(lambda: not server.files(NAME), what="the loss to be noticed")
    nothing.comes(server)


def test_a_name_of_our_own_before_its_first_upload(
    nothing: Nothing, serve: Servers, upstream: Upstream, dist: Path
) -> None:
    server = serve(config=f'{UPSTREAM.format(url=upstream.url)}{HOSTED}own = ["acme-*"]\n')
    nothing.comes(server)


def test_a_token_without_more_rights_cannot_take_over_a_public_name(
    serve: Servers, upstream: Upstream, dist: Path
) -> None:
    server = serve(config=UPSTREAM.format(url=upstream.url) + HOSTED)
    token = server.token("upload", name="ci")
    file = make_wheel(dist, "public", "100.0")
    assert server.upload(raw.Form(file.name, file), token=token).status == 403
    new = make_wheel(dist, "unheard-of", "1.0")
    assert server.upload(raw.Form(new.name, new), token=token).status == 200
    with upstream.away():
        other = make_wheel(dist, "not-asked-for", "1.0")
        assert server.upload(raw.Form(other.name, other), token=token).status == 403
