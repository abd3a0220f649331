"""`archive pull` and `pull-list`: several at once, told in the order in which they were asked for."""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import typer
from msgspec import Struct
from msgspec.structs import replace

from entrepot.archives import LATEST, Archive, Archives, Version, lock, operations
from entrepot.archives.local import Progress, destination, is_here, nothing, pull
from entrepot.archives.reading import of_file
from entrepot.cli import archiving
from entrepot.cli.archive_places import Place, Where, opened
from entrepot.cli.archiving import say, shown, told
from entrepot.cli.console import show_json
from entrepot.errors import Conflict, EntrepotError, Invalid, NotFound
from entrepot.index import Stream
from entrepot.stores.collecting import digest_of


class Order(Struct, frozen=True, kw_only=True):
    """What the command line asks for."""

    names: list[str]
    version: str = LATEST
    force: bool = False
    outfile: Path | None = None
    jobs: int = 4
    lock: bool = False
    locked: bool = False
    dry_run: bool = False
    as_json: bool = False


class Target(Struct, frozen=True, kw_only=True):
    """One archive, and what is to become of it here."""

    name: str
    version: Version
    path: Path
    here: bool


class Outcome(Struct, frozen=True, kw_only=True):
    """What became of it. `fault` None: it is here."""

    name: str
    version: str | None = None
    path: str | None = None
    etag: str | None = None
    size: int | None = None
    sha256: str | None = None
    skipped: bool = False
    fault: str | None = None


def run(where: Where, order: Order) -> None:
    archiving.run(_run(where, order))


async def _run(where: Where, order: Order) -> None:
    async with opened(where, missing="ignore") as place:
        planned = await _plan(place, order)
        with _bars(order, planned) as bars:
            outcomes = await _carried_out(place.archives, order, planned, bars)
    if order.lock and not order.dry_run:
        held = [one for one in outcomes if one.fault is None and one.version is not None and one.sha256 is not None]
        lock.save(
            Path(lock.FILE),
            [lock.Locked(name=one.name, version=one.version or "", sha256=one.sha256 or "") for one in held],
        )
    if order.as_json:
        show_json(outcomes)
    if any(one.fault is not None for one in outcomes):
        raise typer.Exit(1)


# A target, or why there is none.
Planned = tuple[str, Target | EntrepotError]


async def _plan(place: Place, order: Order) -> list[Planned]:
    """Every archive that is meant, in order. Raises `Invalid` where two would be written to one path."""
    held = lock.load(Path(lock.FILE)) if order.locked else {}
    patterns = order.names or sorted(held)
    names = await operations.names(place.archives, patterns) if patterns else []
    if order.outfile is not None and len(names) > 1:
        raise Invalid(f"{len(names)} archives cannot go to one file", at="--outfile", hint="use --outdir")
    limit = asyncio.Semaphore(max(order.jobs, 8))

    async def planned(name: str) -> Planned:
        async with limit:
            try:
                return name, await _target(place, order, name, held)
            except EntrepotError as error:
                return name, error

    found = list(await asyncio.gather(*map(planned, names)))
    _refuse_collisions([target for _, target in found if isinstance(target, Target)])
    return found


async def _target(place: Place, order: Order, name: str, held: dict[str, lock.Locked]) -> Target:
    if order.locked and name not in held:
        raise NotFound(f"{name} is not locked", at=lock.FILE, hint=f"`pull {name} --lock` adds it")
    archive = await place.archives.archive(name)
    version = _locked(archive, held[name]) if order.locked else operations.wanted(archive, order.version)
    if order.outfile is not None:
        path = order.outfile.absolute()
    elif archive.localname is not None:
        path = destination(place.outdir, archive.localname)
    else:
        hint = f"`entrepot archive init {name} FILENAME` says it; or pull with --outfile"
        raise NotFound(f"nobody has said what the file of {name} is called", hint=hint)
    here = not order.force and is_here(path, version)
    if here and order.locked:
        here = await _digest(path) == version.sha256
    return Target(name=name, version=version, path=path, here=here)


def _locked(archive: Archive, one: lock.Locked) -> Version:
    """The version that is locked, with the sha256 that it must have."""
    version = archive.version(one.version)
    if version.sha256 not in {None, one.sha256}:
        words = f"version {one.version} of {one.name} has the sha256 {version.sha256}, and {one.sha256} is locked"
        raise Conflict(words, hint="somebody replaced one of the two")
    return replace(version, sha256=one.sha256)


def _refuse_collisions(targets: Sequence[Target]) -> None:
    taken: dict[Path, str] = {}
    for target in targets:
        if target.path in taken:
            words = f"{taken[target.path]} and {target.name} are both called {target.path} here"
            raise Invalid(words, hint="pull them one by one, with --outfile")
        taken[target.path] = target.name


async def _carried_out(
    archives: Archives, order: Order, planned: Sequence[Planned], bars: "Callable[[Target], Progress]"
) -> list[Outcome]:
    limit = asyncio.Semaphore(order.jobs)

    async def fetched(target: Target) -> str:
        async with limit:
            return await pull(archives, target.name, target.version, target.path, progress=bars(target))

    wanted = [target for _, target in planned if isinstance(target, Target)]
    tasks = {
        target.name: asyncio.create_task(fetched(target)) for target in wanted if not (target.here or order.dry_run)
    }
    try:
        return [await _told(order, name, target, tasks.get(name)) for name, target in planned]
    finally:
        for task in tasks.values():
            task.cancel()
        await asyncio.gather(*tasks.values(), return_exceptions=True)


async def _told(
    order: Order, name: str, target: Target | EntrepotError, fetching: Awaitable[str] | None
) -> Outcome:  # fmt: skip
    """What becomes of one, said as it comes: the lines of tycho, in the order in which they were asked for."""
    if isinstance(target, EntrepotError):
        told(target)
        return Outcome(name=name, fault=str(target))
    version, tell = target.version, nothing_said if order.as_json else say
    outcome = Outcome(
        name=name, version=version.version, path=str(target.path), etag=version.etag, size=version.size,
        sha256=version.sha256, skipped=target.here,
    )  # fmt: skip
    if target.here:
        tell(f"Skipping: {name}")
        return replace(outcome, sha256=await _digest(target.path)) if order.lock else outcome
    if fetching is None:
        tell(f"Would pull: {name} {version.version} -> {target.path}")
        return outcome
    tell(f"Pulling: {name} {version.version} -> {target.path}")
    try:
        sha256 = await fetching
    except EntrepotError as error:
        told(error)
        return replace(outcome, fault=str(error))
    tell(f"File Hash: {version.etag}")
    return replace(outcome, sha256=sha256)


def nothing_said(_: str) -> None:
    """For answers in JSON."""


async def _digest(path: Path) -> str:
    return await digest_of(Stream(body=of_file(path), size=None))


@contextmanager
def _bars(order: Order, planned: Sequence[Planned]) -> "Iterator[Callable[[Target], Progress]]":
    """A bar for each file that is being fetched, on a terminal."""
    some = any(isinstance(target, Target) and not target.here for _, target in planned)
    if not sys.stderr.isatty() or order.dry_run or not some:
        yield lambda _: nothing
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    # Where only stderr is a terminal, our lines must go on to wherever stdout leads.
    with Progress(*columns, console=Console(stderr=True), redirect_stdout=sys.stdout.isatty()) as bar:

        def begun(target: Target) -> Callable[[int], None]:
            task = bar.add_task(shown(target.name)[:40], total=target.version.size)
            return lambda amount: bar.advance(task, amount)

        yield begun
