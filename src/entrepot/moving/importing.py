"""Old files brought into an index that takes uploads, with the times at which they were published."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from fnmatch import fnmatchcase
from functools import partial

from msgspec import Struct

from entrepot import publish
from entrepot.errors import Conflict, EntrepotError, NotFound
from entrepot.index import Sink
from entrepot.model import ACTIVE, File, ProjectName, Removed
from entrepot.moving.ledger import Patience, Trouble, trouble
from entrepot.moving.origins import Arrived, Origin
from entrepot.moving.parallel import each


class Options(Struct, frozen=True, kw_only=True):
    """How to import. `projects` are patterns of normal names; none means all. `by` stands in the records."""

    by: str
    projects: tuple[str, ...] = ()
    jobs: int = 8
    dry_run: bool = False


class Counts(Struct, kw_only=True):
    """What became of a project's files."""

    imported: int = 0
    size: int = 0  # bytes imported
    present: int = 0
    legacy: int = 0
    troubles: int = 0


class Legacy(Struct, frozen=True, kw_only=True):
    """A file that was kept although it would be refused as an upload."""

    filename: str
    why: str


class Report(Struct, kw_only=True):
    """What was imported so far, or would be."""

    projects: dict[ProjectName, Counts] = {}
    imported: list[str] = []
    legacy: list[Legacy] = []
    troubles: list[Trouble] = []
    notes: list[str] = []
    stopped: EntrepotError | None = None  # why it ended early


class Progress(Struct, frozen=True, kw_only=True):
    """Who is told: `expect` of bytes that are to come, `advance` of those that have been dealt with."""

    expect: Callable[[int], None] = lambda _: None
    advance: Callable[[int], None] = lambda _: None


class _Known(Struct, frozen=True, kw_only=True):
    """What the index has of a project."""

    files: Mapping[str, File]
    removed: Mapping[str, Removed]


class Importing:
    """Brings what `origin` has to `sink`. May be cut and run again: what is there is not fetched anew."""

    def __init__(
        self, origin: Origin, sink: Sink, options: Options, *, clock: Callable[[], datetime],
        progress: Progress = Progress(),  # noqa: B008 - frozen
    ) -> None:  # fmt: skip
        self._origin = origin
        self._sink = sink
        self._options = options
        self._clock = clock
        self._progress = progress
        self._report = Report()
        self._patience = Patience()
        self._pages = asyncio.Semaphore(options.jobs)
        self._files = asyncio.Semaphore(options.jobs)

    async def run(self) -> Report:
        """Everything that can be had; `stopped` says why if the rest was given up."""
        try:
            await each(self._chosen(), self._project, self._pages)
        except EntrepotError as error:
            self._report.stopped = error
        self._report.notes += self._origin.notes
        return self._report

    async def _chosen(self) -> AsyncIterator[ProjectName]:
        patterns = self._options.projects
        found = False
        async for name in self._origin.projects():
            if not patterns or any(fnmatchcase(name, pattern) for pattern in patterns):
                found = True
                yield name
        if patterns and not found:
            self._report.notes.append(f"no project matches {' or '.join(patterns)}")

    async def _project(self, name: ProjectName) -> None:
        try:
            page = await self._origin.page(name)
            self._patience.succeeded()
            known = await self._known(name)
        except NotFound:
            return  # listed without a page
        except EntrepotError as error:
            self._note(name, error, name)
            return
        self._progress.expect(sum(file.size or 0 for file in page.files))
        await each(_each(page.files), partial(self._file, name, known), self._files)
        self._origin.leave(name)
        counts = self._report.projects.get(name)
        if page.status != ACTIVE and counts is not None and counts.imported and not self._options.dry_run:
            await self._sink.mark(name, page.status)

    async def _known(self, name: ProjectName) -> _Known:
        try:
            files = await self._sink.files(name)
        except NotFound:
            return _Known(files={}, removed={})
        removed = await self._sink.removed(name)
        return _Known(
            files={file.filename: file for file in files}, removed={one.file.filename: one for one in removed}
        )

    async def _file(self, project: ProjectName, known: _Known, file: File) -> None:
        counts = self._counts(project)
        try:
            if await self._is_there(project, known, file):
                counts.present += 1
            elif self._options.dry_run:
                self._imported(project, file.filename, file.size or 0)
            else:
                await self._import(project, file)
        except EntrepotError as error:
            self._note(file.filename, error, project)
        self._progress.advance(file.size or 0)

    async def _is_there(self, project: ProjectName, known: _Known, file: File) -> bool:
        """Raises `Conflict` if the index has, or had, something else under this name."""
        if (dead := known.removed.get(file.filename)) is not None:
            raise Conflict(
                f"was deleted here on {dead.at:%Y-%m-%d}", at=file.filename, hint="`entrepot restore` brings it back"
            )
        there = known.files.get(file.filename)
        if there is None:
            return False
        hashes = file.hashes
        if not there.hashes.keys() & hashes.keys() and (sha256 := await self._origin.sha256(project, file)) is not None:
            hashes = {"sha256": sha256}
        common = there.hashes.keys() & hashes.keys()
        if any(there.hashes[name] != hashes[name] for name in common):
            raise Conflict("is here already with other bytes", at=file.filename, hint="files never change; it stays")
        return bool(common)  # else only its bytes can tell

    async def _import(self, project: ProjectName, file: File) -> None:
        taken = False

        async def take(arrived: Arrived) -> None:
            nonlocal taken
            taken = True
            old = publish.Old(
                project=project,
                filename=file.filename,
                staged=arrived.staged,
                digests=arrived.digests,
                uploaded=self._uploaded(file, arrived),
                yanked=file.yanked,
            )
            done = await publish.keep(old, self._sink, by=self._options.by)
            if done.added:
                self._imported(project, file.filename, arrived.staged.size)
            else:
                self._counts(project).present += 1
            if done.added and done.legacy is not None:
                self._report.legacy.append(Legacy(filename=file.filename, why=done.legacy))
                self._counts(project).legacy += 1

        await self._origin.fetch(project, file, take)
        if not taken:  # another process has just imported it
            self._counts(project).present += 1
        self._patience.succeeded()

    def _uploaded(self, file: File, arrived: Arrived) -> datetime:
        """As the page says, else the answer; else now, which lets no rule take it for older than it may be."""
        now = self._clock()
        return min(file.uploaded or _moment(arrived.modified) or now, now)

    def _imported(self, project: ProjectName, filename: str, size: int) -> None:
        counts = self._counts(project)
        counts.imported += 1
        counts.size += size
        self._report.imported.append(filename)

    def _counts(self, project: ProjectName) -> Counts:
        return self._report.projects.setdefault(project, Counts())

    def _note(self, at: str, error: EntrepotError, project: ProjectName) -> None:
        self._counts(project).troubles += 1
        self._report.troubles.append(trouble(error, at, refusing=True))
        self._patience.failed(error)


async def _each(files: tuple[File, ...]) -> AsyncIterator[File]:
    for file in files:
        yield file


def _moment(text: str | None) -> datetime | None:
    """Of an HTTP date."""
    try:
        found = parsedate_to_datetime(text) if text is not None else None
    except ValueError:
        return None
    return found.replace(tzinfo=UTC) if found is not None and found.tzinfo is None else found
