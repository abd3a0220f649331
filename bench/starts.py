"""Rows of starting and of memory, on the folder of all the wheels."""

import os
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

from bench import corpus, servers
from bench.corpus import Wheel, project_name
from bench.fleet import DEVPI, PYPISERVER, listed
from bench.lab import Lab
from bench.processes import FAILURES, Unmeasured, ask, free_port, proportional_memory, start, until_answer
from bench.results import Line, Row, Target, interleaved, most_target
from bench.servers import page_headers
from bench.uploads import upload

FIRST, COLD, WARM = (
    "entrepot, very first time",
    "entrepot, very first time, disk cache dropped",
    "entrepot, warm",
)
LIMIT = 150  # MiB
MIB = 1024 * 1024


def measure_start(lab: Lab) -> tuple[list[Row], list[Target]]:
    data = lab.scratch / "entrepot-start"
    contenders: dict[str, Callable[[], float]] = {
        COLD: lambda: _entrepot_start(lab, data, new=True, cold=True),
        FIRST: lambda: _entrepot_start(lab, data, new=True),
        WARM: lambda: _entrepot_start(lab, data),
        PYPISERVER: lambda: _pypiserver_start(lab),
        DEVPI: lambda: _devpi_start(lab),
    }
    lines = interleaved(contenders, lab.rounds)
    notes = {
        FIRST: "new data folder; the wheels' folder is in the system's cache",
        COLD: "new data folder; nothing of the disk in memory",
        WARM: "second start with the same data folder",
        PYPISERVER: "remembers nothing: it walks the folder for every page",
        DEVPI: f"serves no folder: its own store of {lab.shape.files} uploaded files, second start",
    }
    for line in lines:
        line.note = line.note or notes[line.name]
    about = f"From exec to the first whole page of {lab.shape.files} files, of a folder of {lab.shape.wheels:,}."
    row = Row(title="start to first page", unit="s", about=about, lines=lines)
    return [row], [most_target(row, FIRST, 3, "< 3 s"), most_target(row, WARM, 1, "< 1 s")]


def measure_memory(lab: Lab) -> tuple[list[Row], list[Target]]:
    before, after = Line(name="entrepot, after the first page"), Line(name="entrepot, after every page once")
    try:
        for _ in range(min(lab.rounds, 3)):
            one, every, seconds = _entrepot_memory(lab)
            before.values.append(one)
            after.values.append(every)
            after.note = f"{len(lab.shape.names()):,} pages, gzip, in {seconds:.1f} s over one connection"
    except FAILURES as error:
        before.note = after.note = f"not measured: {error}"
    rivals = interleaved({PYPISERVER: lambda: _pypiserver_memory(lab), DEVPI: lambda: _devpi_memory(lab)}, 1)
    notes = {
        PYPISERVER: "after one page; every page once would take it most of an hour",
        DEVPI: f"after one page, with {lab.shape.files} files in its store",
    }
    for line in rivals:
        line.note = line.note or notes[line.name]
    about = "Sum of the proportional set sizes (PSS) of all the server's processes: the parent and one worker."
    row = Row(title="memory", unit="MiB", about=about, lines=[before, after, *rivals])
    return [row], [most_target(row, after.name, LIMIT, f"< {LIMIT} MiB")]


def _entrepot_memory(lab: Lab) -> tuple[float, float, float]:
    """MiB after the first page and after every page, and the seconds that all the pages took."""
    server = servers.entrepot(lab.tools, lab.fresh("memory"), lab.log("memory"), [lab.folder])
    with lab.keeping(server.running):
        _serve(server, lab.shape.names()[:1])
        before = proportional_memory(server.running) / MIB
        begun = time.monotonic()
        _serve(server, lab.shape.names())
        seconds = time.monotonic() - begun
        return before, proportional_memory(server.running) / MIB, seconds


def _serve(server: servers.Entrepot, projects: list[str]) -> None:
    parts = urlsplit(server.base)
    with closing(HTTPConnection(parts.hostname or "", parts.port, timeout=60)) as connection:
        for project in projects:
            connection.request("GET", urlsplit(server.page(project)).path, headers=page_headers(compressed=True))
            response = connection.getresponse()
            response.read()
            if response.status != 200:
                raise Unmeasured(f"the page of {project} was answered {response.status}")


def _pypiserver_memory(lab: Lab) -> float:
    server = servers.pypiserver(lab.tools, lab.log(PYPISERVER), lab.folder)
    with lab.keeping(server.running):
        ask(server.page(project_name(1)))
        return proportional_memory(server.running) / MIB


def _devpi_memory(lab: Lab) -> float:
    server = servers.devpi(lab.tools, lab.fresh("devpi-memory"), lab.log(DEVPI))
    with lab.keeping(server.running):
        upload(server.door(), _one_project(lab))
        ask(server.page(project_name(1)))
        return proportional_memory(server.running) / MIB


def _entrepot_start(lab: Lab, data: Path, *, new: bool = False, cold: bool = False) -> float:
    if new and data.exists():
        shutil.rmtree(data)
    data.mkdir(exist_ok=True)
    if cold:
        _drop_caches()
    port = free_port()
    command = servers.entrepot_command(lab.tools, data, port, [lab.folder])
    return _first_page(lab, command, f"http://127.0.0.1:{port}/simple/{project_name(1)}/", "entrepot-start")


def _pypiserver_start(lab: Lab) -> float:
    port = free_port()
    command = servers.pypiserver_command(lab.tools, port, lab.folder)
    return _first_page(lab, command, f"http://127.0.0.1:{port}/simple/{project_name(1)}/", PYPISERVER)


def _devpi_start(lab: Lab) -> float:
    """A second start; the store is made at the first call."""
    home = lab.scratch / "devpi-start"
    if not home.exists():
        server = servers.devpi(lab.tools, home, lab.log(DEVPI))
        with lab.keeping(server.running):
            upload(server.door(), _one_project(lab))
    port = free_port()
    command = servers.devpi_command(lab.tools, port, home)
    url = f"http://127.0.0.1:{port}/bench/dev/+simple/{project_name(1)}/"
    return _first_page(lab, command, url, DEVPI)


def _first_page(lab: Lab, command: Sequence[str | Path], url: str, name: str) -> float:
    """Seconds from exec to the first page that lists every file of the project."""
    begun = time.monotonic()
    server = start(command, lab.log(name))
    with lab.keeping(server):
        until_answer(server, url, page_headers(compressed=False), lambda answer: listed(answer) == lab.shape.files)
        return time.monotonic() - begun


def _one_project(lab: Lab) -> list[Wheel]:
    return list(corpus.wheels([project_name(1)], lab.shape.versions(project_name(1))))


def _drop_caches() -> None:
    """Forget what the kernel remembers of the disk; only root may."""
    os.sync()
    try:
        Path("/proc/sys/vm/drop_caches").write_text("3\n")
    except OSError as error:
        raise Unmeasured(f"the disk cache cannot be dropped here ({error.strerror})") from error
