"""Rows of uploads: how many per second, what the disk can do, and what file n of a project costs."""

import contextlib
from collections.abc import Callable, Iterator
from statistics import median

from bench import corpus, servers
from bench.corpus import Wheel, wheel
from bench.disk import fsync_rate
from bench.fleet import DEVPI, ENTREPOT, PYPISERVER, listed
from bench.lab import Lab
from bench.processes import FAILURES, Running, Unmeasured, ask
from bench.results import Line, Row, Target, interleaved, least_target
from bench.servers import page_headers
from bench.uploads import Door, Uploaded, upload

DISK, DISK_4 = "disk: create and fsync, 1 thread", "disk: create and fsync, 4 threads"
FSYNCS = 6  # of one upload, as the target counts them
TIMED = 7  # uploads timed at each size
PER_PROJECT = 25
MOST_AT_DEVPI = 1_000  # beyond that it only takes time
FEW = 200  # pypiserver walks its whole folder for each upload


def measure_uploads(lab: Lab) -> tuple[list[Row], list[Target]]:
    notes = {
        ENTREPOT: "4 connections, every fsync",
        DEVPI: "2 connections",
        PYPISERVER: f"1 connection, {min(FEW, lab.uploads)} wheels, no fsync at all",
    }
    counts = {ENTREPOT: (lab.uploads, 4), DEVPI: (lab.uploads, 2), PYPISERVER: (min(FEW, lab.uploads), 1)}
    with _takers(lab) as takers:

        def sending(name: str) -> Callable[[], float]:
            rounds = iter(range(lab.rounds))

            def once() -> float:
                taker = takers[name]
                count, connections = counts[name]
                wheels = _batch(next(rounds), count)
                with lab.alone(taker.running), lab.explaining(taker.running):
                    sent = upload(taker.door, wheels, connections)
                    _all_listed(taker, wheels)
                return len(wheels) / sent.seconds

            return once

        contenders: dict[str, Callable[[], float]] = {
            DISK: lambda: _disk(lab, 1),
            DISK_4: lambda: _disk(lab, 4),
        } | {name: sending(name) for name in (ENTREPOT, DEVPI, PYPISERVER)}
        lines = interleaved(contenders, min(lab.rounds, 3))
    for line in lines:
        line.note = line.note or notes.get(line.name, "files of 1.7 kB")
    row = Row(title=f"uploads of {lab.uploads:,} small wheels", unit="files/s", baseline=ENTREPOT, lines=lines)
    return [row], _upload_targets(row)


def measure_growth(lab: Lab) -> tuple[list[Row], list[Target]]:
    lines = []
    with _takers(lab) as takers:
        for name, sizes in (
            (ENTREPOT, lab.growth),
            (DEVPI, tuple(size for size in lab.growth if size <= MOST_AT_DEVPI)),
        ):
            try:
                with lab.alone(takers[name].running), lab.explaining(takers[name].running):
                    lines += _growing(name, takers[name], sizes)
            except FAILURES as error:
                lines.append(Line(name=name, note=f"not measured: {error}"))
    return [Row(title="an upload to a project that has n files", unit="ms", lines=lines)], []


class Taker:
    """A server that takes uploads."""

    def __init__(self, server: servers.Entrepot | servers.Devpi | servers.Pypiserver) -> None:
        self.running: Running = server.running
        self.door: Door = server.door()
        self.page: Callable[[str], str] = server.page


class Takers(dict[str, Taker]):
    """Those that run; asking for another one raises the reason."""

    def __init__(self) -> None:
        super().__init__()
        self.down: dict[str, str] = {}

    def __missing__(self, name: str) -> Taker:
        raise Unmeasured(self.down[name])


@contextlib.contextmanager
def _takers(lab: Lab) -> Iterator[Takers]:
    """Each server anew and empty."""
    makers: dict[str, Callable[[], servers.Entrepot | servers.Devpi | servers.Pypiserver]] = {
        ENTREPOT: lambda: servers.entrepot(lab.tools, lab.fresh(ENTREPOT), lab.log(ENTREPOT)),
        DEVPI: lambda: servers.devpi(lab.tools, lab.fresh(DEVPI), lab.log(DEVPI)),
        PYPISERVER: lambda: servers.pypiserver(lab.tools, lab.log(PYPISERVER), lab.fresh(PYPISERVER)),
    }
    takers = Takers()
    with contextlib.ExitStack() as stack:
        for name, make in makers.items():
            try:
                taker = Taker(make())
            except FAILURES as error:
                takers.down[name] = str(error)
                continue
            stack.enter_context(lab.keeping(taker.running))
            takers[name] = taker
        yield takers


def _disk(lab: Lab, threads: int) -> float:
    for running in lab.running:
        running.pause()
    try:
        return fsync_rate(lab.fresh("disk"), threads, lab.seconds)
    finally:
        for running in lab.running:
            running.resume()


def _batch(number: int, count: int) -> list[Wheel]:
    """`count` wheels of projects that no other round has, 25 files each."""
    names = [f"round{number}-p{project:04}" for project in range(-(-count // PER_PROJECT))]
    return list(corpus.wheels(names, [f"1.{n}.0" for n in range(PER_PROJECT)]))[:count]


def _all_listed(taker: Taker, wheels: list[Wheel]) -> None:
    headers = page_headers(compressed=False)
    found = sum(listed(ask(taker.page(name), headers)) for name in dict.fromkeys(one.name for one in wheels))
    if found != len(wheels):
        raise Unmeasured(f"{found} files are listed after {len(wheels)} uploads that were answered 200")


def _upload_targets(row: Row) -> list[Target]:
    targets = [least_target(row, ENTREPOT, 300, "≥ 300 files/s")]
    for disk in (DISK, DISK_4):
        line = row.line(disk)
        if line.values:
            half = line.median / FSYNCS / 2
            how = disk.rpartition(", ")[2]
            wanted = f"≥ {half:,.0f} files/s: half of this disk's {line.median:,.0f} fsyncs/s ({how}) ÷ {FSYNCS}"
            targets.append(least_target(row, ENTREPOT, half, wanted))
    return targets


def _growing(name: str, taker: Taker, sizes: tuple[int, ...]) -> list[Line]:
    """One project that grows; at each size some uploads are timed, one after the other."""
    lines, present = [], 0
    for size in sizes:
        _send(taker, present, size - present)
        timed = _send(taker, size, TIMED, connections=1)
        present = size + TIMED
        lines.append(Line(name=f"{name}, n = {size:,}", values=[one * 1000 for one in timed.each]))
    _all_listed(taker, [wheel("acme-growing", f"1.{n}.0") for n in range(present)])
    lines[-1].note = f"all {present:,} listed afterwards; median upload {median(timed.each) * 1000:.1f} ms"
    return lines


def _send(taker: Taker, first: int, count: int, connections: int = 4) -> Uploaded:
    wheels = [wheel("acme-growing", f"1.{n}.0") for n in range(first, first + count)]
    return upload(taker.door, wheels, connections if count >= connections else 1)
