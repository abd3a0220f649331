"""The report: targets first, then the machine, then every row as it was measured."""

from datetime import UTC, datetime

from bench.lab import Lab
from bench.results import Line, Row, Target, shown

METHOD = """\
Servers, client and disk are all on this one machine, over loopback, with one worker per server. In each row
the contenders take turns (A B C A B C …) and the tables show the median of the rounds with the smallest and
the largest value; a ratio is one of medians, and its spread is that of the rounds' own ratios. While one
server is measured, the others are stopped (SIGSTOP).

- **Client**: wrk with one thread and 32 connections for pages (16 for the 60 kB file, 4 for the 20 MB file),
  because a second thread would take a core from the server. devpi gets 8 connections and pypiserver 1: with
  more, requests only queue up. A run with a single answer other than 200 does not count.
- **entrepot** runs as `entrepot serve` does by itself, with its access log written to a file. The *uploaded*
  rows are of files that came by HTTP; the others are of files in a folder that it serves.
- **nginx** sends the very bytes that entrepot answered, saved as plain files: one worker, `sendfile`,
  `tcp_nopush`, `open_file_cache`, no limit of requests per connection, its access log off. This is nginx at
  its best: without `open_file_cache` it was a quarter slower on small pages when the bench was written.
  Compressed pages are sent as they are, with `Content-Encoding` added.
- **pypiserver** serves the same folder, by waitress. It has no JSON pages (its HTML is measured) and
  compresses nothing. Its optional cache is left out: with it, pages of this folder took longer.
- **devpi** serves no folders: it holds the measured projects, uploaded, not all {wheels:,} files. It
  compresses nothing. Its cache is raised to 200,000 keys: with the 10,000 that it has by itself, an upload to
  a project of more than 500 files took seconds.
- **Uploads** are sent as twine sends them (multipart, three digests) by one process per connection with
  ready-made requests; afterwards every file must be on its page. The disk's own rate is measured in the same
  rounds: files of 1.7 kB created, written and fsynced, in a folder beside the servers' data.
- **Start** is the time from exec to the first complete page, asked for every 5 ms.
"""


def render(lab: Lab, machine: dict[str, str], rows: list[Row], targets: list[Target], minutes: float) -> str:
    versions = lab.tools.versions()
    shape = lab.shape
    store = (
        f"{shape.wheels:,} wheels of about 1.7 kB: {shape.projects:,} projects of {shape.files} files "
        f"and one of {shape.thousand:,}; beside them one wheel of 60 kB and one of 20 MB"
    )
    facts = machine | {"store": store}
    day = datetime.now(UTC).date().isoformat()
    what = "a quick check of the bench itself, not figures to quote" if lab.quick else "one run"
    doses = f"{lab.rounds} rounds of {lab.seconds} s, {minutes:.0f} minutes in all"
    blocks = [
        "# Benchmarks",
        f"Written by `make bench` on {day} ({what}: {doses}).",
        "## Targets",
        _table(("what", "target", "measured", "spread", "met"), [_verdict(target) for target in targets], 2),
        "## The machine and the versions",
        _table(("", ""), [*facts.items(), *versions.items()], 2),
        "## Every row",
        *(_row(row) for row in rows),
        "## What could not be measured",
        _missing(rows),
        "## How it is measured",
        METHOD.format(wheels=shape.wheels).strip(),
    ]
    return "\n\n".join(blocks) + "\n"


def _verdict(target: Target) -> tuple[str, ...]:
    met = {True: "met", False: "**not met**", None: "**not measured**"}[target.met]
    return target.what, target.wanted, target.measured, target.spread, met


def _row(row: Row) -> str:
    base = row.line(row.baseline) if row.baseline else None
    head = ("", f"median, {row.unit}", "min–max", *((f"× {row.baseline}",) if base else ()), "")
    table = _table(head, [_cells(line, base) for line in row.lines], 1)
    title = f"### {row.title[0].upper()}{row.title[1:]}"
    return "\n\n".join(part for part in (title, row.about, table) if part)


def _cells(line: Line, base: Line | None) -> tuple[str, ...]:
    if not line.values:
        return (line.name, "–", "–", *(("–",) if base else ()), line.note)
    spread = f"{shown(min(line.values))}–{shown(max(line.values))}"
    ratio = (f"{_factor(line.median / base.median)}" if base.values else "–",) if base else ()
    return (line.name, shown(line.median), spread, *ratio, line.note)


def _factor(ratio: float) -> str:
    return f"{ratio:.2f}" if ratio >= 0.01 else f"{ratio:.2g}"


def _missing(rows: list[Row]) -> str:
    lost = [f"- {row.title}, {line.name}: {line.note}" for row in rows for line in row.lines if not line.values]
    return "\n".join(lost) if lost else "Nothing that was asked for."


def _table(head: tuple[str, ...], lines: list[tuple[str, ...]], texts: int) -> str:
    """A Markdown table whose first `texts` columns, and the last one, are aligned left."""
    marks = [":--" if number < texts or number == len(head) - 1 else "--:" for number in range(len(head))]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, tuple(marks), *lines))
