"""What an archive is, and what every place promises that keeps some: our own layout, tycho's, a running server.

Sizes are in bytes, times aware and in UTC, digests lower-case hex.
"""

import re
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import datetime
from typing import Protocol

from msgspec import Struct

from entrepot.archives.order import key
from entrepot.errors import Conflict, Invalid, NotFound
from entrepot.index import Body, Content, Span

LATEST = "latest"  # the channel that `pull` follows if nothing else is said
# Bytes that are held in memory and go to a store in one request, which every store makes only if there is nothing.
IN_ONE_REQUEST = 8 << 20

_LONGEST = 200  # characters: with what layouts put around it, a segment of a key has 255 bytes
# One line of text that a terminal, a key and a URL can hold: no control characters, no lone surrogates, no
# backslash, no separators of lines.
_TEXT = re.compile(r"[^\x00-\x1f\x7f-\x9f\\\u2028\u2029\ud800-\udfff]+\Z")
_NAME = re.compile(r"[^\x00-\x20\x7f-\x9f/\\\u2028\u2029\ud800-\udfff]+\Z")
_CHANNEL = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,63}\Z")


class Version(Struct, frozen=True, kw_only=True):
    """One file. It never changes."""

    version: str
    size: int
    sha256: str | None = None  # None: nobody recorded it; another tool pushed the file
    uploaded: datetime
    by: str | None = None  # the token or user that pushed it
    filename: str | None = None  # as it was called when it was pushed
    etag: str  # with its quotes; what `pull` writes into `.etag`


class Summary(Struct, frozen=True, kw_only=True):
    """An archive in a list."""

    name: str
    localname: str | None = None  # what `pull` calls the file; None: nobody has said
    channels: Mapping[str, str] = {}

    @property
    def latest(self) -> str | None:
        return self.channels.get(LATEST)


class Archive(Summary, frozen=True, kw_only=True):
    """An archive with its versions, oldest first."""

    versions: tuple[Version, ...] = ()

    def version(self, text: str) -> Version:
        """Raises `NotFound`."""
        for one in self.versions:
            if one.version == text:
                return one
        raise missing(self.name, text)

    def channels_at(self, version: str) -> list[str]:
        """The channels that point to this version, in order."""
        return sorted(channel for channel, at in self.channels.items() if at == version)


class Offer(Struct, frozen=True, kw_only=True):
    """A file on its way into an archive. `body` gives its bytes; it may be called several times."""

    filename: str
    size: int
    sha256: str
    body: Callable[[], Body]
    by: str | None
    now: datetime


class Archives(Protocol):
    """A place that keeps archives. What returns is durable, and every change recognises its own effect."""

    def summaries(self) -> AsyncIterator[Summary]:
        """Every archive, in the order of their names."""

    async def archive(self, name: str) -> Archive:
        """Raises `NotFound`."""

    async def init(self, name: str, localname: str) -> bool:
        """False if it was there with this localname. Raises `Conflict` if it has another one."""

    async def push(self, name: str, version: str, offer: Offer, *, channel: str | None = None) -> bool:
        """Keep the file, and let `channel` point to it. False if these bytes were there already.

        Of an archive that is not there, the offer's filename becomes the localname. Raises `Conflict` for other bytes.
        """

    async def promote(self, name: str, channel: str, version: str) -> None:
        """Let the channel point to the version. Raises `NotFound`, `Invalid`."""

    async def remove(self, name: str, version: str, *, by: str | None, now: datetime) -> None:
        """Remove the version, or the channel of that name. `Conflict` while a channel points to it; `NotFound`."""

    async def open(self, name: str, version: Version, span: Span | None = None) -> Content:
        """The bytes, or a span of them. Raises `NotFound` if they are gone, `Conflict` if they are others now."""


def ordered(versions: Mapping[str, Version]) -> tuple[Version, ...]:
    """Oldest first."""
    return tuple(versions[text] for text in sorted(versions, key=key))


def missing(name: str, version: str) -> NotFound:
    return NotFound(f"Does Not Exist: {name}, Version {version}")


def unknown(name: str) -> NotFound:
    return NotFound(f"Does Not Exist: {name}")


def exists(name: str, version: str, *, hint: str = "a version never changes: push another one") -> Conflict:
    return Conflict(f"Already Exists: {name}, Version {version}", hint=hint)


def held(name: str, version: str, channels: list[str]) -> Conflict:
    """Why a version cannot be removed."""
    hint = "let it point to another version, or delete the channel first"
    return Conflict(f"{', '.join(channels)} of {name} points to version {version}", hint=hint)


def check_name(name: str) -> None:
    """Raises `Invalid` for what cannot be the name of an archive in any layout."""
    if not _NAME.match(name) or len(name.encode()) > _LONGEST or name in {".", ".."}:
        hint = f"1 to {_LONGEST} bytes, without spaces, slashes, backslashes and control characters"
        raise Invalid(f"{_shown(name)} is no name of an archive", hint=hint)


def check_version(version: str) -> None:
    """Raises `Invalid` for what cannot be a version: almost any text is one, as it was to the old tool."""
    segments = version.split("/")
    if not _TEXT.match(version) or len(version.encode()) > _LONGEST or not {"", ".", ".."}.isdisjoint(segments):
        hint = f"1 to {_LONGEST} bytes in one line, without backslashes, and no '.', '..' or nothing between slashes"
        raise Invalid(f"{_shown(version)} is no version", hint=hint)
    if version == LATEST:
        raise Invalid(f"{LATEST} is a channel and no version", hint=f"push a version, then promote it to {LATEST}")


def check_channel(channel: str) -> None:
    """Raises `Invalid`."""
    if not _CHANNEL.match(channel):
        hint = "letters, digits, '.', '_' and '-', at most 64, the first a letter"
        raise Invalid(f"{_shown(channel)} is no channel", hint=hint)


def check_apart(archive: Summary, versions: set[str], *, channel: str | None = None, version: str = "") -> None:
    """Raises `Invalid` if one name would be a channel and a version: nobody could tell what is meant."""
    if version in archive.channels:
        raise Invalid(f"{version} is a channel of {archive.name} and cannot be a version")
    if channel is not None and (channel in versions or channel == version):
        raise Invalid(f"{channel} is a version of {archive.name} and cannot be a channel")


def check_localname(localname: str) -> None:
    """Raises `Invalid` for a name that could lead out of the folder that `pull` writes to."""
    segments = localname.split("/")
    if not _TEXT.match(localname) or len(localname.encode()) > _LONGEST or not {"", ".", ".."}.isdisjoint(segments):
        hint = "a plain file name, such as model.tar.gz; with --outfile, pull writes wherever you say"
        raise Invalid(f"{_shown(localname)} is no name for a local file", hint=hint)


def _shown(text: str) -> str:
    return f"{text[:100]!a}…" if len(text) > 100 else f"{text!a}"
