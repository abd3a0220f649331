"""What an upstream index has, and how it tells of it."""

import hashlib
import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from tests.distributions.build import sdist_bytes, sdist_filename, wheel_bytes, wheel_filename

LONG_AGO = datetime(2024, 2, 29, 12, 30, 15, 250_000, tzinfo=UTC)

Metadata = Literal["right", "true", "none", "wrong", "lost"]
Ranges = Literal["honoured", "ignored", "shifted", "other", "claimed"]


@dataclass(kw_only=True)
class Manner:
    """How a project's page and files are served. A test changes what it wants at any moment."""

    json: bool = True
    html: bool = True
    # Before each file's path: "" makes them relative to the host, "http://…" absolute.
    base: str = ""
    hashes: tuple[str, ...] = ("sha256",)
    sizes: bool = True
    times: bool = True
    # Of wheels: right, advertised as `true`, not there, with another hash, or advertised and 404.
    metadata: Metadata = "right"
    old_spelling: bool = False  # data-dist-info-metadata alone, in HTML
    etag: bool = True
    last_modified: bool = True
    max_age: int | None = None
    legacy_json: bool = False
    spelled: str = ""  # the page lies under this name, and the normal one redirects to it
    head: bool = True
    # ignored: 200 to a Range. shifted: 206 with other bytes. other: 206 of another range. claimed: Accept-Ranges, but 200.
    ranges: Ranges = "honoured"


@dataclass(frozen=True, kw_only=True)
class Item:
    """A file. `told` replaces what its page says of it."""

    filename: str
    data: bytes = field(repr=False)
    metadata: bytes | None = field(default=None, repr=False)
    uploaded: datetime = LONG_AGO
    version: str = "1.0"
    told: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_wheel(self) -> bool:
        return self.filename.endswith(".whl")

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    def digest(self, name: str) -> str:
        return self.sha256 if name == "sha256" else hashlib.new(name, self.data).hexdigest()


def wheel(
    name: str, version: str = "1.0", *, size: int = 0, uploaded: datetime = LONG_AGO, told: Mapping[str, Any] | None = None,
    tags: str = "py3-none-any", build: str = "", **more: Any,
) -> Item:  # fmt: skip
    """A real wheel; of at least `size` bytes."""
    if size:
        more["files"] = {f"{name.replace('-', '_')}/ballast.bin": ballast(size)}
    data = wheel_bytes(name, version, tags=tags, **more)
    filename = wheel_filename(name, version, tags=tags, build=build)
    return Item(
        filename=filename, data=data, metadata=metadata_of(data), uploaded=uploaded, version=version, told=told or {}
    )


def sdist(
    name: str,
    version: str = "1.0",
    *,
    uploaded: datetime = LONG_AGO,
    told: Mapping[str, Any] | None = None,
    **more: Any,
) -> Item:
    data = sdist_bytes(name, version, **more)
    return Item(filename=sdist_filename(name, version), data=data, uploaded=uploaded, version=version, told=told or {})


def of_file(path: Path) -> Item:
    """A distribution that lies on the disk."""
    data = path.read_bytes()
    version = path.name.removesuffix(".tar.gz").rpartition("-")[2] if path.suffix == ".gz" else path.name.split("-")[1]
    metadata = metadata_of(data) if path.suffix == ".whl" else None
    return Item(filename=path.name, data=data, metadata=metadata, version=version)


def thousands(name: str, count: int) -> list[Item]:
    """Files enough for a large page, made in no time: only the newest is a wheel that can be read."""
    items = []
    for number in range(count - 1):
        filename = wheel_filename(name, f"1.{number}")
        text = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.{number}\n\n".encode()
        items.append(Item(filename=filename, data=filename.encode(), metadata=text, version=f"1.{number}"))
    return [*items, wheel(name, "2.0")]


def ballast(size: int) -> bytes:
    """Bytes that cannot be compressed, and of which no two pieces are equal."""
    return hashlib.shake_256(str(size).encode()).digest(size)


def metadata_of(data: bytes) -> bytes | None:
    """METADATA of a wheel, read by the standard library: what a right `.metadata` must be equal to."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for path in archive.namelist():
            if path.endswith(".dist-info/METADATA") and path.count("/") == 1:
                return archive.read(path)
    return None
