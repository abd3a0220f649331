"""What every test here does with processes: wait for them, look at them, end them by their ids."""

import os
import random
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

T = TypeVar("T")

BIN = Path(sys.executable).parent
# Below the ports that the kernel gives to outgoing connections, so that a port stays ours between two starts.
# Each of several test processes has its own: what one has chosen and not yet bound, another would find free.
_OURS, _OF = (
    int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]),
    int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")),
)
_PORTS = range(20_000, 32_000)[_OURS::_OF]
_GONE = frozenset({"Z", "X"})


def until(condition: Callable[[], T], *, within: float = 10, what: str) -> T:
    """What `condition` gives, as soon as it is true. Fails when that takes longer than `within` seconds."""
    deadline = time.monotonic() + within
    while not (found := condition()):
        if time.monotonic() > deadline:
            pytest.fail(f"waited {within:g} seconds in vain: {what}")
        time.sleep(0.01)
    return found


def free_port() -> int:
    while True:
        port = random.choice(_PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def clean_environment() -> dict[str, str]:
    """Nothing of this machine's settings, and no proxy but a dead one: a test reaches 127.0.0.1 or fails."""
    dead = "http://127.0.0.1:9"
    return {
        "PATH": f"{BIN}:/usr/local/bin:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "COLUMNS": "400",
        "NO_COLOR": "1",
        "TERM": "dumb",
        **{f"{scheme}_proxy": dead for scheme in ("http", "https", "all")},
        **{f"{scheme}_PROXY": dead for scheme in ("HTTP", "HTTPS", "ALL")},
        "no_proxy": "127.0.0.1,localhost",
        "NO_PROXY": "127.0.0.1,localhost",
    }


def children(pid: int) -> list[int]:
    """The ids of a process's living children."""
    try:
        found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [child for child in map(int, found) if is_alive(child)]


def is_alive(pid: int) -> bool:
    """Whether it runs: neither gone nor a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in _GONE


def with_nobody_left(group: int) -> None:
    """Kill what still lives in a process group that a test started."""
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        return


def no_process_left(group: int) -> bool:
    """Whether nothing of a process group lives any more."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and is_alive(int(folder.name)):
            try:
                if os.getpgid(int(folder.name)) == group:
                    return False
            except ProcessLookupError:
                continue
    return True


def peak_memory(pid: int) -> int:
    """The most bytes of memory that the process ever had (VmHWM)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"process {pid} says nothing of its memory")
