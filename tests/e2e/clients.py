"""pip, uv, twine and poetry as their users run them: subprocesses, each test with a HOME of its own."""

import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tests.e2e.processes import BIN, clean_environment


@dataclass(frozen=True)
class Ran:
    """A command that ended, and all that it said."""

    command: tuple[str, ...]
    code: int
    said: str

    def ok(self) -> str:
        assert self.code == 0, f"{' '.join(self.command)} → {self.code}:\n{self.said}"
        return self.said

    def refused(self) -> str:
        assert self.code != 0, f"{' '.join(self.command)} succeeded:\n{self.said}"
        return self.said


class Shell:
    """A user with an empty HOME, empty caches, and none of this machine's settings."""

    def __init__(self, home: Path) -> None:
        self.home = home
        home.mkdir(parents=True, exist_ok=True)
        self._environment = {
            **clean_environment(),
            "HOME": str(home),
            "PIP_CONFIG_FILE": "/dev/null",
            "PIP_NO_INPUT": "1",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PIP_CACHE_DIR": str(home / "pip-cache"),
            "PIP_RETRIES": "0",
            "UV_NO_CONFIG": "1",
            "UV_CACHE_DIR": str(home / "uv-cache"),
            "UV_PYTHON_DOWNLOADS": "never",
            "UV_PYTHON": sys.executable,
            "UV_KEYRING_PROVIDER": "disabled",
            "UV_HTTP_RETRIES": "0",
            "POETRY_CONFIG_DIR": str(home / "poetry-config"),
            "POETRY_DATA_DIR": str(home / "poetry-data"),
            "POETRY_CACHE_DIR": str(home / "poetry-cache"),
            "POETRY_NO_INTERACTION": "1",
            "POETRY_KEYRING_ENABLED": "false",
            "PYTHON_KEYRING_BACKEND": "keyring.backends.null.Keyring",
            "VIRTUALENV_NO_PERIODIC_UPDATE": "1",
        }

    def run(self, *command: str | Path, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> Ran:
        words = tuple(map(str, command))
        ended = subprocess.run(
            words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, timeout=120,
            check=False, cwd=cwd or self.home, env={**self._environment, **(env or {})}, text=True,
        )  # fmt: skip
        return Ran(words, ended.returncode, ended.stdout)


@dataclass(frozen=True)
class Venv:
    """An environment into which something is installed. It has no pip of its own."""

    folder: Path

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    def has(self) -> dict[str, str]:
        """The versions of what is installed, by name."""
        found = (self.folder / "lib").glob("python*/site-packages/*.dist-info")
        pairs = (path.name.removesuffix(".dist-info").rpartition("-") for path in found)
        return {name: version for name, _, version in pairs if name != "virtualenv"}


class Installer(Protocol):
    """How the same wish is told to pip and to uv."""

    def install(self, venv: Venv, index: str, *wishes: str | Path, env: Mapping[str, str] | None = None) -> Ran: ...


@dataclass(frozen=True)
class Pip:
    """The pip that lies in `code`."""

    shell: Shell
    code: Path

    def run(self, *words: str | Path, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> Ran:
        return self._by(Path(sys.executable), *words, env=env, cwd=cwd)

    def install(self, venv: Venv, index: str, *wishes: str | Path, env: Mapping[str, str] | None = None) -> Ran:
        # By the environment's own Python: with `--python`, pip would start twice.
        return self._by(venv.python, "install", "--index-url", index, *wishes, env=env)

    def _by(
        self, python: Path, *words: str | Path, env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> Ran:
        with_code = {"PYTHONPATH": str(self.code), **(env or {})}
        return self.shell.run(python, "-m", "pip", *words, env=with_code, cwd=cwd)


@dataclass(frozen=True)
class Uv:
    shell: Shell

    def run(self, *words: str | Path, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> Ran:
        return self.shell.run(BIN / "uv", *words, env=env, cwd=cwd)

    def install(self, venv: Venv, index: str, *wishes: str | Path, env: Mapping[str, str] | None = None) -> Ran:
        return self.run("pip", "install", "--python", venv.python, "--default-index", index, *wishes, env=env)

    def publish(self, url: str, token: str, *files: Path) -> Ran:
        return self.run("publish", "--trusted-publishing", "never", "--publish-url", url, "--token", token, *files)


@dataclass(frozen=True)
class Twine:
    shell: Shell

    def publish(self, url: str, token: str, *files: Path, ca: Path | None = None) -> Ran:
        # Without --verbose, twine shows the status of a refusal but not its text.
        options = ["--non-interactive", "--disable-progress-bar", "--verbose", "-u", "__token__", "-p", token]
        options += ["--cert", str(ca)] if ca is not None else []
        return self.shell.run(BIN / "twine", "upload", *options, "--repository-url", url, *files)


@dataclass(frozen=True)
class Poetry:
    shell: Shell

    def run(self, *words: str | Path, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> Ran:
        return self.shell.run(BIN / "poetry", *words, env=env, cwd=cwd)

    def project(self, name: str, version: str = "1.0") -> Path:
        """The folder of a new project, in which poetry's commands work."""
        folder = self.shell.home / f"project-{name}-{version}"
        (folder / "dist").mkdir(parents=True, exist_ok=True)
        (folder / "pyproject.toml").write_text(
            f'[project]\nname = "{name}"\nversion = "{version}"\nrequires-python = ">=3.11,<4"\n'
            "[tool.poetry]\npackage-mode = false\n"
        )
        return folder

    def publish(self, url: str, token: str, *files: Path) -> Ran:
        """Poetry publishes what lies in the `dist` of the project of the same name and version."""
        name, version = files[0].name.removesuffix(".tar.gz").split("-")[:2]
        project = self.project(name, version)
        text = (project / "pyproject.toml").read_text().replace("package-mode = false", "package-mode = true")
        (project / "pyproject.toml").write_text(text)
        for old in (project / "dist").iterdir():
            old.unlink()
        for file in files:
            shutil.copy(file, project / "dist")
        where = {"POETRY_REPOSITORIES_OURS_URL": url}
        words = ("publish", "--repository", "ours", "--username", "__token__", "--password", token)
        return self.run(*words, cwd=project, env=where)


class Publisher(Protocol):
    """How the same wish is told to twine, uv and poetry."""

    def publish(self, url: str, token: str, *files: Path) -> Ran: ...
