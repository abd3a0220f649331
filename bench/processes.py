"""Server processes: started in a session of their own, paused for each other, stopped by their id."""

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

JSON_PAGE = "application/vnd.pypi.simple.v1+json"


class Unmeasured(Exception):
    """Something cannot be measured here; the text says why and goes into the report."""


# What one contender may do wrong without costing the others their row.
FAILURES = (
    Unmeasured,
    OSError,
    http.client.HTTPException,
    subprocess.SubprocessError,
    ValueError,
    LookupError,
    AssertionError,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    status: int
    headers: dict[str, str]  # names in lower case
    body: bytes


@dataclass(slots=True, kw_only=True)
class Running:
    """A started server, its parent's process id leading a process group of its own."""

    process: subprocess.Popen[bytes]
    log: Path
    paused: bool = field(default=False)

    @property
    def pid(self) -> int:
        return self.process.pid

    def pause(self) -> None:
        if not self.paused:
            os.killpg(self.pid, signal.SIGSTOP)
            self.paused = True

    def resume(self) -> None:
        if self.paused:
            os.killpg(self.pid, signal.SIGCONT)
            self.paused = False

    def stop(self) -> None:
        self.resume()
        if self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(15)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.process.wait()

    def tail(self) -> str:
        last = self.log.read_text(errors="replace").strip().splitlines()[-3:]
        return " / ".join(line[-300:] for line in last)

    def family(self) -> list[int]:
        """The ids of the parent and all that it started, nobody else's."""
        found = [self.pid]
        for parent in found:
            for task in Path(f"/proc/{parent}/task").glob("*/children"):
                found += [int(child) for child in task.read_text().split()]
        return found


def start(command: Sequence[str | Path], log: Path, env: Mapping[str, str] | None = None) -> Running:
    """`env` is what is set beside our own environment."""
    log.parent.mkdir(parents=True, exist_ok=True)
    log.unlink(missing_ok=True)
    with log.open("ab") as out:  # appending, so that the log may be emptied under the server
        process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=os.environ | dict(env or {}),
        )
    return Running(process=process, log=log)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    assert isinstance(port, int)
    return port


def ask(url: str, headers: dict[str, str] | None = None, timeout: float = 60) -> Answer:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout)
    with contextlib.closing(connection):
        connection.request("GET", parts.path or "/", headers=headers or {})
        response = connection.getresponse()
        named = {name.lower(): value for name, value in response.getheaders()}
        return Answer(status=response.status, headers=named, body=response.read())


def wait_for(server: Running, url: str, timeout: float = 60) -> None:
    """Return when `url` answers 200; `Unmeasured` if the server ends or never does."""
    until_answer(server, url, {}, lambda answer: answer.status == 200, timeout)


def until_answer(
    server: Running,
    url: str,
    headers: dict[str, str],
    wanted: Callable[[Answer], bool],
    timeout: float = 60,
) -> Answer:
    """The first answer at `url` that is as `wanted`, asked for every few milliseconds."""
    answer: Answer | None = None
    for _ in ticks(timeout):
        if server.process.poll() is not None:
            raise Unmeasured(f"the server ended with {server.process.returncode}: {server.tail()}")
        with contextlib.suppress(OSError, http.client.HTTPException):
            answer = ask(url, headers, timeout)
            if wanted(answer):
                return answer
    seen = f"status {answer.status}" if answer else "no answer"
    raise Unmeasured(f"{url}: {seen} after {timeout:.0f} s: {server.tail()}")


def ticks(timeout: float, pause: float = 0.005) -> Iterator[None]:
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        yield
        time.sleep(pause)


def proportional_memory(server: Running) -> int:
    """The sum of the proportional set sizes (PSS) of the server's processes, in bytes."""
    total = 0
    for pid in server.family():
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1]) * 1024
    return total
