"""Filling mirrors ahead of time: from what is wanted to files that are kept here."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol, cast

from msgspec import Struct

from entrepot.errors import Conflict, EntrepotError, NotFound
from entrepot.index import Index, Source
from entrepot.model import File, Project, ProjectName
from entrepot.wire.choice import Choice, agrees, check
from entrepot.wire.requirements import Wanted


class Keeping(Source, Protocol):
    """A source that can be made to keep files: a mirror."""

    async def fetch(self, project: ProjectName, file: File) -> None:
        """Make the file be kept here, if it is not."""

    async def pin(self, project: ProjectName, names: frozenset[str]) -> None:
        """These files are never taken out."""


class Planned(Struct, frozen=True, kw_only=True):
    """What one requirement comes to: files, and why not all of them."""

    wanted: Wanted
    files: tuple[File, ...] = ()
    error: EntrepotError | None = None


class Filled(Struct, frozen=True, kw_only=True):
    """What became of a requirement. `kept` are filenames; each fault is one of a file, or the only one."""

    wanted: Wanted
    kept: tuple[str, ...] = ()
    faults: tuple[EntrepotError, ...] = ()


# Called as each file is done: the file, and what went wrong.
Report = Callable[[File, EntrepotError | None], None]


class Filling:
    """Fills what stands behind `index`. As many pages or files are under way at once as `jobs` lets."""

    def __init__(self, index: Index, sources: Mapping[str, Source], *, jobs: asyncio.Semaphore) -> None:
        self._index = index
        self._sources = sources
        self._jobs = jobs

    async def plan(self, wanted: Iterable[Wanted], choice: Choice) -> list[Planned]:
        """Ask for the page of each and choose from it, in the order given; what does not apply is left out."""
        applying = [one for one in wanted if choice.targets.hold(one.marker)]
        return list(await asyncio.gather(*(self._plan(one, choice) for one in applying)))

    async def _plan(self, wanted: Wanted, choice: Choice) -> Planned:
        try:
            async with self._jobs:
                page = await self._index.project(wanted.name)
            files, missing = choice.of(page, wanted), choice.missing(page, wanted)
        except EntrepotError as error:
            return Planned(wanted=wanted, error=error)
        fault = NotFound(f"{', '.join(missing)}: not on the page of {wanted.name}", at=wanted.at) if missing else None
        return Planned(wanted=wanted, files=files, error=fault)

    async def fetch(self, planned: Sequence[Planned], report: Report = lambda *_: None) -> list[Filled]:
        """Get every file, each once, and pin those of locks."""
        files = {(one.wanted.name, file.filename): file for one in planned for file in one.files}
        got = await asyncio.gather(*(self._fetch(name, file, report) for (name, _), file in files.items()))
        faults = dict(zip(files, got, strict=True))
        return list(await asyncio.gather(*(self._finished(one, faults) for one in planned)))

    async def _fetch(self, name: ProjectName, file: File, report: Report) -> EntrepotError | None:
        """What went wrong. A file of an index that is no mirror is here already."""
        fault = None
        source = self._sources[file.origin]
        try:
            async with self._jobs:
                if hasattr(source, "fetch"):
                    await cast("Keeping", source).fetch(name, file)
        except EntrepotError as error:
            fault = error
        report(file, fault)
        return fault

    async def _finished(
        self, planned: Planned, faults: Mapping[tuple[ProjectName, str], EntrepotError | None]
    ) -> Filled:
        wanted = planned.wanted
        failed = {file.filename: faults[wanted.name, file.filename] for file in planned.files}
        kept = [file for file in planned.files if failed[file.filename] is None]
        found = [fault for fault in (planned.error, *failed.values()) if fault is not None]
        try:
            kept, wrong = await self._verified(wanted, kept)
            found += wrong
            if wanted.files:
                await self._pin(wanted.name, kept)
        except EntrepotError as error:
            found.append(error)
        return Filled(wanted=wanted, kept=tuple(file.filename for file in kept), faults=tuple(found))

    async def _verified(self, wanted: Wanted, files: list[File]) -> tuple[list[File], list[EntrepotError]]:
        """Those that have the hashes which are wanted, where upstream's page did not tell them."""
        if all(agrees(file, wanted) for file in files):
            return files, []
        page = await self._index.project(wanted.name)
        kept: list[File] = []
        faults: list[EntrepotError] = []
        for file in files:
            try:
                _check_again(page, file, wanted)
                kept.append(file)
            except EntrepotError as error:
                faults.append(error)
        return kept, faults

    async def _pin(self, name: ProjectName, files: Iterable[File]) -> None:
        by_origin: dict[str, set[str]] = {}
        for file in files:
            by_origin.setdefault(file.origin, set()).add(file.filename)
        for origin, names in by_origin.items():
            source = self._sources[origin]
            if hasattr(source, "pin"):
                await cast("Keeping", source).pin(name, frozenset(names))


def _check_again(page: Project, file: File, wanted: Wanted) -> None:
    now = page.file(file.filename)
    check(now, wanted)
    if agrees(now, wanted) is None:
        raise Conflict(f"{file.filename}: its hash cannot be compared with the one that is wanted", at=wanted.at)
