import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from entrepot.cli.main import app
from entrepot.sources.hosted import Hosted
from entrepot.stores.disk import Disk
from tests.e2e.servers import PLAIN
from tests.sources.samples import add

ENTREPOT = Path(sys.executable).parent / "entrepot"


@dataclass(frozen=True)
class Ran:
    """A command that ended, and what it said where."""

    code: int
    out: str
    err: str

    def ok(self) -> str:
        assert self.code == 0, self
        return self.out

    def json(self) -> Any:
        return json.loads(self.ok())

    def failed(self) -> str:
        """The one line that says why."""
        assert (self.code, self.out) == (1, ""), self
        [line] = self.err.splitlines()
        assert line.startswith("error: ")
        return line.removeprefix("error: ")

    def misused(self) -> str:
        """What was wrong with the command line."""
        assert (self.code, self.out) == (2, ""), self
        assert self.err.startswith("Usage: entrepot ")
        return self.err.splitlines()[-1]


Run = Callable[..., Ran]


def environment(**more: str) -> Mapping[str, str]:
    """Ours, without what would steer a command."""
    return {**{name: value for name, value in os.environ.items() if not name.startswith("ENTREPOT_")}, **more}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def command(data: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Run a command in this process, on `data` and in an empty folder, where nobody can answer a question."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "entrepot.toml").write_text(PLAIN)
    for name in [name for name in os.environ if name.startswith("ENTREPOT_")]:
        monkeypatch.delenv(name)

    def running(*words: str | Path, answer: str | None = None) -> Ran:
        at = [] if {"--data", "--config", "--help", "-h"} & set(words) else ["--data", str(data)]
        done = CliRunner().invoke(app, [*map(str, words), *at], input=answer, catch_exceptions=False)
        return Ran(done.exit_code, done.stdout, done.stderr)

    return running


@pytest.fixture
def shell(data: Path, tmp_path: Path) -> Run:
    """Run the real command, in a process of its own."""

    def running(*words: str | Path, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> Ran:
        if cwd is None:
            (tmp_path / "entrepot.toml").write_text(PLAIN)
        done = subprocess.run(
            [ENTREPOT, *words], cwd=cwd or tmp_path, env=environment(**(env or {})), stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        return Ran(done.returncode, done.stdout, done.stderr)

    return running


@pytest.fixture
def stocked(data: Path) -> Hosted:
    """What the default index holds: three files of demo, one of other."""
    disk = Disk.open(data / "store", create=True)
    private = Hosted("private", disk)

    async def stock() -> None:
        for filename in ("demo-1.0-py3-none-any.whl", "demo-1.0.tar.gz", "demo-2.0.tar.gz", "other-1.0.tar.gz"):
            await add(private, filename, by="alice")

    asyncio.run(stock())
    return private
