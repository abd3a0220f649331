"""pip, uv and poetry install through a mirror what they never asked upstream for, and go on without it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.distributions.build import make_wheel, zip_bytes
from tests.e2e.clients import Installer, Pip, Shell, Uv, Venv
from tests.e2e.packages import Built
from tests.e2e.processes import until
from tests.e2e.servers import Server, Servers
from tests.upstream.double import Upstream
from tests.upstream.stock import Item, Manner, of_file, sdist, wheel

CONFIG = """
[index.private]
type = "hosted"
[index.upstream]
type = "mirror"
url = "{url}"
private-addresses = true
timeout = "2 s"
ttl = "{ttl}"
[index.root]
type = "virtual"
of = ["private", "upstream"]
"""
KINDS = {
    "json": Manner(),
    "html": Manner(json=False),
    "bare": Manner(json=False, metadata="none", times=False),
    "no ranges": Manner(metadata="none", ranges="ignored", head=False),
    "wrong metadata": Manner(metadata="wrong"),
    "lost metadata": Manner(metadata="lost"),
}


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as upstream:
        yield upstream


@pytest.fixture
def mirror(serve: Servers, upstream: Upstream) -> Callable[[], Server]:
    return lambda: serve(config=CONFIG.format(url=upstream.url, ttl="0 s"))


Mirror = Callable[[], Server]


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_installed_once_is_installed_again_without_upstream(
    installer: Installer, shell: Shell, new_venv: Callable[[], Venv], mirror: Mirror, upstream: Upstream,
    greeter: Built, shouter: Built, kind: str,
) -> None:  # fmt: skip
    upstream.manner = KINDS[kind]
    upstream.add("greeter", of_file(greeter.wheel), of_file(greeter.sdist))
    upstream.add("shouter", of_file(shouter.wheel), wheel("shouter", "0.9"))
    server = mirror()
    for _ in range(2):
        venv = new_venv()
        installer.install(venv, server.simple, "--no-cache-dir", "greeter").ok()
        assert venv.has() == {"greeter": "1.0", "shouter": "1.2"}
        assert shell.run(venv.folder / "bin" / "greet").ok() == "HELLO!\n"
        upstream.go_away()


def test_a_private_project_needs_public_ones(
    installer: Installer, venv: Venv, mirror: Mirror, upstream: Upstream, dist: Path
) -> None:
    upstream.add("public", wheel("public", "3.0"))
    server = mirror()
    server.publish(make_wheel(dist, "acme-app", "1.0", requires=["public>=2"]))
    installer.install(venv, server.simple, "acme-app").ok()
    assert venv.has() == {"acme_app": "1.0", "public": "3.0"}


@pytest.mark.parametrize("metadata", ["right", "none"])
def test_a_lock_needs_no_wheel(uv: Uv, mirror: Mirror, upstream: Upstream, tmp_path: Path, metadata: str) -> None:
    upstream.manner.metadata = metadata  # type: ignore[assignment]
    upstream.add("app", wheel("app", size=4_000_000, requires=["lib>=1"]))
    upstream.add("lib", *(wheel("lib", f"{number}.0", size=4_000_000) for number in range(1, 4)))
    server = mirror()
    wishes = tmp_path / "requirements.in"
    wishes.write_text("app\n")
    said = uv.run("pip", "compile", "--default-index", server.simple, wishes).ok()
    assert "lib==3.0" in said
    upstream.quiet()
    assert sum(seen.sent for seen in upstream.asked("/files/*")) < 2_000_000


def test_upload_times_reach_the_clients(uv: Uv, pip: Pip, venv: Venv, mirror: Mirror, upstream: Upstream) -> None:
    upstream.add("demo", wheel("demo", "1.0"))
    server = mirror()
    uv.install(venv, server.simple, "--exclude-newer", "2024-01-01T00:00:00Z", "demo").refused()
    uv.install(venv, server.simple, "--exclude-newer", "2024-03-01T00:00:00Z", "demo").ok()
    pip.install(
        venv, server.simple, "--ignore-installed", "--uploaded-prior-to", "2024-01-01T00:00:00Z", "demo"
    ).refused()
    pip.install(venv, server.simple, "--ignore-installed", "--uploaded-prior-to", "2024-03-01T00:00:00Z", "demo").ok()


def test_a_newest_wheel_without_metadata_is_passed_over(
    installer: Installer, venv: Venv, mirror: Mirror, upstream: Upstream
) -> None:
    upstream.manner.metadata = "none"
    broken = Item(
        filename="demo-2.0-py3-none-any.whl",
        version="2.0",
        data=zip_bytes({"demo/__init__.py": b"", "demo-2.0.dist-info/WHEEL": b"Wheel-Version: 1.0\n"}),
    )
    upstream.add("demo", wheel("demo", "1.0"), broken)
    server = mirror()
    # Who comes first may learn of it with us.
    installer.install(venv, server.simple, "demo")
    until(lambda: list(server.files("demo")) == ["demo-1.0-py3-none-any.whl"], what="a page without it")
    installer.install(venv, server.simple, "demo").ok()
    assert venv.has() == {"demo": "1.0"}


def test_an_sdist_comes_through(uv: Uv, mirror: Mirror, upstream: Upstream, tmp_path: Path) -> None:
    item = sdist("demo", files={"pyproject.toml": b"", "setup.py": b""})
    upstream.add("demo", item)
    server = mirror()
    assert server.download("demo", item.filename) == item.data


def test_an_upstream_that_is_down_is_an_error_and_not_an_unknown_project(
    installer: Installer, venv: Venv, mirror: Mirror, upstream: Upstream
) -> None:
    server = mirror()
    upstream.go_away()
    installer.install(venv, server.simple, "demo").refused()
    assert {request.status for request in server.requests() if request.path.startswith("/simple/demo")} <= {
        502,
        503,
        504,
    }
