"""Lock files: pylock.toml (PEP 751) and uv.lock, as far as they name files of an index."""

import posixpath
import re
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import msgspec
from msgspec import Struct

from entrepot.errors import Invalid
from entrepot.model import is_valid_name

Hashes = Mapping[str, str]  # digests in lower-case hex by hash name

_LOCK = re.compile(rb"^[ \t]*\[\[[ \t]*packages?[ \t]*\]\]", re.MULTILINE)
_DIGEST = re.compile(r"[0-9a-f]{32,128}\Z")


class Package(Struct, frozen=True, kw_only=True):
    """One package of a lock."""

    name: str
    version: str | None
    marker: str | None
    files: Mapping[str, Hashes]  # by filename
    elsewhere: str  # where it comes from if not from an index: "git", "a directory"; else ""


def is_lock(data: bytes) -> bool:
    """Whether it looks like a lock: no requirements file has such a line."""
    return _LOCK.search(data) is not None


def decoded(data: bytes, *, at: str = "") -> str:
    """Raises `Invalid` for what is not UTF-8."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Invalid(f"is not UTF-8: see byte {error.start}", at=at) from error


class _FileIn(Struct):
    """A file in either format: `hashes` are pylock's, `hash` is uv's."""

    name: str | None = None
    filename: str | None = None
    url: str | None = None
    path: str | None = None
    hashes: dict[str, str] = {}
    hash: str | None = None


class _PackageIn(Struct):
    name: str
    version: str | None = None
    marker: str | None = None
    sdist: _FileIn | None = None
    wheels: list[_FileIn] = []
    vcs: Any = None  # pylock's three ways past an index
    directory: Any = None
    archive: Any = None
    source: dict[str, Any] | None = None  # uv's


class _Pylock(Struct, rename="kebab"):
    lock_version: str
    packages: list[_PackageIn]


class _UvLock(Struct):
    version: int
    package: list[_PackageIn]


_UV_VERSION: Final = 1
_ELSEWHERE: Final = {
    "git": "git", "url": "a URL", "path": "a path", "directory": "a directory", "editable": "a directory",
    "virtual": "a directory",
}  # fmt: skip


def parse(data: bytes, *, at: str = "") -> tuple[Package, ...]:
    """Every package of the lock, in its order; the project itself is left out. Raises `Invalid`."""
    try:
        document = tomllib.loads(decoded(data, at=at))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise Invalid(f"is not TOML: {error}", at=at) from error
    try:
        if "packages" in document:
            return tuple(_of_pylock(msgspec.convert(document, _Pylock), at))
        return tuple(_of_uv(msgspec.convert(document, _UvLock), at))
    except msgspec.ValidationError as error:
        raise Invalid(f"is no lock: {error}", at=at) from error


def _of_pylock(lock: _Pylock, at: str) -> Iterator[Package]:
    # A tool must refuse another major version, and may go on with another minor one (PEP 751).
    if lock.lock_version.split(".")[0] != "1":
        raise Invalid(f"lock-version {lock.lock_version} is not supported, only 1.x is", at=at)
    for package in lock.packages:
        kinds = {"vcs": "a repository", "directory": "a directory", "archive": "a URL"}
        elsewhere = next((words for key, words in kinds.items() if getattr(package, key) is not None), "")
        yield _package(package, elsewhere, at)


def _of_uv(lock: _UvLock, at: str) -> Iterator[Package]:
    if lock.version != _UV_VERSION:
        raise Invalid(f"uv.lock of version {lock.version} is not supported, only {_UV_VERSION} is", at=at)
    for package in lock.package:
        source = package.source or {}
        if {"editable", "virtual"} & source.keys() or source.get("directory") == ".":
            continue  # the project whose lock this is, and the members of its workspace
        yield _package(package, next((words for key, words in _ELSEWHERE.items() if key in source), ""), at)


def _package(package: _PackageIn, elsewhere: str, at: str) -> Package:
    if not is_valid_name(package.name):
        raise Invalid(f"{package.name[:80]!a} is no project name", at=at)
    found = [*package.wheels, *([package.sdist] if package.sdist is not None else [])]
    files = {_filename(file, package.name, at): _hashes(file, package.name, at) for file in found}
    if not files and not elsewhere:
        elsewhere = "nowhere: it has no files"
    return Package(
        name=package.name, version=package.version, marker=package.marker, files=files, elsewhere=elsewhere
    )  # fmt: skip


def _filename(file: _FileIn, package: str, at: str) -> str:
    given = file.name or file.filename or (urlsplit(file.url).path if file.url else file.path)
    name = posixpath.basename(unquote(given or "").replace("\\", "/"))
    if not name:
        raise Invalid(f"{package}: a file has no name", at=at)
    return name


def _hashes(file: _FileIn, package: str, at: str) -> Hashes:
    hashes = {name.lower(): digest.lower() for name, digest in file.hashes.items()}
    if file.hash:
        name, _, digest = file.hash.partition(":")
        hashes[name.lower()] = digest.lower()
    for name, digest in hashes.items():
        if not _DIGEST.match(digest):
            raise Invalid(f"{package}: {digest[:80]!a} is no {name} digest", at=at)
    return hashes
