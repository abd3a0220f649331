"""Servers of others for the tests: started once where a test needs them, on free ports, and ended by their ids."""

import atexit
import ctypes
import os
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = ROOT / ".servers"  # what `make servers` installs beside the system's packages

_libc = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG = 1
_PATIENCE = 60.0  # seconds


def missing(what: str) -> None:
    """Skips, and says how to get it; with CI=true that is a failure."""
    why = f"{what} is not installed: `make servers` does it"
    if os.environ.get("CI") == "true":
        pytest.fail(why)
    pytest.skip(why)


def require(*programs: str) -> None:
    for program in programs:
        if shutil.which(program) is None:
            missing(program)


class Family:
    """The processes of one server, and their folder. All of them end with ours, however it ends."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.folder = Path(tempfile.mkdtemp(prefix=f"entrepot-{name}-"))
        self._processes: list[subprocess.Popen[bytes]] = []
        atexit.register(self.end)

    def start(self, command: Sequence[str | Path], **environment: str) -> subprocess.Popen[bytes]:
        with (self.folder / f"{len(self._processes)}.log").open("wb") as log:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**os.environ, **environment},
                cwd=self.folder, preexec_fn=_end_with_parent,  # noqa: PLW1509 - nothing but one system call
            )  # fmt: skip
        self._processes.append(process)
        return process

    def run(self, command: Sequence[str | Path], **environment: str) -> str:
        """What a command that ends says. A failure names it."""
        ran = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=_PATIENCE, cwd=self.folder,
            env={**os.environ, **environment}, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert ran.returncode == 0, f"{command}: {ran.stdout}{ran.stderr}"
        return ran.stdout

    def until(self, ready: Callable[[], bool]) -> None:
        """Wait for it, as long as all processes live."""
        end = time.monotonic() + _PATIENCE
        while not ready():
            for number, process in enumerate(self._processes):
                assert process.poll() is None, f"{self.name}: {(self.folder / f'{number}.log').read_text()[-2000:]}"
            assert time.monotonic() < end, f"{self.name} is not ready after {_PATIENCE:.0f} s"
            time.sleep(0.05)

    def end(self) -> None:
        for process in reversed(self._processes):
            process.kill()
        for process in self._processes:
            process.wait()
        self._processes.clear()
        shutil.rmtree(self.folder, ignore_errors=True)


def answers(url: str) -> bool:
    """Whether a server says anything there."""
    try:
        urllib.request.urlopen(url, timeout=2).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


def _end_with_parent() -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
