"""Where old files come from: what the import asks of a place, and the place that is a folder."""

import hashlib
import os
import stat
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Protocol

from msgspec import Struct

from entrepot import publish
from entrepot.errors import EntrepotError, NotFound, Unavailable
from entrepot.index import Staged
from entrepot.model import File, Project, ProjectName
from entrepot.sources.folder import moment
from entrepot.sources.tree import Found, Tree
from entrepot.stores import failures, open_staging
from entrepot.threads import finished
from entrepot.wire import filenames

_PIECE = 1 << 20  # bytes read at once


class Arrived(Struct, frozen=True, kw_only=True):
    """A file that lies in staging, hashed."""

    staged: Staged
    digests: Mapping[str, str]
    modified: str | None = None  # Last-Modified, as it came


Take = Callable[[Arrived], Awaitable[None]]


class Origin(Protocol):
    """A place with distributions. Raises `Unavailable` where it fails, and `NotFound` for what it has not."""

    def projects(self) -> AsyncIterator[ProjectName]:
        """The names of what it has."""

    async def page(self, project: ProjectName) -> Project:
        """The project's files, with all that is known of them without reading them."""

    async def sha256(self, project: ProjectName, file: File) -> str | None:
        """Of the bytes, if that is cheaper than to fetch them."""

    async def fetch(self, project: ProjectName, file: File, take: Take) -> None:
        """Bring the bytes to staging, verified, have them taken, and remove what is left there."""

    def leave(self, project: ProjectName) -> None:
        """Nothing more of the project is wanted."""

    @property
    def notes(self) -> list[str]:
        """What else whoever imports should know."""


class Folder:
    """The distributions below a directory. When a file was last changed is when it was uploaded."""

    def __init__(self, root: Path, staging: Path) -> None:
        self._root = root
        self._staging = staging
        self._tree = Tree((root,))

    @property
    def notes(self) -> list[str]:
        return [f"{path}: cannot be looked into: {why}" for path, why in self._tree.unreadable.items()]

    async def projects(self) -> AsyncIterator[ProjectName]:
        await finished(self._tree.look)
        if self._tree.missing:
            raise Unavailable("there is no such folder", at=str(self._root))
        for name in self._tree.names():
            yield name

    async def page(self, project: ProjectName) -> Project:
        return await finished(self._page, project)

    def _page(self, project: ProjectName) -> Project:
        files = [file for found in self._tree.files(project) if (file := _file(project, found)) is not None]
        return Project(name=project, files=filenames.ordered(files))

    async def sha256(self, project: ProjectName, file: File) -> str | None:
        return await finished(_sha256, self._path(project, file))

    async def fetch(self, project: ProjectName, file: File, take: Take) -> None:
        # A copy: what is linked into a store must not change under anybody's hands.
        staging = await finished(open_staging, self._staging)
        try:
            digests, size = await finished(_read, self._path(project, file), staging.write)
            staged = Staged(path=staging.path, size=size, sha256=digests["sha256"])
            await take(Arrived(staged=staged, digests=digests))
        finally:
            await finished(staging.close_and_remove)

    def leave(self, project: ProjectName) -> None:
        pass

    def _path(self, project: ProjectName, file: File) -> str:
        found = self._tree.find(project, file.filename)
        if found is None:
            raise NotFound("is gone", at=file.filename)
        return found.path


def _file(project: ProjectName, found: Found) -> File | None:
    """What a look from outside tells; None if it is no file."""
    try:
        there = os.stat(found.path)
    except FileNotFoundError:
        return None  # it went away, or is a link to nothing
    except OSError as error:
        raise _failed(error, found.path) from error
    if not stat.S_ISREG(there.st_mode):
        return None
    version = filenames.parse(found.filename, project=project).version_text
    return File(filename=found.filename, version=version, size=there.st_size, uploaded=moment(there.st_mtime_ns))


def _sha256(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise _failed(error, path) from error


def _read(path: str, write: Callable[[bytes], None]) -> tuple[dict[str, str], int]:
    """Copy and hash in one pass: the digests are of what was copied, whatever happens to the file."""
    running, size = publish.hashes(), 0
    try:
        with open(path, "rb") as file:
            while piece := file.read(_PIECE):
                write(piece)
                size += len(piece)
                for one in running.values():
                    one.update(piece)
    except OSError as error:
        raise _failed(error, path) from error
    return {name: one.hexdigest() for name, one in running.items()}, size


def digests(path: Path) -> dict[str, str]:
    """Of a complete file in staging. Blocking."""
    return _read(str(path), lambda _: None)[0]


def _failed(error: OSError, path: str) -> EntrepotError:
    return failures.while_reading(error, path, os.path.dirname(path))
