"""The record of an archive in our own layout (schema 1, `docs/layout.md`): what it has, and every change of it."""

from collections.abc import Callable
from datetime import datetime

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from entrepot.archives.model import Archive, Offer, Summary, Version, check_apart, exists, held, missing
from entrepot.archives.order import key
from entrepot.errors import Conflict, Unavailable

SCHEMA = 1


class Kept(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A version as the record has it."""

    version: str
    filename: str
    size: int
    sha256: str
    uploaded: datetime
    by: str | None = None

    def shown(self) -> Version:
        return Version(
            version=self.version, size=self.size, sha256=self.sha256, uploaded=self.uploaded, by=self.by,
            filename=self.filename, etag=f'"{self.sha256}"',
        )  # fmt: skip


class Gone(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A version that was removed. Other bytes never take its name."""

    version: str
    sha256: str
    at: datetime
    by: str | None = None


class Record(Struct, frozen=True, kw_only=True):
    """Immutable; every change is a new record, or the same one if there is nothing to do."""

    schema: int = SCHEMA
    name: str
    localname: str
    channels: dict[str, str] = {}
    versions: tuple[Kept, ...] = ()
    removed: tuple[Gone, ...] = ()

    def summary(self) -> Summary:
        return Summary(name=self.name, localname=self.localname, channels=self.channels)

    def archive(self) -> Archive:
        versions = tuple(one.shown() for one in self.versions)  # in their order already: a push keeps it
        return Archive(name=self.name, localname=self.localname, channels=self.channels, versions=versions)

    def version(self, text: str) -> Kept | None:
        return next((one for one in self.versions if one.version == text), None)

    def pushing(self, version: str, offer: Offer, channel: str | None) -> "Record":
        """With the offer, and the channel at it. Raises `Conflict`, `Invalid`."""
        check_apart(self.summary(), {one.version for one in self.versions}, channel=channel, version=version)
        known = self.version(version)
        if known is not None and known.sha256 != offer.sha256:
            raise exists(self.name, version)
        gone = next((one for one in self.removed if one.version == version), None)
        if gone is not None and gone.sha256 != offer.sha256:
            raise Conflict(
                f"Already Exists: {self.name}, Version {version}",
                hint=f"it was deleted on {gone.at:%Y-%m-%d}, and other bytes never take its name: push another version",
            )
        after = self if known is not None else replace(self, **_with(self, _kept(version, offer)))
        return after if channel is None else after.promoting(channel, version)

    def promoting(self, channel: str, version: str) -> "Record":
        """With the channel at the version. Raises `NotFound`, `Invalid`."""
        check_apart(self.summary(), {one.version for one in self.versions}, channel=channel)
        if self.version(version) is None:
            raise missing(self.name, version)
        if self.channels.get(channel) == version:
            return self
        return replace(self, channels=dict(sorted({**self.channels, channel: version}.items())))

    def removing(self, version: str, *, by: str | None, at: datetime) -> "Record":
        """Without the version or the channel; the same record if neither is there. Raises `Conflict`."""
        if version in self.channels:
            return replace(self, channels={name: to for name, to in self.channels.items() if name != version})
        known = self.version(version)
        if known is None:
            return self
        if channels := self.archive().channels_at(version):
            raise held(self.name, version, channels)
        gone = Gone(version=version, sha256=known.sha256, at=at, by=by)
        kept = tuple(one for one in self.versions if one is not known)
        return replace(self, versions=kept, removed=(*self.removed, gone))


Change = Callable[[Record], Record]


def _kept(version: str, offer: Offer) -> Kept:
    return Kept(
        version=version, filename=offer.filename, size=offer.size, sha256=offer.sha256, uploaded=offer.now, by=offer.by
    )


def _with(record: Record, added: Kept) -> dict[str, object]:
    return {
        "versions": tuple(sorted((*record.versions, added), key=lambda one: key(one.version))),
        "removed": tuple(one for one in record.removed if one.version != added.version),
    }


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Record)


def encode(record: Record) -> bytes:
    """Readable and stable: the same record always gives the same bytes."""
    return msgspec.json.format(_encoder.encode(record), indent=1) + b"\n"


class _Schema(Struct):
    schema: int = SCHEMA


def decode(data: bytes, at: str) -> Record:
    """Raises `Unavailable`: a record that cannot be read is a broken store, not an absent archive."""
    try:
        schema = msgspec.json.decode(data, type=_Schema).schema  # first: a later one may look different
        if schema != SCHEMA:
            words = f"has schema {schema}, and this entrepot knows schema {SCHEMA}"
            raise Unavailable(words, at=at, hint="run a newer entrepot")
        return _decoder.decode(data)
    except msgspec.MsgspecError as error:
        hint = "bring it back from a backup"
        raise Unavailable(f"the record cannot be read: {error}", at=at, hint=hint) from error
