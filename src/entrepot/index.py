"""The protocols: what an index, a source, a sink and a store promise.

A driver imports these to be checked, never to inherit from them. Every method raises only the five
kinds of `entrepot.errors`.
"""

from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Final, NewType, Protocol

from msgspec import Struct

from entrepot.model import File, Project, ProjectName, Removed, Revision, Status

__all__ = [
    "ABSENT", "ANY", "Addition", "Body", "Catalog", "Content", "Elsewhere", "Entry", "Etag", "Expect", "Index", "Layer",
    "Mounted", "Names", "OnDisk", "Remembering", "Revision", "Sink", "Source", "Span", "Staged", "Store", "Stream",
    "Traits", "Upstreamed", "absent", "is_absent",
]  # fmt: skip

# Changes with every write of the key, also when the bytes are equal; compared, never read.
Etag = NewType("Etag", str)


class _Expectation(Enum):
    ABSENT = "absent"
    ANY = "any"


# What a conditional write or delete expects to find: nothing, or whatever there is.
ABSENT: Final = _Expectation.ABSENT
ANY: Final = _Expectation.ANY
Expect = Etag | _Expectation


class Span(Struct, frozen=True):
    """A range of bytes: from `start` up to, not including, `stop`."""

    start: int
    stop: int


class Entry(Struct, frozen=True, kw_only=True):
    """One object of a store: what `stat` and `list` tell of it. `modified` is in seconds since 1970."""

    key: str
    size: int
    etag: Etag
    modified: float


class Staged(Struct, frozen=True, kw_only=True):
    """A complete local file that a store may take over. `size` and `sha256` were computed while it was written.

    Whoever staged it removes `path` afterwards; a disk store links it, so the bytes are not copied. `held` has them
    where they are few and in memory: then they are written from there, and `path` is not looked at.
    """

    path: Path
    size: int
    sha256: str
    held: bytes | None = None


# What may be written. An iterator that ends early or raises leaves nothing behind.
Body = bytes | AsyncIterable[bytes] | Staged


class OnDisk(Struct, frozen=True, kw_only=True):
    """A file that was opened successfully a moment ago and can be sent by path.

    Whoever keeps the path compares `mtime_ns` and `size` before sending it again.
    """

    path: Path
    size: int
    mtime_ns: int


class Elsewhere(Struct, frozen=True, kw_only=True):
    """A URL from which the client may fetch the bytes itself, valid for about a minute."""

    url: str


class Stream(Struct, frozen=True, kw_only=True):
    """Bytes as they come. `size` is the number of bytes that will come, None if not known yet."""

    body: AsyncIterator[bytes]
    size: int | None


Content = OnDisk | Elsewhere | Stream


class Traits(Struct, frozen=True, kw_only=True):
    """What a store can do. Test these, never the class."""

    compare_and_swap: bool  # `expect=` with an etag is honoured
    staging: Path  # stage here and `Staged` bodies are taken over without a copy, if the store can
    id: str = ""  # its own, for ever: tells this instance from others


class Store(Protocol):
    """Keys to bytes. Keys are "/"-separated, relative, and cannot leave the store.

    A write or delete that returns is durable. A write that fails changed nothing.
    """

    traits: Traits

    async def stat(self, key: str) -> Entry:
        """Raises `NotFound`; `Unavailable` if it cannot be known, which is never the same."""

    async def read(self, key: str, span: Span | None = None) -> Content:
        """The whole object, or the bytes of `span` cut to its size. Raises `NotFound`."""

    async def write(self, key: str, body: Body, *, expect: Expect) -> Etag:
        """Raises `Conflict` if what is there is not as expected; `Invalid` if a `Staged` body is not as described."""

    async def write_all(self, bodies: Mapping[str, bytes | Staged]) -> None:
        """Write several objects, whatever is there. All are durable when it returns; a failure may leave some.

        For a file and its companions: where they share a folder it costs less than one by one.
        """

    async def delete(self, key: str, *, expect: Expect) -> None:
        """Idempotent with `ANY`. Raises `Conflict` if what is there is not the etag expected."""

    def list(self, prefix: str, *, after: str = "") -> AsyncIterator[Entry]:
        """Entries whose key starts with `prefix` and is greater than `after`, in the order of their keys."""


def absent(etag: str = "") -> Revision:
    """The revision of a name that an index does not know: starts with "-", unlike any of a name it knows."""
    return Revision(f"-{etag}")


def is_absent(revision: Revision) -> bool:
    """Whether this is the revision of a name that the index does not know, so that the next one may answer."""
    return revision.startswith("-")


class Index(Protocol):
    """Answers pages."""

    def projects(self) -> AsyncIterator[ProjectName]:
        """Names with a page here, in order, each once."""

    async def project(self, name: ProjectName) -> Project:
        """Raises `NotFound`, `Denied`, `Unavailable`."""

    async def revision(self, name: ProjectName | None) -> Revision:
        """Of the project, or with None of the list of names. Cheap; absence has a revision too; never `NotFound`."""


class Source(Index, Protocol):
    """An index that owns bytes. Its `name` is stamped on its files as `origin`."""

    name: str

    async def open(self, project: ProjectName, file: File, span: Span | None = None) -> Content:
        """The bytes of a file taken from a page. Raises `NotFound` if they are gone, `Unavailable`."""

    async def open_metadata(self, project: ProjectName, file: File) -> Content:
        """The file's `.metadata` companion: the exact bytes of METADATA. Raises `NotFound` if there is none."""


class Names(Struct, frozen=True, kw_only=True):
    """A list of names of any length as it comes: in batches, which and within which they are ordered, each once."""

    batches: AsyncIterator[Sequence[ProjectName]]
    # When an upstream that does not answer now last confirmed it; None: it is as fresh as it should be.
    stale_since: datetime | None = None


class Upstreamed(Source, Protocol):
    """A source that has what another index has: a mirror."""

    async def everything(self) -> Names:
        """The names of all projects that the other index has. Raises `Unavailable` before the first of them."""

    async def knows(self, name: ProjectName) -> bool:
        """Whether the other index has a project of that name. Raises `Unavailable` if it cannot be asked."""

    async def page_url(self, name: ProjectName) -> str:
        """The address of the project's page there, without credentials: clients are sent to it."""

    def local(self) -> Index:
        """What of it is kept here: never asks the other index."""


class Remembering(Source, Protocol):
    """A source that keeps the names which it once served, so that no other index may answer them."""

    async def forget(self, name: ProjectName) -> None:
        """Release the name. Raises `NotFound` if it is not remembered, `Conflict` if there are files of it."""


class Addition(Struct, frozen=True, kw_only=True):
    """A checked file on its way into a sink."""

    project: ProjectName
    file: File
    staged: Staged
    metadata: bytes | None  # the exact bytes of the wheel's METADATA


class Sink(Protocol):
    """Accepts publication. Every method is durable when it returns and recognises its own effect."""

    name: str
    staging: Path  # where uploads are staged, so that they need not be copied

    async def add(self, addition: Addition) -> bool:
        """False if identical bytes were there already.

        Raises `Conflict` for other bytes or a deleted filename, `Denied` if the project's status takes no uploads.
        """

    async def files(self, project: ProjectName) -> tuple[File, ...]:
        """Every file, also those that the project's status keeps off its page. Raises `NotFound`."""

    async def removed(self, project: ProjectName) -> tuple[Removed, ...]:
        """The tombstones, oldest first; none if there is no such project."""

    async def amend(self, project: ProjectName, change: Callable[[File], File]) -> tuple[File, ...]:
        """Apply `change` to every file of the project at once; returns those that differ afterwards. `NotFound`."""

    async def mark(self, project: ProjectName, status: Status) -> None:
        """Set the project's status (PEP 792). Raises `NotFound`."""

    async def remove(self, project: ProjectName, filenames: frozenset[str], *, by: str, now: datetime) -> None:
        """Leave tombstones; the bytes are kept for seven days. Raises `NotFound` if one is not there."""

    async def restore(self, project: ProjectName, filenames: frozenset[str]) -> None:
        """Undo `remove`. Raises `NotFound` if one was not removed or its bytes are gone."""


class Layer(Struct, frozen=True, kw_only=True):
    """An index as it was composed of others, for those who ask why a page is as it is."""

    name: str
    kind: str  # the `type` of the configuration
    index: Index  # with its rules
    members: tuple["Layer", ...] = ()  # in their order
    own: tuple[str, ...] = ()  # patterns of names that no mirror among its members may answer
    merge: tuple[str, ...] = ()  # patterns of names whose files may come from several members


class Mounted(Struct, frozen=True, kw_only=True):
    """An index of the catalog as `web` and the commands see it.

    `guarded` names the indexes, itself and members, that may be read only with a grant: a caller needs
    one for each, so a virtual index never shows what its member hides.
    """

    name: str
    index: Index
    sink: Sink | None = None
    guarded: tuple[str, ...] = ()
    # While its result stays the same, so do all revisions of the index, as far as this machine knows. None: ask it.
    pulse: Callable[[], object] | None = None
    layer: Layer | None = None  # how it was made; None: it is not made of others
    local: Index | None = None  # what of it is stored here; None: all of it
    # The mirrors whose project of that name would be hidden by the first file that is published here.
    rivals: Callable[[ProjectName], tuple[Upstreamed, ...]] = lambda _: ()
    # Its names and all that its upstreams have; None: there is no upstream to ask.
    everything: Callable[[], Awaitable[Names]] | None = None
    # Where clients are sent for a page that is not here; None: nowhere.
    fallback: Callable[[ProjectName], Awaitable[str]] | None = None


class Catalog(Struct, frozen=True, kw_only=True):
    """The finished tree: every index by its name, and every source by the name on its files."""

    default: str
    indexes: Mapping[str, Mounted]
    sources: Mapping[str, Source]
    stores: Mapping[str, Store]
