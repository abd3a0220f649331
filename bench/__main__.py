"""`make bench`: entrepot, nginx, pypiserver and devpi side by side; rewrites docs/benchmarks.md."""

import argparse
import contextlib
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from bench import buckets, corpus, fleet, install, machine, mirror, pages, publishing, report, starts
from bench.lab import Lab
from bench.results import Row, Target

ROOT = Path(__file__).parent.parent
WORK = Path(__file__).parent / ".work"
ENTREPOT = Path(sys.executable).parent / "entrepot"
FULL = corpus.Shape(projects=2_000, files=25, thousand=1_000)
QUICK = corpus.Shape(projects=40, files=25, thousand=100)
Measured = tuple[list[Row], list[Target]]
WITH_FLEET = {"pages": pages.measure_pages, "downloads": pages.measure_downloads}
ALONE: dict[str, Callable[[Lab], Measured]] = {
    "uploads": publishing.measure_uploads,
    "start": starts.measure_start,
    "memory": starts.measure_memory,
    "growth": publishing.measure_growth,
    "mirror": mirror.measure_mirror,
    "buckets": buckets.measure_buckets,
}


def main() -> int:
    chosen = _arguments()
    lab = Lab(
        tools=install.ensure(WORK, chosen.entrepot),
        work=WORK,
        shape=QUICK if chosen.quick else FULL,
        rounds=chosen.rounds or (2 if chosen.quick else 5),
        seconds=1 if chosen.quick else 3,
        uploads=200 if chosen.quick else 2_000,
        growth=(10, 100) if chosen.quick else (10, 100, 1_000, 5_000),
        quick=chosen.quick,
    )
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("bench: terminated"))
    begun, facts = time.monotonic(), machine.description(WORK)
    corpus.ensure(lab.folder, lab.shape)
    _empty(lab)
    try:
        rows, targets = _measure(lab, chosen.only)
    finally:
        for running in lab.running:
            running.stop()
        _empty(lab)
    minutes = (time.monotonic() - begun) / 60
    text = report.render(lab, facts, rows, targets, minutes)
    partial = chosen.quick or chosen.only != [*WITH_FLEET, *ALONE] or chosen.entrepot != ENTREPOT
    place = chosen.output or (WORK / "report.md" if partial else ROOT / "docs" / "benchmarks.md")
    place.write_text(text)
    print(f"\n{text}\nwritten to {place}")
    return 0


def _measure(lab: Lab, only: list[str]) -> Measured:
    rows: list[Row] = []
    targets: list[Target] = []

    def add(measured: Measured) -> None:
        rows.extend(measured[0])
        targets.extend(measured[1])

    wanted = [name for name in WITH_FLEET if name in only]
    if wanted:
        print(", ".join(wanted), flush=True)
        with fleet.started(lab) as contenders:
            for name in wanted:
                add(WITH_FLEET[name](lab, contenders))
    for name, measure in ALONE.items():
        if name in only:
            print(name, flush=True)
            add(measure(lab))
    return rows, targets


def _empty(lab: Lab) -> None:
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(lab.scratch)
    lab.scratch.mkdir(parents=True)


def _arguments() -> argparse.Namespace:
    every = [*WITH_FLEET, *ALONE]
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a small store and runs of 1 s, to check the bench")
    parser.add_argument("--only", type=_rows(every), default=every, metavar="ROW,…", help=", ".join(every))
    parser.add_argument("--rounds", type=int, help="turns of each contender (default 5, quick: 2)")
    parser.add_argument("--output", type=Path, help="the report (default docs/benchmarks.md; partial: .work)")
    parser.add_argument(
        "--entrepot",
        type=Path,
        default=ENTREPOT,
        help="the program to measure (default: beside this Python)",
    )
    return parser.parse_args()


def _rows(every: list[str]) -> Callable[[str], list[str]]:
    def parse(text: str) -> list[str]:
        unknown = set(text.split(",")) - set(every)
        if unknown:
            raise argparse.ArgumentTypeError(f"no row {', '.join(sorted(unknown))}; there are {', '.join(every)}")
        return [name for name in every if name in text.split(",")]

    return parse


if __name__ == "__main__":
    sys.exit(main())
