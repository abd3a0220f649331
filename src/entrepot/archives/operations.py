"""What people ask of archives: which are meant, what is sound, what may go."""

import re
from collections.abc import AsyncIterator, Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from msgspec import Struct

from entrepot.archives.local import destination, recorded_etag, size_of
from entrepot.archives.model import LATEST, Archive, Archives, Version, missing
from entrepot.archives.order import chosen, key
from entrepot.archives.reading import of_file
from entrepot.errors import EntrepotError, NotFound
from entrepot.index import Stream
from entrepot.stores.collecting import digest_of

_PATTERN = re.compile(r"[*?\[]")


async def names(archives: Archives, patterns: Sequence[str]) -> list[str]:
    """The names that are meant, in the order of the patterns, each once; all of them for no pattern.

    A pattern that matches nothing is taken as a name, which need not be there: whoever asks for it hears so.
    """
    if patterns and not any(_PATTERN.search(pattern) for pattern in patterns):
        return list(dict.fromkeys(patterns))
    known = [summary.name async for summary in archives.summaries()]
    found: list[str] = []
    for pattern in patterns or ("*",):
        matching = [] if pattern in known else [name for name in known if fnmatchcase(name, pattern)]
        found += matching or ([pattern] if patterns else [])
    return list(dict.fromkeys(found))


class NothingToPull(NotFound):
    """The archive is there, and the channel points nowhere."""


def wanted(archive: Archive, text: str) -> Version:
    """The version that the text names: a version, a channel, or the newest of a range.

    Raises `NotFound`, and its kind `NothingToPull` where `latest` was never promoted.
    """
    found = chosen(text, (one.version for one in archive.versions), archive.channels)
    if found is None and text == LATEST:
        hint = f"`entrepot archive promote {archive.name} VERSION` says which one it is"
        raise NothingToPull(f"Nothing to Pull: {archive.name}", hint=hint)
    if found is None:
        raise missing(archive.name, text)
    return archive.version(found)


def prunable(archive: Archive, keep: int) -> list[Version]:
    """The versions that are not among the newest `keep`, and to which no channel points; oldest first."""
    newest = sorted((one.version for one in archive.versions), key=key, reverse=True)[:keep]
    kept = {*newest, *archive.channels.values()}
    return [one for one in archive.versions if one.version not in kept]


class Verified(Struct, frozen=True, kw_only=True):
    """What was found out of one version or one local file. `fault` None: it is as it must be."""

    name: str
    version: str
    sha256: str | None = None  # of the bytes that were read
    path: str | None = None  # of a local file
    fault: str | None = None
    known: bool = True  # False: nobody recorded a sha256, so that only the size could be compared


async def verify_stored(archives: Archives, archive: Archive, versions: Iterable[Version]) -> AsyncIterator[Verified]:
    """Reads every byte of these versions, one after the other."""
    for channel, at in sorted(archive.channels.items()):
        if all(one.version != at for one in archive.versions):
            yield Verified(name=archive.name, version=at, fault=f"channel {channel} points to it, and it is not there")
    for one in versions:
        try:
            found = await digest_of(await archives.open(archive.name, one))
        except EntrepotError as error:
            yield Verified(name=archive.name, version=one.version, fault=f"it cannot be read: {error.message}")
            continue
        yield _compared(archive, one, found)


async def verify_local(archive: Archive, outdir: Path, path: Path | None = None) -> Verified | None:
    """Compares the file that was pulled of this archive with what is recorded; None if none was."""
    if path is None and archive.localname is None:
        return None
    path = path or destination(outdir, archive.localname or "")
    etag, size = recorded_etag(path), size_of(path)
    if etag is None or size is None:
        return None
    version = next((one for one in archive.versions if one.etag == etag), None)
    if version is None:
        fault = f"its .etag {etag} is that of no version that is there now"
        return Verified(name=archive.name, version="", path=str(path), fault=fault)
    body = Stream(body=of_file(path), size=None)
    return _compared(archive, version, await digest_of(body), path=path, size=size)


def _compared(
    archive: Archive, version: Version, sha256: str, *, path: Path | None = None, size: int | None = None
) -> Verified:
    fault = None
    if size is not None and size != version.size:
        fault = f"it has {size} bytes and not {version.size}"
    elif version.sha256 not in {None, sha256}:
        fault = f"its bytes have the sha256 {sha256} and not {version.sha256}"
    return Verified(
        name=archive.name, version=version.version, sha256=sha256, path=str(path) if path else None, fault=fault,
        known=version.sha256 is not None,
    )  # fmt: skip
