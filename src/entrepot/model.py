"""The records that everything else speaks of: File, Project, and what a page says of them.

Pure values: frozen, keyword-only, compared by content. They are msgspec structs because a page of a
thousand files is built from JSON on the way to a waiting client, and dataclasses cost ten times as much.
Times are aware and in UTC; sizes are in bytes; digests are lower-case hex.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Literal, NewType

from msgspec import Struct
from msgspec.structs import replace

from entrepot.errors import Denied, NotFound

# The normal form of a project name: lower case, runs of "-_." become one "-" (PEP 503).
ProjectName = NewType("ProjectName", str)
# Changes whenever the answer of an index may have changed; compared, never read.
Revision = NewType("Revision", str)

StatusName = Literal["active", "archived", "quarantined", "deprecated"]

# \Z and not $, which would let a trailing newline through (core metadata specification, "Name").
_VALID_NAME = re.compile(r"(?:[A-Z0-9]|[A-Z0-9][A-Z0-9._-]*[A-Z0-9])\Z", re.IGNORECASE | re.ASCII)
_SEPARATORS = re.compile(r"[-_.]+")


def normalise(name: str) -> ProjectName:
    """The normal form of a project name (PEP 503). Total: never fails, also for invalid names."""
    return ProjectName(_SEPARATORS.sub("-", name).lower())


def is_valid_name(name: str) -> bool:
    """Whether `name` may name a project: ASCII letters, digits, and "-_." inside (PEP 508)."""
    return _VALID_NAME.match(name) is not None


class File(Struct, frozen=True, kw_only=True, omit_defaults=True, rename="kebab", gc=False):
    """One distribution file, as a page shows it. Its JSON form is also what a record stores.

    `hashes` are of the file's bytes by hashlib-like name; `core_metadata` holds those of its
    `.metadata` companion, is True where one exists whose hash is not known yet, and False where there
    is none (PEP 658, PEP 714).
    """

    filename: str
    version: str  # PEP 440 normal form where it parses
    # PEP 700 makes sizes mandatory from API 1.1 on; None (not known yet) lowers the page to 1.0.
    size: int | None = None
    hashes: Mapping[str, str] = {}
    uploaded: datetime | None = None  # PEP 700 `upload-time`
    requires_python: str | None = None
    # Reason, "" if none was given; None = not yanked. In HTML presence alone decides, and
    # "false" is a reason (PEP 592); JSON may also hold true or false (PEP 691).
    yanked: str | None = None
    core_metadata: Mapping[str, str] | bool = False
    provenance: str | None = None  # absolute URL (PEP 740)
    gpg_sig: bool | None = None
    # Why today's form checks would refuse it; kept because it was published before they existed.
    legacy: str | None = None
    by: str | None = None  # the name of the token that uploaded it
    origin: str = ""  # the source that owns the bytes; stamped by the source, never stored

    @property
    def is_wheel(self) -> bool:
        return self.filename.endswith(".whl")

    @property
    def is_egg(self) -> bool:
        """Listed and served where it is there already; no installer of today takes it."""
        return self.filename.endswith(".egg")


class Status(Struct, frozen=True, kw_only=True):
    """A project's status marker and its reason (PEP 792)."""

    status: StatusName = "active"
    reason: str | None = None

    @property
    def accepts_uploads(self) -> bool:
        """Archived and quarantined projects take no new files (PEP 792)."""
        return self.status not in {"archived", "quarantined"}


ACTIVE = Status()


class Withheld(Struct, frozen=True, kw_only=True):
    """A file that a rule keeps off the page, and why."""

    file: File
    why: str
    by: str = ""  # the rule, as the configuration names it: "index.upstream.rules[0]"


class Removed(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A tombstone: other bytes never come under this filename again; `restore` brings the file back."""

    file: File
    at: datetime
    by: str


class Project(Struct, frozen=True, kw_only=True):
    """What one index answers for one name: the page before it is rendered.

    `files` are ordered by (version, filename), see `wire.filenames.ordered`. `valid_until` is the first moment
    at which the answer may change although nothing was written; None means only a write can change it.
    """

    name: ProjectName
    files: tuple[File, ...] = ()
    status: Status = ACTIVE
    withheld: tuple[Withheld, ...] = ()
    valid_until: datetime | None = None
    # When an upstream that does not answer now last confirmed this page; None: it is as fresh as it should be.
    stale_since: datetime | None = None

    def file(self, filename: str) -> File:
        """The file of that name on this page: the only way to its bytes.

        Raises `Denied` with the reason if a rule withholds it, `NotFound` if it is not here.
        """
        for file in self.files:
            if file.filename == filename:
                return file
        for held in self.withheld:
            if held.file.filename == filename:
                raise Denied(f"{filename} is withheld: {held.why}", at=self.name, hint=held.by)
        raise NotFound(f"no file {filename} in project {self.name}", at=filename)

    def keep(self, wanted: Callable[[File], bool], *, why: str, until: datetime | None = None) -> "Project":
        """The page with the unwanted files withheld for `why`, to be asked again at `until`."""
        return self.withhold(lambda file: None if wanted(file) else why, until=until)

    def withhold(self, reason: Callable[[File], str | None], *, until: datetime | None = None) -> "Project":
        """The page without the files that there is a reason to withhold, to be asked again at `until`."""
        reasons = [reason(file) for file in self.files]
        lasting = earliest((self.valid_until, until))
        if not any(why is not None for why in reasons):
            return replace(self, valid_until=lasting)
        held = tuple(Withheld(file=f, why=why) for f, why in zip(self.files, reasons, strict=True) if why is not None)
        kept = tuple(file for file, why in zip(self.files, reasons, strict=True) if why is None)
        return replace(self, files=kept, withheld=self.withheld + held, valid_until=lasting)


def earliest(moments: Iterable[datetime | None]) -> datetime | None:
    """The first of the moments that are known; None if none is."""
    return min((moment for moment in moments if moment is not None), default=None)
