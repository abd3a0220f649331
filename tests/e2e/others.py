"""The servers that people come from, as real processes: pypiserver and devpi."""

import base64
import http.client
import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.clients import Shell
from tests.e2e.processes import BIN, clean_environment, free_port, until, with_nobody_left

_PASSWORD = "secret"


@contextmanager
def _running(*command: str | Path, port: int, ready: str, log: Path) -> Iterator[None]:
    """A process group that lives as long as the block."""
    with log.open("wb") as out:
        process = subprocess.Popen(
            list(map(str, command)), stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
            env=clean_environment(), start_new_session=True, cwd=log.parent,
        )  # fmt: skip

    def answers() -> bool:
        if process.poll() is not None:
            pytest.fail(f"{command[0]} ended:\n{log.read_text()}")
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        try:
            connection.request("GET", ready)
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    try:
        until(answers, within=60, what=f"an answer of {command[0]}")
        yield
    finally:
        with_nobody_left(process.pid)
        process.wait(10)


def _require(program: str) -> Path:
    if not (BIN / program).exists():
        pytest.skip(f"{program} is not in {BIN}: run `make test`, which installs it")
    return BIN / program


@dataclass(frozen=True)
class Pypiserver:
    """It serves what lies in `folder`, at any moment."""

    url: str
    folder: Path


@contextmanager
def pypiserver(home: Path) -> Iterator[Pypiserver]:
    folder, port = home / "packages", free_port()
    folder.mkdir()
    place = ("-i", "127.0.0.1", "-p", str(port), "--disable-fallback", "-P", ".", "-a", ".")
    command = (_require("pypi-server"), "run", *place, folder)
    with _running(*command, port=port, ready="/health", log=home / "log"):
        yield Pypiserver(f"http://127.0.0.1:{port}/", folder)


@dataclass(frozen=True)
class Devpi:
    """A devpi with the user `team`."""

    port: int
    proof: str  # of the user

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def index(self, name: str, *, bases: str = "") -> str:
        """The URL of a new index."""
        ask(self.port, "PUT", f"/team/{name}", {"type": "stage", "bases": bases}, self.proof)
        return f"{self.origin}/team/{name}/"

    def upload(self, shell: Shell, url: str, *files: Path) -> None:
        """By twine, as its users do."""
        options = ["--non-interactive", "--disable-progress-bar", "-u", "team", "-p", _PASSWORD]
        shell.run(BIN / "twine", "upload", *options, "--repository-url", url, *files).ok()


@contextmanager
def devpi(home: Path) -> Iterator[Devpi]:
    place, port = ("--serverdir", str(home / "devpi")), free_port()
    begun = subprocess.run(
        [_require("devpi-init"), *place, "--no-root-pypi", "--root-passwd", _PASSWORD],
        capture_output=True, text=True, check=False, timeout=60, env=clean_environment(),
    )  # fmt: skip
    assert begun.returncode == 0, begun.stdout + begun.stderr
    command = (BIN / "devpi-server", *place, "--host", "127.0.0.1", "--port", str(port), "--offline-mode")
    with _running(*command, port=port, ready="/+api", log=home / "log"):
        ask(port, "PUT", "/team", {"password": _PASSWORD}, _login(port, "root"))
        yield Devpi(port, _login(port, "team"))


def _login(port: int, user: str) -> str:
    answer = ask(port, "POST", "/+login", {"user": user, "password": _PASSWORD}, "")
    return f"{user}:{answer['result']['password']}"


def ask(port: int, method: str, path: str, body: dict[str, str], proof: str) -> Any:
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    if proof:
        headers["X-Devpi-Auth"] = base64.b64encode(proof.encode()).decode()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request(method, path, json.dumps(body), headers)
    response = connection.getresponse()
    text = response.read()
    connection.close()
    assert response.status < 300, text
    return json.loads(text)
