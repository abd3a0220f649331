"""What `entrepot import` does, and how it tells of it."""

import asyncio
import logging
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import typer
from msgspec import Struct
from rich.console import Console
from rich.table import Table

from entrepot.access.tokens import is_name
from entrepot.assembly import now, opened
from entrepot.cli import selection
from entrepot.cli.bars import by_bytes
from entrepot.cli.console import show_json
from entrepot.config import Config
from entrepot.errors import Invalid, NotFound
from entrepot.index import Sink
from entrepot.model import ProjectName
from entrepot.moving.importing import Importing, Options, Progress, Report
from entrepot.moving.origins import Folder, Origin
from entrepot.moving.simple import Simple
from entrepot.threads import finished
from entrepot.units import in_words


class Order(Struct, frozen=True, kw_only=True):
    """What the command line says."""

    config: Config
    origin: str
    to: str | None
    projects: tuple[str, ...]
    by: str
    jobs: int
    dry_run: bool

    @property
    def options(self) -> Options:
        # Patterns are of normal names, as everywhere; "*" and the like stay as they are.
        patterns = tuple(pattern.lower().replace("_", "-").replace(".", "-") for pattern in self.projects)
        return Options(by=self.by, projects=patterns, jobs=self.jobs, dry_run=self.dry_run)


def import_all(order: Order, *, as_json: bool) -> bool:
    """Whether all of it is here now."""
    if not is_name(order.by):
        raise Invalid(f"{order.by!a} is no name", at="--by", hint="1 to 100 characters, no control characters")
    # What the mirror's downloads say of failures is told by us, once.
    logging.getLogger("entrepot").addHandler(logging.NullHandler())
    report, name = asyncio.run(_imported(order))
    if as_json:
        show_json(_as_json(order, report, name))
    else:
        _show(order, report, name)
    return not report.troubles and report.stopped is None


async def _imported(order: Order) -> tuple[Report, str]:
    async with opened(order.config, "ignore" if order.dry_run else "create") as assembled:
        sink = selection.sink(assembled, order.to, at="--to")
        with by_bytes("importing") as bar:
            async with _origin(order.origin, sink) as origin:
                progress = Progress(expect=bar.expect, advance=bar.advance)
                report = await Importing(origin, sink, order.options, clock=now, progress=progress).run()
        return report, sink.name


@asynccontextmanager
async def _origin(words: str, sink: Sink) -> AsyncIterator[Origin]:
    async def size(project: ProjectName, filename: str) -> int | None:
        try:
            return next((file.size for file in await sink.files(project) if file.filename == filename), None)
        except NotFound:
            return None

    if urlsplit(words).scheme in {"http", "https"}:
        async with Simple.opened(words, sink.staging, size) as simple:
            yield simple
        return
    if "://" in words:
        raise Invalid("is neither a folder nor the URL of an index", at=words, hint="http:// or https://")
    if not await finished(Path(words).is_dir):
        raise NotFound("there is no such folder", at=words, hint="the URL of an index begins with http:// or https://")
    yield Folder(Path(words), sink.staging)


def _as_json(order: Order, report: Report, index: str) -> dict[str, object]:
    return {
        "index": index,
        "dry_run": order.dry_run,
        "imported": report.imported,
        "present": sum(counts.present for counts in report.projects.values()),
        "bytes": sum(counts.size for counts in report.projects.values()),
        "legacy": report.legacy,
        "troubles": report.troubles,
        "notes": report.notes,
        "stopped": str(report.stopped) if report.stopped is not None else None,
    }


def _show(order: Order, report: Report, index: str) -> None:
    _show_table(report)
    for legacy in report.legacy:
        typer.echo(f"legacy: {legacy.filename}: {legacy.why}")
    for note in report.notes:
        typer.echo(f"note: {note}", err=True)
    for one in report.troubles:
        typer.echo(f"{one.kind}: {one.at}: {one.why}", err=True)
    would = "would be " if order.dry_run else ""
    size = sum(counts.size for counts in report.projects.values())
    present = sum(counts.present for counts in report.projects.values())
    files = "1 file" if len(report.imported) == 1 else f"{len(report.imported)} files"
    typer.echo(f"{files} ({in_words(size)}) {would}imported into {index}, {present} were there")
    if report.stopped is not None:
        typer.echo(f"error: stopped early: {report.stopped}", err=True)
        typer.echo("what was imported stays; run the same command again to go on", err=True)
    elif report.troubles:
        typer.echo(f"{len(report.troubles)} could not be imported, see above", err=True)


def _show_table(report: Report) -> None:
    """The projects of which anything is to be told."""
    table = Table("project", "imported", "there", "legacy", "not imported", box=None, pad_edge=False)
    for name, counts in sorted(report.projects.items()):
        if counts.imported or counts.troubles:
            numbers = (counts.imported, counts.present, counts.legacy, counts.troubles)
            table.add_row(name, *(str(number) if number else "" for number in numbers))
    if table.row_count:
        Console(highlight=False, soft_wrap=not sys.stdout.isatty()).print(table)
