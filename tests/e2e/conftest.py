"""Servers, users and packages for the tests end to end. What a test gets here ends with it."""

import os
import shutil
import zipfile
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from packaging.version import Version

from tests.e2e.clients import Installer, Pip, Poetry, Publisher, Shell, Twine, Uv, Venv
from tests.e2e.packages import Built, build, pack_backends
from tests.e2e.processes import BIN
from tests.e2e.servers import Certificate, Server, Servers

HERE = Path(__file__).parent
OLD_PIP = BIN.parent / "oldpip"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.e2e)
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(120))


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Servers]:
    """Starts servers; all are stopped by their ids, and must have ended cleanly."""
    servers = Servers(tmp_path)
    yield servers
    servers.end()


@pytest.fixture
def server(serve: Servers) -> Server:
    """One worker on an empty store."""
    return serve()


@pytest.fixture(scope="module")
def steady(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The same for all tests of a module that leave nothing behind in it."""
    servers = Servers(tmp_path_factory.mktemp("steady"))
    yield servers()
    servers.end()


@pytest.fixture
def dist(tmp_path: Path) -> Path:
    """A folder for the distributions that a test makes."""
    folder = tmp_path / "dist"
    folder.mkdir()
    return folder


# Users and their tools. A tool that is missing skips the test, or fails it with CI=true.


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path / "home")


@pytest.fixture(scope="session")
def newest_pip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The code of the newest pip here: virtualenv carries one, locked with the other requirements."""
    virtualenv = find_spec("virtualenv")
    inside = Path(virtualenv.origin).parent if virtualenv and virtualenv.origin else Path(os.devnull)
    embedded = (inside / "seed" / "wheels" / "embed").glob("pip-*.whl")
    wheels = sorted(embedded, key=lambda wheel: Version(wheel.name.split("-")[1]))
    if not wheels:
        pytest.skip("no pip in virtualenv: run `make test`, which installs it")
    folder = tmp_path_factory.mktemp("pip")
    with zipfile.ZipFile(wheels[-1]) as wheel:
        wheel.extractall(folder)
    return folder


@pytest.fixture
def pip(shell: Shell, newest_pip: Path) -> Pip:
    return Pip(shell, newest_pip)


@pytest.fixture
def old_pip(shell: Shell) -> Pip:
    """pip 22.3, the oldest that we promise to serve."""
    if not (OLD_PIP / "pip").is_dir():
        pytest.skip("pip 22.3 is not in .venv/oldpip: run `make test`, which installs it")
    return Pip(shell, OLD_PIP)


@pytest.fixture
def uv(shell: Shell) -> Uv:
    _require("uv")
    return Uv(shell)


@pytest.fixture
def twine(shell: Shell) -> Twine:
    _require("twine")
    return Twine(shell)


@pytest.fixture
def poetry(shell: Shell) -> Poetry:
    _require("poetry")
    return Poetry(shell)


def _require(tool: str) -> None:
    if not (BIN / tool).exists():
        pytest.skip(f"{tool} is not in {BIN}: run `make test`, which installs it")


@pytest.fixture(params=["pip", "old_pip", "uv"])
def installer(request: pytest.FixtureRequest) -> Installer:
    """Each of the clients that install into an environment."""
    chosen: Installer = request.getfixturevalue(request.param)
    return chosen


@pytest.fixture(params=["twine", "uv", "poetry"])
def publisher(request: pytest.FixtureRequest) -> Publisher:
    """Each of the clients that publish."""
    chosen: Publisher = request.getfixturevalue(request.param)
    return chosen


@pytest.fixture
def new_venv(shell: Shell, tmp_path: Path) -> Callable[[], Venv]:
    """Makes an environment, by uv because it takes no time."""
    _require("uv")
    made: list[Venv] = []

    def make() -> Venv:
        venv = Venv(tmp_path / f"venv-{len(made)}")
        shell.run(BIN / "uv", "venv", "--quiet", venv.folder).ok()
        made.append(venv)
        return venv

    return make


@pytest.fixture
def venv(new_venv: Callable[[], Venv]) -> Venv:
    return new_venv()


@pytest.fixture
def certificate(shell: Shell, tmp_path: Path) -> Certificate:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed: apt-get install openssl")
    made = Certificate(cert=tmp_path / "cert.pem", key=tmp_path / "key.pem")
    subject = ("-subj", "/CN=entrepot test", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost")
    no_authority = ("-addext", "basicConstraints=critical,CA:FALSE")  # uv's TLS is strict about that
    kind = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")
    shell.run("openssl", "req", "-x509", *kind, *subject, *no_authority, "-out", made.cert, "-keyout", made.key).ok()
    return made


# Distributions that real back ends built, once for all tests.


@pytest.fixture(scope="session")
def greeter(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """greeter 1.0: needs `shouter`, with the extra `polite` also `manners`, and has a command `greet`."""
    code = "import shouter\n\n\ndef main() -> None:\n    print(shouter.shout('hello'))\n"
    extra = (
        'dependencies = ["shouter>=1"]\n[project.optional-dependencies]\npolite = ["manners"]\n'
        '[project.scripts]\ngreet = "greeter:main"\n'
    )
    return build(tmp_path_factory.mktemp("greeter"), "greeter", "1.0", code=code, extra=extra)


@pytest.fixture(scope="session")
def shouter(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """shouter 1.2: needs nothing."""
    code = "def shout(text: str) -> str:\n    return text.upper() + '!'\n"
    return build(tmp_path_factory.mktemp("shouter"), "shouter", "1.2", code=code)


@pytest.fixture(scope="session")
def backends(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with hatchling and what it needs, so that sdists can be built from our index alone."""
    return pack_backends(tmp_path_factory.mktemp("backends"))
