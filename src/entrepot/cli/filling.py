"""What `entrepot mirror` does: plan, resolve, fetch, and tell what became of it."""

import asyncio
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import typer
from msgspec import Struct
from msgspec.structs import replace
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn, TransferSpeedColumn
from rich.table import Table

from entrepot.assembly import running
from entrepot.cli import selection
from entrepot.cli.console import busy, show_json
from entrepot.cli.resolving import resolved
from entrepot.config import Config, Mirror, closure
from entrepot.errors import EntrepotError, Invalid
from entrepot.fill import Filled, Filling, Planned, Report
from entrepot.model import File
from entrepot.wire.choice import Choice
from entrepot.wire.requirements import Asked, Refused, Wanted, narrowed
from entrepot.wire.targets import Targets


class Order(Struct, frozen=True, kw_only=True):
    """What the command line says."""

    config: Config
    asked: list[Asked]
    index: str | None
    targets: Targets
    prereleases: bool
    with_dependencies: bool
    jobs: int

    @property
    def refused(self) -> list[Refused]:
        return [line for asked in self.asked for line in asked.refused]

    @property
    def wanted(self) -> list[Wanted]:
        """All of it, within the constraints that hold."""
        found: list[Wanted] = []
        for asked in self.asked:
            constraints = [one for one in asked.constraints if self.targets.hold(one.marker)]
            found += narrowed(asked.wanted, constraints)
        return found

    @property
    def choice(self) -> Choice:
        pre = self.prereleases or any(asked.prereleases for asked in self.asked)
        return Choice(targets=self.targets, prereleases=pre)


def fill(order: Order, *, as_json: bool) -> bool:
    """Whether all of it is here now."""
    name = _index(order)
    wanted = order.wanted
    if order.with_dependencies:
        with busy("resolving"):
            wanted = _completed(wanted, resolved(order.config, name, wanted, order.choice))
    filled = asyncio.run(_filled(order, name, wanted))
    for asked in order.asked:
        for line in asked.ignored:
            typer.echo(f"note: {line.at}: {line.text!r} is passed over: {line.why}", err=True)
    if as_json:
        show_json(_as_json(filled, order.refused))
    else:
        _show(filled, order.refused)
    return not order.refused and not any(one.faults for one in filled)


def _completed(wanted: Sequence[Wanted], solution: Sequence[Wanted]) -> list[Wanted]:
    """The solution in place of what it solves, with the hashes that were wanted; and all the rest."""
    solved = {one.name for one in solution}
    hashes = {one.name: one.hashes for one in wanted if one.hashes}
    rest = [one for one in wanted if one.files or one.every or one.name not in solved]
    return [*rest, *(replace(one, hashes=hashes.get(one.name, frozenset())) for one in solution)]


def _index(order: Order) -> str:
    """The index to ask: the default one if a mirror stands behind it, so that private names stay private."""
    indexes = order.config.index
    mirrors = [name for name, index in indexes.items() if isinstance(index, Mirror)]
    name = order.index
    if name is None:
        default = order.config.default
        name = default if set(mirrors) & set(closure(order.config, default)) else next(iter(mirrors), default)
    if name in indexes and not set(mirrors) & set(closure(order.config, name)):
        hint = f"mirrors are: {', '.join(mirrors)}" if mirrors else 'the configuration needs an index of type "mirror"'
        raise Invalid(f"index {name!r} mirrors nothing", at="--index", hint=hint)
    return name


async def _filled(order: Order, name: str, wanted: Sequence[Wanted]) -> list[Filled]:
    async with running(order.config) as assembled:
        mounted = selection.mounted(assembled, name)
        jobs = asyncio.Semaphore(order.jobs)
        filling = Filling(mounted.index, assembled.catalog.sources, jobs=jobs)
        with busy("asking for pages"):
            planned = await filling.plan(wanted, order.choice)
        with _progress(planned) as report:
            return await filling.fetch(planned, report)


@contextmanager
def _progress(planned: Iterable[Planned]) -> Iterator[Report]:
    """A bar on a terminal, by bytes where all sizes are known."""
    files = {file.filename: file for one in planned for file in one.files}
    if not sys.stderr.isatty():
        yield lambda *_: None
        return
    sized = all(file.size is not None for file in files.values())
    columns = (DownloadColumn(), TransferSpeedColumn()) if sized else (MofNCompleteColumn(),)
    with Progress(TextColumn("{task.description}"), BarColumn(), *columns, console=Console(stderr=True)) as bar:
        total = sum(file.size or 0 for file in files.values()) if sized else len(files)
        task = bar.add_task("fetching", total=total)

        def report(file: File, fault: EntrepotError | None) -> None:
            if fault is not None:
                bar.console.print(f"failed: {file.filename}: {fault}", markup=False, highlight=False)
            bar.update(task, advance=(file.size or 0) if sized else 1, description=file.filename[:40])

        yield report


def _as_json(filled: Sequence[Filled], refused: Sequence[Refused]) -> dict[str, object]:
    return {
        "cached": list(dict.fromkeys(filename for one in filled for filename in one.kept)),
        "failed": [
            {"requirement": one.wanted.text, "at": one.wanted.at, "why": [str(fault) for fault in one.faults]}
            for one in filled
            if one.faults
        ],
        "unparseable": [{"line": line.text, "at": line.at, "why": line.why} for line in refused],
    }


def _show(filled: Sequence[Filled], refused: Sequence[Refused]) -> None:
    console = Console(highlight=False, soft_wrap=not sys.stdout.isatty())
    table = Table("requirement", "kept", "failed", box=None, pad_edge=False)
    for one in filled:
        failed = str(len(one.faults)) if one.faults else ""
        table.add_row(one.wanted.text.partition(" --hash")[0], str(len(one.kept)), failed)
    if filled:
        console.print(table)
    for one in filled:
        for fault in one.faults:
            typer.echo(f"failed: {fault}" if fault.at else f"failed: {one.wanted.name}: {fault}", err=True)
    for line in refused:
        typer.echo(f"not understood: {line.at}: {line.text!r}: {line.why}", err=True)
    kept = len({filename for one in filled for filename in one.kept})
    faults = sum(len(one.faults) for one in filled) + len(refused)
    typer.echo(f"{kept} files are kept here" + (f", {faults} faults" if faults else ""))
