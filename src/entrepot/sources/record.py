"""The record: the small JSON object that lists a project's files (schema 1, `docs/layout.md`).

One file stands on one line, so that a person can read it and `diff` shows what changed.
"""

from datetime import datetime

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from entrepot.errors import Conflict, Denied, NotFound, Unavailable
from entrepot.model import ACTIVE, File, Project, ProjectName, Removed, Status
from entrepot.wire import filenames

SCHEMA = 1


class Record(Struct, frozen=True, kw_only=True):
    """What a hosted index knows of a project. Immutable; every change is a new record."""

    schema: int = SCHEMA
    name: ProjectName
    status: Status = ACTIVE
    files: tuple[File, ...] = ()
    removed: tuple[Removed, ...] = ()

    def page(self, origin: str) -> Project:
        """The record as a page; quarantined projects offer no files (PEP 792)."""
        hidden = self.status.status == "quarantined"
        files = () if hidden else tuple(replace(file, origin=origin) for file in self.files)
        return Project(name=self.name, files=files, status=self.status)

    def file(self, filename: str) -> File | None:
        return next((file for file in self.files if file.filename == filename), None)

    def tombstone(self, filename: str) -> Removed | None:
        return next((removed for removed in self.removed if removed.file.filename == filename), None)

    def adding(self, file: File) -> "Record":
        """With the file; the same record if these bytes are there already. Raises `Conflict`, `Denied`."""
        known = self.file(file.filename)
        if known is not None:
            if known.hashes.get("sha256") == file.hashes.get("sha256"):
                return self
            digest = known.hashes.get("sha256", "unknown")
            # Clients recognise an existing file by these first words (standards §2.7).
            raise Conflict(
                f"File already exists ({file.filename!r}, with sha256 hash {digest!r}); "
                "files never change: publish a new version"
            )
        if (dead := self.tombstone(file.filename)) is not None:
            raise Conflict(
                f"{file.filename} was deleted on {dead.at:%Y-%m-%d} and its name cannot be used for other bytes",
                hint="publish a new version, or `entrepot restore` the deleted file",
            )
        if not self.status.accepts_uploads:
            raise Denied(
                f"project {self.name} is {self.status.status} and takes no new files",
                hint=f"`entrepot status {self.name} active` opens it again",
            )
        return replace(self, files=filenames.inserted(self.files, file))

    def removing(self, names: frozenset[str], *, by: str, at: datetime) -> "Record":
        """With tombstones in place of these files; the same record if they are all removed already."""
        wanted = names - {removed.file.filename for removed in self.removed}
        if missing := wanted - {file.filename for file in self.files}:
            raise NotFound(f"no file {', '.join(sorted(missing))} in project {self.name}")
        if not wanted:
            return self
        dead = tuple(Removed(file=file, at=at, by=by) for file in self.files if file.filename in wanted)
        kept = tuple(file for file in self.files if file.filename not in wanted)
        return replace(self, files=kept, removed=self.removed + dead)

    def restoring(self, names: frozenset[str]) -> "Record":
        """With these files back; the same record if they are all there already."""
        wanted = names - {file.filename for file in self.files}
        if missing := wanted - {removed.file.filename for removed in self.removed}:
            raise NotFound(f"no deleted file {', '.join(sorted(missing))} in project {self.name}")
        if not wanted:
            return self
        back = tuple(removed.file for removed in self.removed if removed.file.filename in wanted)
        rest = tuple(removed for removed in self.removed if removed.file.filename not in wanted)
        return replace(self, files=filenames.ordered((*self.files, *back)), removed=rest)


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Record)


def encode(record: Record) -> bytes:
    """Readable and stable: the same record always gives the same bytes."""
    head = {"schema": record.schema, "name": record.name, "status": record.status}
    return b"%s,\n%s,\n%s}\n" % (
        _encoder.encode(head)[:-1],
        b'"files":[%s]' % _lines(record.files),
        b'"removed":[%s]' % _lines(record.removed),
    )


def _lines(items: tuple[Struct, ...]) -> bytes:
    # JSON text never holds a raw newline, so that each one found ends an item.
    return b"\n" + _encoder.encode_lines(items)[:-1].replace(b"\n", b",\n") + b"\n" if items else b""


def decode(data: bytes, key: str) -> Record:
    """Raises `Unavailable`: a record that cannot be read is a broken store, not an absent project."""
    try:
        record = _decoder.decode(data)
    except msgspec.MsgspecError as error:
        refuse_later(schema_of(data), key)
        hint = "bring it back from a backup"
        raise Unavailable(f"the record cannot be read: {error}", at=key, hint=hint) from error
    refuse_later(record.schema, key)
    return record


class _Schema(Struct):
    schema: int = SCHEMA


def schema_of(data: bytes) -> int:
    """The schema that a document names, whatever else is in it; ours if it names none that can be read."""
    try:
        return msgspec.json.decode(data, type=_Schema).schema
    except msgspec.MsgspecError:
        return SCHEMA


def refuse_later(schema: int, key: str) -> None:
    """Raises `Unavailable` for what a newer program wrote: to read it as ours would lose what is new in it."""
    if schema != SCHEMA:
        words = f"has schema {schema}, and this entrepot knows schema {SCHEMA}"
        raise Unavailable(words, at=key, hint="run a newer entrepot")
