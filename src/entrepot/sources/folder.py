"""`type = "folder"`: the distributions that lie in some directories, at any depth, as they are.

Nothing is written there. What was learned about a file is remembered by its path, size and time in the
node's folder, which may be deleted at any time.
"""

import asyncio
import hashlib
import itertools
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from entrepot import distributions
from entrepot.errors import EntrepotError, Invalid, NotFound, Unavailable
from entrepot.index import Content, OnDisk, Revision, Span, Stream, absent
from entrepot.model import File, Project, ProjectName, Withheld
from entrepot.sources.names import Names
from entrepot.sources.tree import Found, Tree
from entrepot.stores import failures
from entrepot.stores.pieces import Pieces
from entrepot.threads import finished
from entrepot.wire import filenames

log = logging.getLogger(__name__)

_EVERY = 1.0  # seconds between two looks at the directories


class Learned(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What reading a file told; holds while its size and time are these."""

    size: int
    mtime_ns: int
    sha256: str
    requires_python: str | None = None
    metadata_sha256: str | None = None
    legacy: str | None = None  # why today's form checks would refuse it
    unsafe: str | None = None  # why it is withheld


class Folder:
    """A source over directories. `running` keeps it up to date."""

    def __init__(self, name: str, roots: tuple[Path, ...], *, learned: Path, names: Names) -> None:
        self.name = name
        self._tree = Tree(roots)
        self._learned = learned
        self._names = names
        self._looking = asyncio.Lock()
        self._ticks = itertools.count(1)
        self._revisions: dict[ProjectName, int] = {}
        self._revision = 0  # of the list of names

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Looks once before it yields, then every second until it ends."""
        await self._look()
        for root in self._tree.missing:
            log.warning("folder index %s: %s is not there, so it is empty for now", self.name, root)
        watch = asyncio.create_task(self._watch())
        try:
            yield
        finally:
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)

    async def projects(self) -> AsyncIterator[ProjectName]:
        for name in self._tree.names():
            yield name

    async def project(self, name: ProjectName) -> Project:
        found = self._tree.files(name)
        if not found:
            if await self._names.knows(name):
                # Once served from here, a name stays ours: nobody else may answer it until it is released.
                return Project(name=name)
            raise NotFound(f"no project {name} in folder index {self.name}", at=name)
        async with self._looking:
            return await finished(self._page, name, found)

    async def revision(self, name: ProjectName | None) -> Revision:
        if name is None:
            return Revision(f"n{self._revision}")
        stamp = self._revisions.get(name)
        if stamp is not None:
            return Revision(f"f{stamp}")
        return Revision("remembered") if await self._names.knows(name) else absent()

    async def open(self, project: ProjectName, file: File, span: Span | None = None) -> Content:
        path = self._path(project, file)
        fd = await finished(_opened, path)
        found = os.fstat(fd)
        if (found.st_size, _moment(found.st_mtime_ns)) != (file.size, file.uploaded):
            os.close(fd)
            self._touch({project})
            raise Unavailable("the file changed since its page was made", at=file.filename, retry_after=1)
        if span is not None:
            part = Pieces(fd, span, key=file.filename, root=os.path.dirname(path))
            return Stream(body=part, size=span.stop - span.start)
        os.close(fd)
        return OnDisk(path=Path(path), size=found.st_size, mtime_ns=found.st_mtime_ns)

    async def open_metadata(self, project: ProjectName, file: File) -> Content:
        if not file.core_metadata:
            raise NotFound(f"{file.filename} has no metadata file")
        path = self._path(project, file)
        data = await finished(distributions.read_metadata, Path(path), file.filename)
        if file.core_metadata != {"sha256": hashlib.sha256(data).hexdigest()}:
            self._touch({project})
            raise Unavailable("the file changed since its page was made", at=file.filename, retry_after=1)
        return Stream(body=_once(data), size=len(data))

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_EVERY)
            try:
                await self._look()
            except (OSError, EntrepotError) as error:
                log.error("folder index %s cannot be looked at: %s", self.name, error)  # noqa: TRY400

    async def _look(self) -> None:
        async with self._looking:
            touched = await finished(self._tree.look)
        if touched:
            await self._names.enter(*(name for name in touched if self._tree.files(name)))
            self._touch(touched)

    def _touch(self, names: set[ProjectName] | frozenset[ProjectName]) -> None:
        tick = next(self._ticks)
        for name in names:
            if self._tree.files(name):
                self._revisions[name] = tick
            else:
                self._revisions.pop(name, None)
        self._revision = tick

    def _path(self, project: ProjectName, file: File) -> str:
        found = self._tree.find(project, file.filename)
        if found is None:
            raise NotFound(f"{file.filename} is gone", at=file.filename)
        return found.path

    def _page(self, name: ProjectName, found: tuple[Found, ...]) -> Project:
        """Stats every file of the project and reads those that are new or changed. Blocking."""
        memory = self._learned / f"{name}.json"
        known = _recalled(memory)
        now: dict[str, Learned] = {}
        files, withheld = [], []
        for item in found:
            try:
                learned = _learn(item, known.get(item.path))
            except FileNotFoundError:
                continue  # it went away; the next look sees it
            except OSError as error:
                raise Unavailable(f"cannot be read: {error.strerror}", at=item.path) from error
            now[item.path] = learned
            file = self._file(name, item, learned)
            if learned.unsafe is None:
                files.append(file)
            else:
                withheld.append(Withheld(file=file, why=learned.unsafe))
        if now != known:
            _remember(memory, now)
        return Project(name=name, files=filenames.ordered(files), withheld=tuple(withheld))

    def _file(self, project: ProjectName, item: Found, learned: Learned) -> File:
        digest = learned.metadata_sha256
        return File(
            filename=item.filename,
            version=filenames.parse(item.filename, project=project).version_text,
            size=learned.size,
            hashes={"sha256": learned.sha256},
            uploaded=_moment(learned.mtime_ns),
            requires_python=learned.requires_python,
            core_metadata={"sha256": digest} if digest is not None else False,
            legacy=learned.legacy,
            origin=self.name,
        )


def _learn(item: Found, known: Learned | None) -> Learned:
    """What is known of the file if that still holds, else what reading it tells."""
    found = os.stat(item.path)
    if known is not None and (known.size, known.mtime_ns) == (found.st_size, found.st_mtime_ns):
        return known
    with open(item.path, "rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    seen = Learned(size=found.st_size, mtime_ns=found.st_mtime_ns, sha256=sha256)
    try:
        inspection = distributions.inspect(Path(item.path), item.filename, thorough=False)
    except Invalid as error:  # no metadata can be had, or only at a risk
        return replace(seen, unsafe=str(error))
    data = inspection.metadata_bytes
    return replace(
        seen,
        unsafe="; ".join(map(str, inspection.safety)) or None,
        legacy=str(inspection.form[0]) if inspection.form else None,
        metadata_sha256=hashlib.sha256(data).hexdigest() if data is not None else None,
        requires_python=inspection.metadata.requires_python or None,
    )


def _opened(path: str) -> int:
    """A descriptor of the file; what opening it raises becomes one of our errors."""
    with failures.translated(failures.while_reading, path, os.path.dirname(path)):
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)


def _moment(mtime_ns: int) -> datetime:
    return datetime.fromtimestamp(mtime_ns // 1000 / 1_000_000, UTC)


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data


_decoder = msgspec.json.Decoder(dict[str, Learned])


def _recalled(memory: Path) -> dict[str, Learned]:
    try:
        return _decoder.decode(memory.read_bytes())
    except (OSError, msgspec.MsgspecError):
        return {}  # only a memory: whatever is wrong with it, the files tell everything again


def _remember(memory: Path, learned: dict[str, Learned]) -> None:
    """Atomically, but without fsync: a memory that a crash cut short is learned again."""
    try:
        memory.parent.mkdir(parents=True, exist_ok=True)
        draft = memory.with_name(f"{memory.name}.{os.getpid()}")
        draft.write_bytes(msgspec.json.encode(learned))
        draft.replace(memory)
    except OSError as error:
        log.warning("what was learned about %s cannot be kept: %s", memory.stem, error)
