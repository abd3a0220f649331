"""`type = "folder"`: the distributions that lie in some directories, at any depth, as they are.

Nothing is written there. What was learned about a file is remembered by its path, size and time in the
node's folder, which may be deleted at any time.
"""

import asyncio
import hashlib
import itertools
import logging
import os
import stat
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from weakref import WeakValueDictionary

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from entrepot import distributions
from entrepot.errors import Conflict, EntrepotError, Invalid, NotFound, Unavailable
from entrepot.index import Content, OnDisk, Revision, Span, Stream, absent
from entrepot.model import File, Project, ProjectName, Withheld
from entrepot.sources.names import Names
from entrepot.sources.tree import Found, Tree
from entrepot.stores import failures
from entrepot.stores.entries import cut
from entrepot.stores.pieces import Pieces
from entrepot.threads import finished
from entrepot.wire import filenames

log = logging.getLogger(__name__)

_EVERY = 1.0  # seconds between two looks at the directories
_TICK = 20_000_000  # ns: what clocks of file systems count in is shorter


class Learned(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What reading a file told; holds while its size and times are these.

    Build tools and `cp -p` give new bytes an old `mtime`; nobody can set `ctime`.
    """

    size: int
    mtime_ns: int
    ctime_ns: int
    sha256: str
    requires_python: str | None = None
    metadata_sha256: str | None = None
    legacy: str | None = None  # why today's form checks would refuse it
    unsafe: str | None = None  # why it is withheld


class Folder:
    """A source over directories. `running` keeps it up to date."""

    def __init__(
        self, name: str, roots: tuple[Path, ...], *, learned: Path, names: Names, every: float = _EVERY
    ) -> None:
        self.name = name
        self._tree = Tree(roots)
        self._learned = learned
        self._names = names
        self._every = every
        self._looked = False  # commands ask without `running`: they see what there is when they first ask
        self._unreadable: dict[str, str] = {}
        self._looking = asyncio.Lock()
        self._building: WeakValueDictionary[ProjectName, asyncio.Lock] = WeakValueDictionary()
        self._newest: dict[ProjectName, int] = {}  # the greatest ctime of the files on a page
        self._pending: set[ProjectName] = set()  # touched, and not yet entered among the names
        self._ticks = itertools.count(1)
        self._revisions: dict[ProjectName, int] = {}
        self._revision = 0  # of the list of names

    def pulse(self) -> object:
        """Changes with every look that found something new."""
        return self._revision

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Looks once before it yields, then every second until it ends."""
        with suppress(OSError):  # without it nothing is remembered, which is said when it is tried
            self._learned.mkdir(parents=True, exist_ok=True)
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
        if not self._looked:
            await self._look()
        for name in self._tree.names():
            yield name

    async def project(self, name: ProjectName) -> Project:
        if not self._looked:
            await self._look()
        found = self._tree.files(name)
        if not found:
            if await self._names.knows(name):
                # Once served from here, a name stays ours: nobody else may answer it until it is released.
                return Project(name=name)
            raise NotFound(f"no project {name} in folder index {self.name}")
        async with self._building.setdefault(name, asyncio.Lock()):
            return await finished(self._page, name, found)

    async def revision(self, name: ProjectName | None) -> Revision:
        if not self._looked:
            await self._look()
        if name is None:
            return Revision(f"n{self._revision}")
        stamp = self._revisions.get(name)
        if stamp is not None:
            return Revision(f"f{stamp}")
        return Revision("remembered") if await self._names.knows(name) else absent()

    async def forget(self, name: ProjectName) -> None:
        if not self._looked:
            await self._look()
        if self._tree.files(name):
            raise Conflict(f"folder index {self.name} has files of {name}", hint="take them out of the folder first")
        if not await self._names.knows(name):
            raise NotFound(f"folder index {self.name} does not remember {name}")
        await self._names.release(name)

    async def open(self, project: ProjectName, file: File, span: Span | None = None) -> Content:
        path = self._path(project, file)
        try:
            return await finished(_open, path, file, span, self._newest.get(project, 0))
        except _Changed:
            raise self._changed(project, file) from None

    async def open_metadata(self, project: ProjectName, file: File) -> Content:
        if not file.core_metadata:
            raise NotFound(f"{file.filename} has no metadata file")
        path = self._path(project, file)
        try:
            data = await finished(_metadata, path, file.filename)
        except Invalid:
            raise self._changed(project, file) from None
        if file.core_metadata != {"sha256": hashlib.sha256(data).hexdigest()}:
            raise self._changed(project, file)
        return Stream(body=_once(data), size=len(data))

    def _changed(self, project: ProjectName, file: File) -> Unavailable:
        """The next page is made anew; this one's bytes are not to be had any more."""
        self._touch({project})
        return Unavailable("the file changed since its page was made", at=file.filename, retry_after=1)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self._every)
            try:
                await self._look()
            except EntrepotError as error:
                log.error("folder index %s cannot be looked at: %s", self.name, error)  # noqa: TRY400

    async def _look(self) -> None:
        async with self._looking:
            # Kept until they are entered: when the store fails, the next look tries again.
            self._pending |= await finished(self._tree.look)
            self._warn_of_unreadable()
            if self._pending:
                await self._names.enter(*(name for name in self._pending if self._tree.files(name)))
                self._touch(self._pending)
                self._pending.clear()
            self._looked = True

    def _warn_of_unreadable(self) -> None:
        unreadable = self._tree.unreadable
        for path in unreadable.keys() - self._unreadable.keys():
            log.warning("folder index %s: %s cannot be looked into: %s", self.name, path, unreadable[path])
        self._unreadable = unreadable

    def _touch(self, names: set[ProjectName]) -> None:
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
            except OSError as error:
                if error.errno in failures.ABSENT:
                    continue  # it went away, or is a link to nothing
                raise Unavailable(f"cannot be read: {error.strerror}", at=item.path) from error
            if learned is None:
                continue
            now[item.path] = learned
            file = self._file(name, item, learned)
            if learned.unsafe is None:
                files.append(file)
            else:
                withheld.append(Withheld(file=file, why=learned.unsafe))
        if now != known:
            _remember(memory, now)
        self._newest[name] = max((learned.ctime_ns for learned in now.values()), default=0)
        return Project(name=name, files=filenames.ordered(files), withheld=tuple(withheld))

    def _file(self, project: ProjectName, item: Found, learned: Learned) -> File:
        digest = learned.metadata_sha256
        return File(
            filename=item.filename,
            version=filenames.parse(item.filename, project=project).version_text,
            size=learned.size,
            hashes={"sha256": learned.sha256},
            uploaded=moment(learned.mtime_ns),
            requires_python=learned.requires_python,
            core_metadata={"sha256": digest} if digest is not None else False,
            legacy=learned.legacy,
            origin=self.name,
        )


def _learn(item: Found, known: Learned | None) -> Learned | None:
    """What is known of the file if that still holds, else what reading it tells; None if it is no file."""
    found = os.stat(item.path)
    if not stat.S_ISREG(found.st_mode):
        return None  # a named pipe would make us wait for its writer
    if known is not None and (known.size, known.mtime_ns, known.ctime_ns) == _stamp(found):
        return known
    if 0 <= time.time_ns() - found.st_ctime_ns < _TICK:
        # What is written to it in the same tick would not change its times. Later than this, it does.
        time.sleep(_TICK / 1e9)
        found = os.stat(item.path)
    with open(item.path, "rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    size, mtime_ns, ctime_ns = _stamp(found)
    seen = Learned(size=size, mtime_ns=mtime_ns, ctime_ns=ctime_ns, sha256=sha256)
    try:
        inspection = distributions.inspect(Path(item.path), item.filename, thorough=False)
    except Invalid as error:  # no metadata can be had, or only at a risk
        return replace(seen, unsafe="; ".join(map(str, error.problems or (error,))))
    data = inspection.metadata_bytes
    return replace(
        seen,
        unsafe="; ".join(map(str, inspection.safety)) or None,
        legacy=str(inspection.form[0]) if inspection.form else None,
        metadata_sha256=hashlib.sha256(data).hexdigest() if data is not None else None,
        requires_python=inspection.metadata.requires_python or None,
    )


def _stamp(found: os.stat_result) -> tuple[int, int, int]:
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns


class _Changed(Exception):
    """The file is not the one of the page."""


def _open(path: str, file: File, span: Span | None, newest: int) -> Content:
    """The file's bytes, if they are those of its page. `newest` is the greatest ctime that the page has seen."""
    with failures.translated(failures.while_reading, file.filename, os.path.dirname(path)):
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            found = os.fstat(fd)
            if (found.st_size, moment(found.st_mtime_ns)) != (file.size, file.uploaded):
                raise _Changed
            if found.st_ctime_ns > newest:  # written to, or only given another owner or a further name
                with open(fd, "rb", closefd=False) as whole:
                    if hashlib.file_digest(whole, "sha256").hexdigest() != file.hashes["sha256"]:
                        raise _Changed
            if span is None:
                return OnDisk(path=Path(path), size=found.st_size, mtime_ns=found.st_mtime_ns)
            part = cut(span, found.st_size)
            body = Pieces(os.dup(fd), part, key=file.filename, root=os.path.dirname(path))
            return Stream(body=body, size=part.stop - part.start)
        finally:
            os.close(fd)


def _metadata(path: str, filename: str) -> bytes:
    with failures.translated(failures.while_reading, filename, os.path.dirname(path)):
        return distributions.read_metadata(Path(path), filename)


def moment(mtime_ns: int) -> datetime | None:
    """The upload time of a file that was last written then."""
    try:
        return datetime.fromtimestamp(mtime_ns // 1000 / 1_000_000, UTC)
    except (OverflowError, ValueError):
        return None  # a year that no calendar has


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
    if not memory.parent.is_dir():
        return  # only a server makes it: a command leaves nothing where it was pointed by mistake
    try:
        draft = memory.with_name(f"{memory.name}.{os.getpid()}")
        draft.write_bytes(msgspec.json.encode(learned))
        draft.replace(memory)
    except (OSError, UnicodeEncodeError) as error:  # a folder's name may be no text
        log.warning("what was learned about %s cannot be kept: %s", memory.stem, error)
