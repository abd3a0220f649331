"""Indexes made of indexes: the first that knows a name answers, and an answer is remembered while it holds.

What stands in front of what is said in `composition`.
"""

import heapq
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, aclosing, contextmanager
from datetime import datetime

from msgspec.structs import replace

from entrepot.errors import NotFound, Unavailable
from entrepot.index import Index, Names, Revision, Upstreamed, absent, is_absent
from entrepot.model import File, Project, ProjectName, earliest
from entrepot.rules import Rule
from entrepot.threads import finished
from entrepot.wire import filenames

Clock = Callable[[], datetime]


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


class Everything:
    """The names of an index, and those of what its mirrors mirror, as far as they pass on the way to it."""

    def __init__(self, index: Index, beyond: Sequence[tuple[Upstreamed, Callable[[ProjectName], bool]]]) -> None:
        self._index = index
        self._beyond = tuple(beyond)

    async def names(self) -> Names:
        """Raises `Unavailable` before the first name if one of the mirrors cannot tell: no list is a short one."""
        streams = [_one_batch(sorted([name async for name in self._index.projects()]))]
        stale_since = None
        for mirror, passes in self._beyond:
            try:
                found = await mirror.everything()
            except Unavailable as error:
                words = f"index {mirror.name} cannot tell what its upstream has: {error.message}"
                raise Unavailable(
                    words, at=error.at, hint=error.hint, status=error.status, retry_after=error.retry_after
                ) from error
            streams.append(_passed(found.batches, passes))
            stale_since = earliest((stale_since, found.stale_since))
        return Names(batches=_merged_batches(streams), stale_since=stale_since)


async def _one_batch(names: Sequence[ProjectName]) -> AsyncGenerator[Sequence[ProjectName], None]:
    yield names


async def _passed(
    batches: AsyncIterator[Sequence[ProjectName]], passes: Callable[[ProjectName], bool]
) -> AsyncGenerator[Sequence[ProjectName], None]:
    async for batch in batches:
        # In a thread: a list has hundreds of thousands of names, and others wait for pages meanwhile.
        yield await finished(_those, batch, passes)


def _those(names: Sequence[ProjectName], passes: Callable[[ProjectName], bool]) -> list[ProjectName]:
    return [name for name in names if passes(name)]


async def _merged_batches(
    streams: Sequence[AsyncGenerator[Sequence[ProjectName], None]],
) -> AsyncIterator[Sequence[ProjectName]]:
    """Ordered streams of ordered batches as one, each name once."""
    async with AsyncExitStack() as stack:
        for stream in streams:
            await stack.enter_async_context(aclosing(stream))
        heads = [(batch, stream) for stream in streams if (batch := await _next_batch(stream))]
        while heads:
            # Up to here no stream can bring a name any more that is not at hand.
            last = min(batch[-1] for batch, _ in heads)
            cuts = [bisect_right(batch, last) for batch, _ in heads]
            parts = [batch[:cut] for (batch, _), cut in zip(heads, cuts, strict=True) if cut]
            yield parts[0] if len(parts) == 1 else sorted(set().union(*parts))
            heads = [
                (rest, stream)
                for (batch, stream), cut in zip(heads, cuts, strict=True)
                if (rest := batch[cut:] or await _next_batch(stream))
            ]


async def _next_batch(stream: AsyncIterator[Sequence[ProjectName]]) -> Sequence[ProjectName]:
    """The next batch that has names; an empty one at the end."""
    async for batch in stream:
        if batch:
            return batch
    return ()


class Merge:
    """The files of all members that know the name, on one page. None may fail: what it has would be missing."""

    def __init__(self, members: Sequence[Index]) -> None:
        self._members = tuple(members)
        self.projects = First(members).projects

    async def project(self, name: ProjectName) -> Project:
        pages = []
        for member in self._members:
            try:
                pages.append(await member.project(name))
            except NotFound:
                continue
        if not pages:
            raise NotFound(f"no project {name}")
        merged, *rest = pages
        for page in rest:
            merged = _merged_page(merged, page)
        return merged

    async def revision(self, name: ProjectName | None) -> Revision:
        seen = [await member.revision(name) for member in self._members]
        # One that is known first: it is what tells the whole from absence.
        together = "|".join([next((one for one in seen if not is_absent(one)), ""), *seen])
        return Revision(together) if name is None or not all(map(is_absent, seen)) else absent(together)


def _merged_page(one: Project, other: Project) -> Project:
    """One page of two. The earlier wins: a file that it shows or withholds never comes from the other."""
    shown = {file.filename: file for file in one.files}
    held = {withheld.file.filename for withheld in one.withheld}

    def reason(file: File) -> str | None:
        before = shown.get(file.filename)
        if one.status.status == "quarantined":
            return "the project is quarantined in an index further up"
        if before is None:
            return "an index further up withholds its file of this name" if file.filename in held else None
        return None if _are_same(before, file) else f"{before.origin} has a file of this name with other bytes"

    rest = other.withhold(reason)
    return replace(
        one,
        files=filenames.ordered((*one.files, *(file for file in rest.files if file.filename not in shown))),
        withheld=one.withheld + rest.withheld,
        valid_until=earliest((one.valid_until, other.valid_until)),
        stale_since=earliest((one.stale_since, other.stale_since)),
    )


def _are_same(one: File, other: File) -> bool:
    """Whether they are known to have the same bytes."""
    common = one.hashes.keys() & other.hashes.keys()
    return bool(common) and all(one.hashes[name] == other.hashes[name] for name in common)


class Either:
    """Names that are `chosen` are answered by one index alone, all others by the other one alone."""

    def __init__(self, chosen: Callable[[ProjectName], bool], one: Index, other: Index) -> None:
        self._chosen = chosen
        self._one = one
        self._other = other
        self.projects = other.projects

    async def project(self, name: ProjectName) -> Project:
        return await self._for(name).project(name)

    async def revision(self, name: ProjectName | None) -> Revision:
        return await self._for(name).revision(name)

    def _for(self, name: ProjectName | None) -> Index:
        return self._one if name is not None and self._chosen(name) else self._other


class Reserved:
    """A name that the index does not know has an empty page: 404 would send clients to the public index."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self.projects = index.projects

    async def project(self, name: ProjectName) -> Project:
        try:
            return await self._index.project(name)
        except NotFound:
            return Project(name=name)

    async def revision(self, name: ProjectName | None) -> Revision:
        return Revision(f"reserved{await self._index.revision(name)}")


class Ruled:
    """An index through rules, in their order. `by` says of each what it is called in the configuration."""

    def __init__(self, index: Index, rules: Sequence[Rule], *, by: Sequence[str], clock: Clock) -> None:
        self._index = index
        self._rules = tuple(zip(rules, by, strict=True))
        self._clock = clock
        # Rules change a page only as time goes by, which its `valid_until` tells.
        self.revision = index.revision
        self.projects = index.projects

    async def project(self, name: ProjectName) -> Project:
        page = await self._index.project(name)
        now = self._clock()
        for rule, by in self._rules:
            page = _signed(rule(page, now), len(page.withheld), by)
        return page


def _signed(page: Project, before: int, by: str) -> Project:
    if len(page.withheld) == before:
        return page
    signed = tuple(replace(held, by=by) for held in page.withheld[before:])
    return replace(page, withheld=page.withheld[:before] + signed)


class Member:
    """One of several indexes: when it fails, it says which one it is, and what keeps a name from asking it."""

    def __init__(self, index: Index, *, name: str, hint: str) -> None:
        self._index = index
        self._name = name
        self._hint = hint
        self.projects = index.projects

    async def project(self, name: ProjectName) -> Project:
        with self._named():
            return await self._index.project(name)

    async def revision(self, name: ProjectName | None) -> Revision:
        with self._named():
            return await self._index.revision(name)

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except Unavailable as error:
            raise Unavailable(
                f"index {self._name} cannot be asked: {error.message}",
                at=error.at,
                hint="; ".join(filter(None, (error.hint, self._hint))),
                status=error.status,
                retry_after=error.retry_after,
            ) from error


class Remembered:
    """Keeps pages while their revision and `valid_until` hold, up to `limit` files together."""

    def __init__(self, index: Index, *, clock: Clock, limit: int = 20_000) -> None:
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
