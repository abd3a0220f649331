"""From real pypiserver, devpi and another entrepot into a hosted index; and stores copied, cut, and served from."""

import hashlib
import itertools
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.distributions.build import make_sdist, make_wheel
from tests.e2e import raw
from tests.e2e.clients import Installer, Shell, Venv
from tests.e2e.others import Devpi, Pypiserver, devpi, pypiserver
from tests.e2e.packages import Built
from tests.e2e.processes import BIN, clean_environment, until
from tests.e2e.raw import JSON
from tests.e2e.servers import PLAIN, Server, Servers
from tests.e2e.test_crashes import Uploading

OLD = datetime(2019, 5, 6, 7, 8, 9, tzinfo=UTC)
MANY = 150


@pytest.fixture(scope="session")
def pypi_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pypiserver]:
    with pypiserver(tmp_path_factory.mktemp("pypiserver")) as server:
        yield server


@pytest.fixture(scope="session")
def devpi_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Devpi]:
    with devpi(tmp_path_factory.mktemp("devpi")) as server:
        yield server


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Of commands without a server."""
    file = tmp_path / "plain.toml"
    file.write_text(PLAIN)
    return file


@pytest.fixture
def entrepot(tmp_path: Path, config: Path) -> Callable[..., Any]:
    """Run a command and read its JSON; `code` is what it must end with."""

    def running(*words: str | Path, code: int = 0) -> Any:
        done = subprocess.run(
            [BIN / "entrepot", *words, "--config", config, "--json"], capture_output=True, text=True, timeout=100,
            check=False, stdin=subprocess.DEVNULL, cwd=tmp_path, env=clean_environment(),
        )  # fmt: skip
        assert done.returncode == code, done.stdout + done.stderr
        return json.loads(done.stdout)

    return running


def pages(server: Server, project: str) -> dict[str, dict[str, Any]]:
    """The files of a page by name."""
    answer = server.get(f"/simple/{project}/", {"Accept": JSON})
    return {file["filename"]: file for file in answer.json()["files"]}


def aged(path: Path) -> None:
    os.utime(path, (OLD.timestamp(), OLD.timestamp()))


# Imports


def test_a_pypiserver_is_imported_beside_a_running_server_and_pip_and_uv_install_from_it(
    installer: Installer, venv: Venv, server: Server, pypi_server: Pypiserver, shouter: Built, greeter: Built
) -> None:
    for built in (*shouter.files, greeter.wheel):
        shutil.copy(built, pypi_server.folder)
        aged(pypi_server.folder / built.name)
    told = json.loads(server.command("import", pypi_server.url, "--to", "private", "--by", "moved", "--json"))
    assert (len(told["imported"]), told["troubles"]) == (3, [])
    file = pages(server, "shouter")[shouter.wheel.name]
    assert file["upload-time"] == "2019-05-06T07:08:09.000000Z"
    assert file["hashes"]["sha256"] == hashlib.sha256(shouter.wheel.read_bytes()).hexdigest()
    installer.install(venv, server.simple, "greeter").ok()
    assert venv.has() == {"greeter": "1.0", "shouter": "1.2"}
    again = json.loads(server.command("import", f"{pypi_server.url}simple/", "--json"))
    assert (again["imported"], again["present"]) == ([], 3)
    server.command("check")


def test_a_devpi_index_is_imported_without_what_it_inherits(
    shell: Shell, server: Server, devpi_server: Devpi, dist: Path, entrepot: Callable[..., Any], tmp_path: Path
) -> None:
    base, dev = devpi_server.index("base"), devpi_server.index("dev", bases="team/base")
    devpi_server.upload(shell, base, make_wheel(dist, "public", "1.0"), make_wheel(dist, "acme", "0.9"))
    devpi_server.upload(shell, dev, make_wheel(dist, "acme", "1.0"), make_sdist(dist, "acme", "1.0"))
    began = datetime.now(UTC)
    told = json.loads(server.command("import", dev, "--json"))
    assert sorted(told["imported"]) == ["acme-1.0-py3-none-any.whl", "acme-1.0.tar.gz"]
    assert told["troubles"] == []
    for file in pages(server, "acme").values():
        assert datetime.fromisoformat(file["upload-time"]) <= began  # devpi's, not ours
    whole = entrepot("import", f"{base}+simple/", "--data", tmp_path / "whole")
    assert sorted(whole["imported"]) == ["acme-0.9-py3-none-any.whl", "public-1.0-py3-none-any.whl"]
    server.command("check")


def test_another_entrepot_is_imported_with_exact_times_and_yanks_and_a_token(serve: Servers, dist: Path) -> None:
    guarded = PLAIN.replace("[index.root]\n", '[index.root]\nread = "token"\n')
    one, other = serve(config=guarded), serve()
    one.publish(make_wheel(dist, "demo", "1.0"), make_wheel(dist, "demo", "2.0"))
    one.command("yank", "demo==1.0", "--reason", "old")
    token = one.token("read")
    other.command("import", one.simple, code=1)
    told = json.loads(other.command("import", one.simple_for(token), "--json"))
    assert len(told["imported"]) == 2
    here, there = (
        pages(other, "demo"),
        one.get("/simple/demo/", {"Accept": JSON, "Authorization": raw.basic(token)}).json(),
    )
    for file in there["files"]:
        same = here[file["filename"]]
        assert (same["upload-time"], same["hashes"], same["yanked"]) == (
            file["upload-time"], file["hashes"], file["yanked"],
        )  # fmt: skip


def test_an_import_that_is_killed_goes_on_with_the_next_run(
    serve: Servers, dist: Path, tmp_path: Path, entrepot: Callable[..., Any]
) -> None:
    old = tmp_path / "old"
    old.mkdir()
    for number in range(MANY):
        make_sdist(old, "demo", f"1.{number}", files={"noise.bin": os.urandom(50_000)})
    source, data = serve(old), tmp_path / "new"
    command = ("import", source.simple, "-j", "2", "--data", data)
    with killed(tmp_path, *command, when=lambda: blobs(data) > MANY // 5):
        pass
    first = blobs(data)
    assert MANY // 5 < first < MANY
    entrepot("check", "--data", data)
    told = entrepot(*command)
    assert (len(told["imported"]) + told["present"], told["troubles"]) == (MANY, [])
    assert told["present"] >= first - 3
    entrepot("check", "--data", data)


# Copies


def blobs(data: Path) -> int:
    """How many files are in a store."""
    return sum(1 for _ in (data / "store").glob("*/blobs/*/*/*"))


@contextmanager
def killed(folder: Path, *command: str | Path, when: Callable[[], bool]) -> Iterator[None]:
    """A command that is killed as soon as something is so."""
    (folder / "entrepot.toml").write_text(PLAIN)
    process = subprocess.Popen(
        [BIN / "entrepot", *command], cwd=folder, env=clean_environment(), stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        until(when, within=60, what="enough of it")
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(10)
    assert process.returncode == -signal.SIGKILL, "it was over before it was killed"
    yield


def contents(data: Path) -> dict[str, bytes]:
    """All objects of a store but its own identity and workplaces."""
    store = data / "store"
    return {
        str(path.relative_to(store)): path.read_bytes()
        for path in store.rglob("*")
        if path.is_file() and path.relative_to(store).parts[0] not in {"entrepot.json", "locks", "staging", "trash"}
    }


def test_a_copy_is_served_and_pip_and_uv_install_from_it(
    installer: Installer, venv: Venv, serve: Servers, server: Server, shouter: Built, greeter: Built, tmp_path: Path
) -> None:
    server.publish(*shouter.files, *greeter.files)
    told = json.loads(server.command("copy", "data", str(tmp_path / "backup"), "--json"))
    assert (told["begun"], told["troubles"]) == (True, [])
    assert contents(tmp_path / "backup") == contents(server.data)
    server.stop()
    restored = serve(data=tmp_path / "backup")
    restored.command("check")
    installer.install(venv, restored.simple, "greeter").ok()
    assert venv.has() == {"greeter": "1.0", "shouter": "1.2"}
    # The tokens came along.
    token = server.first_token
    (tmp_path / "backup" / "first-token").write_text(token)
    restored.publish(shouter.wheel)


def test_a_copy_that_is_killed_leaves_a_sound_store_and_goes_on(
    serve: Servers, tmp_path: Path, entrepot: Callable[..., Any]
) -> None:
    old, data, backup = tmp_path / "old", tmp_path / "data", tmp_path / "backup"
    old.mkdir()
    for number in range(MANY):
        make_sdist(old, f"p{number % 7}", f"1.{number}", files={"noise.bin": os.urandom(50_000)})
    entrepot("import", old, "--data", data)
    for part in (5, 2):
        with killed(tmp_path, "copy", data, backup, "-j", "1", when=lambda: blobs(backup) > MANY // part):  # noqa: B023
            pass
        assert blobs(backup) < MANY
        assert entrepot("check", "--data", backup)["sound"]
    told = entrepot("copy", data, backup)
    assert told["copied"]["objects"] < MANY // 2
    assert contents(backup) == contents(data)
    assert entrepot("check", "--data", backup)["sound"]


def test_copies_beside_uploads_are_sound_and_the_last_one_is_complete(serve: Servers, tmp_path: Path) -> None:
    server, backup = serve(workers=2), tmp_path / "backup"
    uploading = Uploading(server, itertools.count(), stubborn=True)
    with uploading.running():
        for rounds in (1, 2):
            enough = rounds * 10
            until(lambda: len(uploading.acknowledged) >= enough, what="uploads")  # noqa: B023
            both = [copying(server, backup) for _ in range(2)]
            assert [process.wait(60) for process in both] == [0, 0]
            checked = json.loads(server.command("check", "--data", str(backup), "--json"))
            assert [fault for fault in checked["faults"] if fault["grave"]] == []
    server.command("copy", "data", str(backup))
    assert contents(backup) == contents(server.data)


def copying(server: Server, backup: Path) -> subprocess.Popen[bytes]:
    """A copy in a process of its own."""
    words: list[str | Path] = [BIN / "entrepot", "copy", server.data, backup]
    return subprocess.Popen(words, env=clean_environment(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
