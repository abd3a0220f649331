"""`entrepot mirror`: what files name is kept here, by the real command against a real upstream."""

import json
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import ENTREPOT, Ran
from tests.e2e.processes import clean_environment, until
from tests.e2e.servers import Servers
from tests.mirror.conftest import CONFIG, NO_PROXY
from tests.upstream.double import Upstream
from tests.upstream.stock import Manner, sdist, wheel

LINUX, WINDOWS = "cp312-cp312-manylinux_2_17_x86_64", "cp312-cp312-win_amd64"


class Mirroring:
    """A folder with a configuration, in which the command runs."""

    def __init__(self, folder: Path, upstream: Upstream) -> None:
        self.folder = folder
        self.upstream = upstream
        self.config = CONFIG.format(url=upstream.url, more='private-addresses = true\ntimeout = "2 s"\n')

    def __call__(self, *words: str, env: Mapping[str, str] | None = None) -> Ran:
        (self.folder / "entrepot.toml").write_text(self.config)
        done = subprocess.run(
            [ENTREPOT, "mirror", *words, "--data", self.folder / "data"], cwd=self.folder, capture_output=True, text=True,
            timeout=100, check=False, stdin=subprocess.DEVNULL, env={**clean_environment(), **NO_PROXY, **(env or {})},
        )  # fmt: skip
        return Ran(done.returncode, done.stdout, done.stderr)

    def write(self, **files: str) -> None:
        for name, text in files.items():
            (self.folder / f"{name}.txt").write_text(text)

    def cached(self, *words: str, **more: Any) -> list[str]:
        """All must be well."""
        told = self(*words, "--json", **more).json()
        assert (told["failed"], told["unparseable"]) == ([], [])
        return sorted(told["cached"])

    def failed(self, *words: str) -> dict[str, Any]:
        ran = self(*words, "--json")
        assert ran.code == 1, ran
        told: dict[str, Any] = json.loads(ran.out)
        return told

    def served(self) -> list[str]:
        """The files that upstream gave, whole."""
        return sorted(
            {
                seen.path.rpartition("/")[2]
                for seen in self.upstream.asked("/files/*")
                if seen.status == 200 and not seen.path.endswith(".metadata")
            }
        )


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[Mirroring]:
    with Upstream() as upstream:
        upstream.add("alpha", wheel("alpha"), sdist("alpha"), wheel("alpha", "1.1"), wheel("alpha", "2.0a1"))
        upstream.add("beta", wheel("beta", "2.0", tags=LINUX), wheel("beta", "2.0", tags=WINDOWS), sdist("beta", "2.0"))
        upstream.add("gamma", wheel("gamma", requires=("beta>=2", "alpha<2; sys_platform == 'win32'")))
        yield Mirroring(tmp_path, upstream)


ALPHA = ["alpha-1.0-py3-none-any.whl", "alpha-1.0.tar.gz"]
BETA = [f"beta-2.0-{LINUX}.whl", f"beta-2.0-{WINDOWS}.whl", "beta-2.0.tar.gz"]


def test_every_file_of_the_chosen_versions_is_kept(mirror: Mirroring) -> None:
    mirror.write(r="alpha==1.0\n-r more.txt\n-c c.txt\n", more="beta", c="beta<3")
    assert mirror.cached("r.txt") == sorted([*ALPHA, *BETA])
    assert mirror.served() == sorted([*ALPHA, *BETA])


def test_a_second_run_fetches_nothing(mirror: Mirroring) -> None:
    mirror.write(r="alpha==1.0")
    mirror.cached("r.txt")
    mirror.upstream.forget()
    assert mirror.cached("r.txt") == ALPHA
    assert mirror.served() == []


def test_what_is_kept_is_served_without_the_network(mirror: Mirroring, tmp_path: Path) -> None:
    mirror.write(r="alpha==1.0")
    mirror.cached("r.txt")
    mirror.upstream.go_away()
    servers = Servers(tmp_path)
    server = servers(data=tmp_path / "data", config=mirror.config, args=["--offline"])
    assert sorted(server.files("alpha")) == ALPHA
    assert server.download("alpha", ALPHA[0]) == wheel("alpha").data
    servers.end()
    mirror.upstream.come_back()


def test_only_what_a_python_on_a_platform_installs(mirror: Mirroring) -> None:
    mirror.write(r="beta\nalpha==1.0")
    environment = ("--python", "3.12", "--platform")
    assert mirror.cached("r.txt", *environment, "linux") == [ALPHA[0], BETA[0]]
    assert mirror.cached("r.txt", *environment, "linux", "--platform", "win_amd64") == [ALPHA[0], *BETA[:2]]
    assert mirror.cached("r.txt", *environment, "macos") == [ALPHA[0], BETA[2]]


def test_a_marker_that_holds_nowhere_leaves_its_line_out(mirror: Mirroring) -> None:
    mirror.write(r="alpha==1.0 ; sys_platform == 'win32'\nbeta")
    assert mirror.cached("r.txt", "--python", "3.12", "--platform", "linux") == [BETA[0]]


@pytest.mark.parametrize("words", [("--pre", "r.txt"), ("r.txt", "pre.txt")])
def test_pre_releases_if_asked_for(mirror: Mirroring, words: tuple[str, ...]) -> None:
    mirror.write(r="alpha", pre="--pre")
    assert mirror.cached("r.txt") == ["alpha-1.1-py3-none-any.whl"]
    assert mirror.cached(*words) == ["alpha-2.0a1-py3-none-any.whl"]


def test_whole_projects(mirror: Mirroring) -> None:
    assert len(mirror.cached("--all-of", "Alpha", "--all-of", "beta")) == 7


def test_a_lock_means_its_very_files_and_they_are_pinned(mirror: Mirroring) -> None:
    file = wheel("alpha")
    entry = f'url = "https://files.example/{file.filename}", hashes = {{ sha256 = "{file.sha256}" }}'
    lock = f'lock-version = "1.0"\ncreated-by = "x"\n[[packages]]\nname = "alpha"\nversion = "1.0"\nwheels = [{{ {entry} }}]\n'
    (mirror.folder / "pylock.toml").write_text(lock)
    assert mirror.cached("pylock.toml") == [file.filename]
    assert mirror.served() == [file.filename]
    pins = [
        path
        for path in (mirror.folder / "data" / "store" / "upstream").rglob("*.json")
        if b'"pinned"' in path.read_bytes()
    ]
    assert [file.filename in path.read_text() for path in pins] == [True]
    (mirror.folder / "pylock.toml").write_text(lock.replace(file.sha256, "0" * 64))
    assert "another hash" in mirror.failed("pylock.toml")["failed"][0]["why"][0]


def test_the_lock_that_uv_writes(mirror: Mirroring) -> None:
    file = wheel("alpha")
    (mirror.folder / "uv.lock").write_text(
        'version = 1\nrevision = 3\n[[package]]\nname = "mine"\nversion = "0"\nsource = { virtual = "." }\n'
        '[[package]]\nname = "alpha"\nversion = "1.0"\nsource = { registry = "https://index.example/simple" }\n'
        f'wheels = [{{ url = "https://files.example/{file.filename}", hash = "sha256:{file.sha256}" }}]\n'
    )
    assert mirror.cached("uv.lock") == [file.filename]


def test_a_hash_is_checked_also_where_upstream_tells_none(mirror: Mirroring) -> None:
    mirror.upstream.add("bare", sdist("bare"), manner=Manner(hashes=()))
    mirror.write(right=f"bare==1.0 --hash=sha256:{sdist('bare').sha256}", wrong=f"bare==1.0 --hash=sha256:{'0' * 64}")
    assert mirror.cached("right.txt") == ["bare-1.0.tar.gz"]
    assert "a hash that is named" in mirror.failed("wrong.txt")["failed"][0]["why"][0]


# What goes wrong.


def test_what_cannot_be_had_is_told_and_the_rest_is_kept(mirror: Mirroring) -> None:
    mirror.write(r="alpha==1.0\nnobody\nalpha==7\nbeta\n./x.whl\n-i https://evil.example\n")
    mirror.upstream.fault(f"/files/beta/{BETA[0]}", status=500)
    ran = mirror("r.txt")
    assert ran.code == 1
    assert ran.out.splitlines()[-1] == "4 files are kept here, 4 faults"
    assert "failed: nobody: no project nobody" in ran.err
    assert "r.txt:3: no file of alpha fits 'alpha==7'" in ran.err
    assert "not understood: r.txt:5: './x.whl': it is a URL or a path" in ran.err
    assert "note: r.txt:6: '-i https://evil.example' is passed over" in ran.err


def test_a_table_tells_what_became_of_each(mirror: Mirroring) -> None:
    mirror.write(r="alpha==1.0\nbeta")
    lines = [line.split() for line in mirror("r.txt").ok().splitlines()]
    assert lines == [
        ["requirement", "kept", "failed"],
        ["alpha==1.0", "2"],
        ["beta", "3"],
        ["5", "files", "are", "kept", "here"],
    ]


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("gone.txt",), "error: gone.txt: cannot be read: No such file or directory"),
        (("r.txt", "--python", "2.7"), "error: --python: '2.7' is no version of Python 3"),
        (("r.txt", "--platform", "amiga"), "error: --platform: 'amiga' is no platform"),
        (("r.txt", "--index", "private"), "error: --index: index 'private' mirrors nothing (mirrors are: upstream)"),
        (("r.txt", "--index", "nowhere"), "error: --index: no index 'nowhere'"),
        (("--all-of", "-x-"), "error: --all-of: '-x-' is no project name"),
    ],
)
def test_an_order_that_makes_no_sense_is_an_error(mirror: Mirroring, words: tuple[str, ...], why: str) -> None:
    mirror.write(r="alpha")
    ran = mirror(*words)
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith(why)


def test_without_anything_to_keep_the_command_line_is_wrong(mirror: Mirroring) -> None:
    assert mirror().code == 2


def test_a_private_name_is_not_asked_upstream(mirror: Mirroring, tmp_path: Path) -> None:
    mirror.config += 'own = ["acme-*"]\n'
    mirror.write(r="acme-tools")
    [why] = mirror.failed("r.txt")["failed"][0]["why"]
    assert "there are no files" in why
    assert mirror.upstream.asked("*acme*") == []


# Dependencies.

RESOLVED = ("--with-dependencies", "--python", "3.12", "--platform", "linux")


def test_dependencies_are_resolved_with_ourselves_as_the_only_index(mirror: Mirroring) -> None:
    mirror.write(r="gamma\n-i http://127.0.0.1:9/simple\n")
    evil = {"UV_INDEX_URL": "http://127.0.0.1:9/simple", "UV_EXTRA_INDEX_URL": "http://127.0.0.1:9/simple"}
    assert mirror.cached("r.txt", *RESOLVED, env=evil) == [BETA[0], "gamma-1.0-py3-none-any.whl"]
    found = mirror.cached("r.txt", *RESOLVED, "--platform", "windows")
    assert found == ["alpha-1.1-py3-none-any.whl", *BETA[:2], "gamma-1.0-py3-none-any.whl"]


def test_dependencies_of_a_guarded_index(mirror: Mirroring) -> None:
    mirror.config = '[access]\nread = "token"\n' + mirror.config
    mirror.write(r="gamma")
    assert "gamma-1.0-py3-none-any.whl" in mirror.cached("r.txt", *RESOLVED)
    tokens = json.loads((mirror.folder / "data" / "store" / "access" / "tokens.json").read_text())["tokens"]
    assert tokens == []


def test_a_sdist_is_never_built_to_learn_what_it_needs(mirror: Mirroring) -> None:
    mirror.upstream.add("source", sdist("source"))
    mirror.write(r="source")
    ran = mirror("r.txt", "--with-dependencies")
    assert ran.code == 1
    assert "cannot be resolved" in ran.err
    assert "never built" in ran.err


def test_without_uv_it_says_so(mirror: Mirroring, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from entrepot.cli import resolving
    from entrepot.errors import Unavailable

    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unavailable, match="uv is not installed"):
        resolving._uv()


def test_no_server_is_left_behind(mirror: Mirroring, processes: Callable[[], set[str]]) -> None:
    mirror.write(r="gamma")
    mirror.cached("r.txt", *RESOLVED)
    until(lambda: not [line for line in processes() if str(mirror.folder) in line], what="an end of all processes")


@pytest.fixture
def processes() -> Callable[[], set[str]]:
    def running() -> set[str]:
        found = set()
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                found.add(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
            except OSError:
                continue
        return found

    return running
