"""What the tests of archives put in and take out."""

import hashlib
from datetime import UTC, datetime

from entrepot.archives import Archives, Offer
from entrepot.index import Span
from tests.sources.samples import everything

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


def an_offer(data: bytes = b"bytes", *, filename: str = "model.bin", by: str = "ci", now: datetime = NOON) -> Offer:
    sha256 = hashlib.sha256(data).hexdigest()
    return Offer(filename=filename, size=len(data), sha256=sha256, body=lambda: data, by=by, now=now)


async def push(
    archives: Archives, version: str = "1.0", data: bytes | None = None, *, name: str = "model",
    channel: str | None = None, filename: str = "model.bin",
) -> bool:  # fmt: skip
    """Push bytes that are the version's own, unless others are given."""
    return await archives.push(
        name, version, an_offer(version.encode() if data is None else data, filename=filename), channel=channel
    )


async def versions(archives: Archives, name: str = "model") -> list[str]:
    return [one.version for one in (await archives.archive(name)).versions]


async def bytes_of(archives: Archives, version: str, span: Span | None = None, *, name: str = "model") -> bytes:
    found = (await archives.archive(name)).version(version)
    return await everything(await archives.open(name, found, span))


async def listed(archives: Archives) -> dict[str, str | None]:
    return {summary.name: summary.latest async for summary in archives.summaries()}
