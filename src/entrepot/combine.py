"""Indexes made of indexes: the first that knows a name answers, and an answer is remembered while it holds."""

import heapq
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime

from entrepot.errors import NotFound
from entrepot.index import Index, Revision, absent, is_absent
from entrepot.model import Project, ProjectName


class First:
    """The first member that knows a name owns it: its page is the answer, never mixed with another's.

    `Denied` and `Unavailable` of a member stop the search: a private index that is down must not let the
    public one answer for it.
    """

    def __init__(self, members: Sequence[Index]) -> None:
        self._members = tuple(members)

    async def projects(self) -> AsyncIterator[ProjectName]:
        last = None
        async for name in _merged([member.projects() for member in self._members]):
            if name != last:
                yield name
            last = name

    async def project(self, name: ProjectName) -> Project:
        for member in self._members:
            try:
                return await member.project(name)
            except NotFound:
                continue  # Denied and Unavailable pass through, on purpose
        raise NotFound(f"no project {name}")

    async def revision(self, name: ProjectName | None) -> Revision:
        """The members' revisions up to the owner, absences included: a new owner further up changes it."""
        seen: list[str] = []
        for member in self._members:
            revision = await member.revision(name)
            if name is not None and not is_absent(revision):
                return Revision("|".join([revision, *seen]))  # the owner's first: it is what tells it from absence
            seen.append(revision)
        together = "|".join(seen)
        return absent(together) if name is not None else Revision(together)


async def _merged(streams: Sequence[AsyncIterator[ProjectName]]) -> AsyncIterator[ProjectName]:
    """Several ordered streams as one, in order."""
    heads: list[tuple[ProjectName, int]] = []
    for number, stream in enumerate(streams):
        async for name in stream:
            heads.append((name, number))
            break
    heapq.heapify(heads)
    while heads:
        name, number = heads[0]
        yield name
        try:
            heapq.heapreplace(heads, (await anext(streams[number]), number))
        except StopAsyncIteration:
            heapq.heappop(heads)


class Remembered:
    """Keeps pages while their revision and `valid_until` hold, up to `limit` files together."""

    def __init__(self, index: Index, *, clock: Callable[[], datetime], limit: int = 20_000) -> None:
        self._index = index
        # The index's own methods, not calls of them: every warm request asks for a revision.
        self.revision = index.revision
        self.projects = index.projects
        self._clock = clock
        self._limit = limit
        self._pages: OrderedDict[ProjectName, tuple[Revision, Project]] = OrderedDict()
        self._files = 0

    async def project(self, name: ProjectName) -> Project:
        # Taken before the page is asked for: a page newer than its revision is asked for again, an older never kept.
        revision = await self._index.revision(name)
        known = self._pages.get(name)
        if known is not None and known[0] == revision and self._holds(known[1]):
            self._pages.move_to_end(name)
            return known[1]
        project = await self._index.project(name)
        self._keep(name, revision, project)
        return project

    def _holds(self, project: Project) -> bool:
        return project.valid_until is None or self._clock() < project.valid_until

    def _keep(self, name: ProjectName, revision: Revision, project: Project) -> None:
        before = self._pages.pop(name, None)
        self._files -= _weight(before[1]) if before else 0
        self._pages[name] = (revision, project)
        self._files += _weight(project)
        while self._files > self._limit and len(self._pages) > 1:
            _, (_, oldest) = self._pages.popitem(last=False)
            self._files -= _weight(oldest)


def _weight(project: Project) -> int:
    return 1 + len(project.files) + len(project.withheld)
