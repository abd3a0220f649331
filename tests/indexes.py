"""Indexes in memory for tests of what is made of indexes, and a mirror that says what it was asked."""

from collections.abc import AsyncIterator, Callable, Mapping
from datetime import UTC, datetime, timedelta

from msgspec.structs import replace

from entrepot.assembly import cataloged
from entrepot.config import Config, Hosted, IndexSettings, checked
from entrepot.errors import EntrepotError, NotFound
from entrepot.index import Catalog, Content, Revision, Sink, Source, Span, Stream, absent
from entrepot.model import File, Project, ProjectName, normalise
from entrepot.sources.hosted import Hosted as HostedSource
from entrepot.stores.memory import Memory
from entrepot.wire import filenames

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
DAY = timedelta(days=1)
DEMO, OTHER = normalise("demo"), normalise("other")


def file(filename: str, *, sha256: str = "0", uploaded: datetime | None = NOON - 90 * DAY, **more: object) -> File:
    """A file as an upstream shows it; with another `sha256`, other bytes."""
    return File(
        filename=filename,
        version=filenames.parse(filename).version_text,
        size=4,
        hashes={"sha256": sha256 * 64},
        uploaded=uploaded,
        **more,  # type: ignore[arg-type]
    )


class Kept:
    """A source that has these pages, by name."""

    def __init__(self, name: str, *files: File) -> None:
        self.name = name
        self.pages: dict[ProjectName, Project | EntrepotError] = {}
        self.version = 1
        self.put(*files)

    def put(self, *files: File) -> None:
        """Have these files as well."""
        for one in files:
            name = filenames.parse(one.filename).project
            before = self.pages.get(name)
            known = before.files if isinstance(before, Project) else ()
            self.pages[name] = Project(name=name, files=filenames.ordered((*known, replace(one, origin=self.name))))
        self.version += 1

    def fail(self, name: ProjectName, error: EntrepotError) -> None:
        self.pages[name] = error
        self.version += 1

    async def projects(self) -> AsyncIterator[ProjectName]:
        for name in sorted(self.pages):
            yield name

    async def project(self, name: ProjectName) -> Project:
        page = self.pages.get(name, NotFound(f"no project {name}"))
        if isinstance(page, EntrepotError):
            raise page
        return page

    async def revision(self, name: ProjectName | None) -> Revision:
        if name is not None and isinstance(page := self.pages.get(name), EntrepotError):
            raise page
        return Revision(str(self.version)) if name is None or name in self.pages else absent(str(self.version))

    async def open(self, project: ProjectName, file: File, span: Span | None = None) -> Content:  # noqa: ARG002
        return Stream(body=_bytes(self.name), size=4)

    async def open_metadata(self, project: ProjectName, file: File) -> Content:  # noqa: ARG002
        if not file.core_metadata:
            raise NotFound("no metadata")
        return Stream(body=_bytes(self.name), size=4)


async def _bytes(name: str) -> AsyncIterator[bytes]:
    yield name.encode()[:4].ljust(4)


class Public(Kept):
    """A mirror. `asked` has every name that upstream was asked for, in whatever way; `cached` is kept here."""

    def __init__(self, name: str, *files: File) -> None:
        super().__init__(name, *files)
        self.asked: list[ProjectName | None] = []
        self.cached = Kept(name)

    async def project(self, name: ProjectName) -> Project:
        self.asked.append(name)
        return await super().project(name)

    async def revision(self, name: ProjectName | None) -> Revision:
        self.asked.append(name)
        return await super().revision(name)

    async def knows(self, name: ProjectName) -> bool:
        self.asked.append(name)
        try:
            await super().project(name)
        except NotFound:
            return False
        return True

    async def page_url(self, name: ProjectName) -> str:
        return f"https://upstream.example/simple/{name}/"

    def local(self) -> Kept:
        return self.cached


def catalog(
    index: Mapping[str, IndexSettings], *sources: Source, clock: Callable[[], datetime] = lambda: NOON
) -> Catalog:
    """The indexes as the server makes them: hosted ones in memory, and these sources for folders and mirrors."""
    config = checked(Config(data="/nowhere", default=list(index)[-1], index=dict(index)))
    store = Memory()
    hosted = {name: HostedSource(name, store) for name, kind in index.items() if isinstance(kind, Hosted)}
    given: dict[str, Source] = {**hosted, **{source.name: source for source in sources}}
    sinks: dict[str, Sink] = dict(hosted)
    return cataloged(config, {name: given[name] for name in index if name in given}, sinks, {"": store}, clock=clock)


def filenames_on(page: Project) -> list[str]:
    return [one.filename for one in page.files]


def held_on(page: Project) -> dict[str, tuple[str, str]]:
    """What is withheld: why, and by which rule."""
    return {held.file.filename: (held.why, held.by) for held in page.withheld}


class Clock:
    """Time that goes by when a test says so."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now
