"""What the tests of this folder put into sources."""

import asyncio
import hashlib
import secrets
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import pytest

from entrepot.index import Addition, Content, OnDisk, Sink, Source, Span, Staged, Store, Stream
from entrepot.model import File, ProjectName, normalise
from entrepot.sources.upkeep import check
from entrepot.stores.collecting import Fault
from entrepot.wire import filenames
from tests.distributions import build

T = TypeVar("T")

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
DEMO = normalise("demo")


async def until(condition: Callable[[], Awaitable[T]], *, within: float = 10, what: str) -> T:
    """What the condition gives, as soon as it is true."""
    deadline = time.monotonic() + within
    while not (found := await condition()):
        if time.monotonic() > deadline:
            pytest.fail(f"waited {within:g} seconds in vain: {what}")
        await asyncio.sleep(0.002)
    return found


def wheel_name(version: str = "1.0", name: str = "demo") -> str:
    return build.wheel_filename(name, version)


def contents(filename: str, note: str = "") -> bytes:
    """A valid distribution of that name; with another note, other bytes."""
    found = filenames.parse(filename)
    files = {f"{found.project.replace('-', '_')}/__init__.py": f"# {note}\n".encode()}
    make = build.wheel_bytes if found.kind == "bdist_wheel" else build.sdist_bytes
    return make(found.project, found.version_text, files=files)


def addition(
    staging: Path,
    filename: str = "demo-1.0-py3-none-any.whl",
    *,
    data: bytes | None = None,
    by: str = "ci",
    now: datetime = NOON,
    metadata: bytes | None = b"Metadata-Version: 2.1\n",
) -> Addition:
    """The file, staged where the sink wants it. By default its bytes are as much as its name needs to be told."""
    found = filenames.parse(filename)
    body = filename.encode() if data is None else data
    companion = metadata if found.kind == "bdist_wheel" else None
    path = staging / secrets.token_hex(8)
    path.write_bytes(body)
    sha256 = hashlib.sha256(body).hexdigest()
    file = File(
        filename=filename,
        version=found.version_text,
        size=len(body),
        hashes={"sha256": sha256, "md5": hashlib.md5(body, usedforsecurity=False).hexdigest()},
        uploaded=now,
        core_metadata={"sha256": hashlib.sha256(companion).hexdigest()} if companion is not None else False,
        by=by,
    )
    staged = Staged(path=path, size=len(body), sha256=sha256)
    return Addition(project=found.project, file=file, staged=staged, metadata=companion)


async def add(sink: Sink, filename: str = "demo-1.0-py3-none-any.whl", **details: object) -> bool:
    """Add a file as `addition` makes it."""
    made = addition(sink.staging, filename, **details)  # type: ignore[arg-type]
    try:
        return await sink.add(made)
    finally:
        made.staged.path.unlink(missing_ok=True)


async def everything(content: Content) -> bytes:
    match content:
        case OnDisk(path=path, size=size):
            data = path.read_bytes()
            assert len(data) == size
            return data
        case Stream(body=body, size=size):
            data = b"".join([bytes(piece) async for piece in body])
            assert size in {None, len(data)}
            return data
        case _:
            raise AssertionError(content)


async def bytes_of(source: Source, filename: str, span: Span | None = None, *, project: ProjectName = DEMO) -> bytes:
    """The bytes as a download gets them: by a file of the page."""
    file = (await source.project(project)).file(filename)
    return await everything(await source.open(project, file, span))


async def shown(source: Source, project: ProjectName = DEMO) -> list[str]:
    return [file.filename for file in (await source.project(project)).files]


async def faults(store: Store) -> list[Fault]:
    return [fault async for fault in check(store)]


async def grave(store: Store) -> list[str]:
    """What `check` calls wrong; bytes that nothing names are not."""
    return [f"{fault.key}: {fault.what}" for fault in await faults(store) if fault.grave]
