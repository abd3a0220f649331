"""Makes valid wheels and sdists of any name and content: the same bytes for the same arguments, in well under 1 ms.

Everyone's tests and the bench build their distributions with these; the hostile ones of this folder start from them.
"""

import base64
import gzip
import hashlib
import io
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from packaging.utils import canonicalize_name
from packaging.version import Version

# The first moment that ZIP archives can express.
_EPOCH = (1980, 1, 1, 0, 0, 0)
_PURE = "py3-none-any"


def escaped(name: str) -> str:
    return canonicalize_name(name).replace("-", "_")


def wheel_filename(name: str = "demo", version: str = "1.0", *, tags: str = _PURE, build: str = "") -> str:
    return "-".join([escaped(name), str(Version(version)), *([build] if build else []), tags]) + ".whl"


def sdist_filename(name: str = "demo", version: str = "1.0") -> str:
    return f"{escaped(name)}-{Version(version)}.tar.gz"


def metadata_text(
    name: str = "demo",
    version: str = "1.0",
    *,
    requires: Sequence[str] = (),
    requires_python: str = ">=3.9",
    extra: str = "",
    description: str = "A package for tests.\n",
) -> str:
    """METADATA or PKG-INFO; `extra` is further header lines, each ended by a newline."""
    python = f"Requires-Python: {requires_python}\n" if requires_python else ""
    dependencies = "".join(f"Requires-Dist: {dependency}\n" for dependency in requires)
    head = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nSummary: {name} for tests\n"
    if extra.startswith("Metadata-Version:"):
        head = head.partition("\n")[2]
    return f"{head}{python}{dependencies}{extra}\n{description}"


def record_line(path: str, data: bytes) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
    return f"{path},sha256={digest},{len(data)}\n"


def wheel_members(
    name: str = "demo",
    version: str = "1.0",
    *,
    requires: Sequence[str] = (),
    requires_python: str = ">=3.9",
    files: Mapping[str, bytes] | None = None,
    metadata: str | None = None,
    metadata_extra: str = "",
    entry_points: str = "",
    tags: str = _PURE,
    record: bool = True,
) -> dict[str, bytes]:
    """The members of a wheel in the order in which they are written: RECORD last."""
    folder = f"{escaped(name)}-{Version(version)}.dist-info"
    text = metadata or metadata_text(
        name, version, requires=requires, requires_python=requires_python, extra=metadata_extra
    )
    members = dict(files if files is not None else {f"{escaped(name)}/__init__.py": b""})
    members[f"{folder}/METADATA"] = text.encode()
    python, abi, platform = tags.split("-")
    lines = [f"Tag: {p}-{a}-{m}\n" for p in python.split(".") for a in abi.split(".") for m in platform.split(".")]
    head = "Wheel-Version: 1.0\nGenerator: entrepot-tests\nRoot-Is-Purelib: true\n"
    members[f"{folder}/WHEEL"] = (head + "".join(lines)).encode()
    if entry_points:
        members[f"{folder}/entry_points.txt"] = entry_points.encode()
    if record:
        listed = "".join(record_line(path, data) for path, data in members.items())
        members[f"{folder}/RECORD"] = f"{listed}{folder}/RECORD,,\n".encode()
    return members


def zip_bytes(members: Mapping[str, bytes], *, compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path, data in members.items():
            info = zipfile.ZipInfo(path, _EPOCH)
            info.compress_type = compression
            info.external_attr = 0o100644 << 16
            archive.writestr(info, data)
    return buffer.getvalue()


def wheel_bytes(
    name: str = "demo",
    version: str = "1.0",
    *,
    requires: Sequence[str] = (),
    requires_python: str = ">=3.9",
    files: Mapping[str, bytes] | None = None,
    metadata: str | None = None,
    metadata_extra: str = "",
    entry_points: str = "",
    tags: str = _PURE,
) -> bytes:
    """A valid wheel. `files` are its members outside of .dist-info; `metadata` replaces METADATA's text."""
    return zip_bytes(
        wheel_members(
            name,
            version,
            requires=requires,
            requires_python=requires_python,
            files=files,
            metadata=metadata,
            metadata_extra=metadata_extra,
            entry_points=entry_points,
            tags=tags,
        )
    )


def make_wheel(
    folder: Path,
    name: str = "demo",
    version: str = "1.0",
    *,
    requires: Sequence[str] = (),
    requires_python: str = ">=3.9",
    files: Mapping[str, bytes] | None = None,
    metadata: str | None = None,
    metadata_extra: str = "",
    entry_points: str = "",
    tags: str = _PURE,
    build: str = "",
    filename: str = "",
) -> Path:
    """A valid wheel in `folder`, under its right name unless `filename` says another."""
    path = folder / (filename or wheel_filename(name, version, tags=tags, build=build))
    path.write_bytes(
        wheel_bytes(
            name,
            version,
            requires=requires,
            requires_python=requires_python,
            files=files,
            metadata=metadata,
            metadata_extra=metadata_extra,
            entry_points=entry_points,
            tags=tags,
        )
    )
    return path


def tar_gz(members: Mapping[str, bytes] | Sequence[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    """A .tar.gz of members given by name, or as headers with their contents."""
    pairs = [(_header(path), data) for path, data in members.items()] if isinstance(members, Mapping) else members
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for info, data in pairs:
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return gzip.compress(buffer.getvalue(), compresslevel=1, mtime=0)


def _header(path: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(path)
    info.mode = 0o644
    return info


def sdist_members(
    name: str = "demo",
    version: str = "1.0",
    *,
    requires: Sequence[str] = (),
    requires_python: str = ">=3.9",
    files: Mapping[str, bytes] | None = None,
    metadata: str | None = None,
    metadata_extra: str = "",
) -> dict[str, bytes]:
    """The members of an sdist; `files` are given below its folder."""
    top = f"{escaped(name)}-{Version(version)}"
    text = metadata or metadata_text(
        name, version, requires=requires, requires_python=requires_python, extra=metadata_extra
    )
    project = b'[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
    inside = {"pyproject.toml": project, f"{escaped(name)}/__init__.py": b""} if files is None else dict(files)
    return {f"{top}/{path}": data for path, data in {**inside, "PKG-INFO": text.encode()}.items()}


def sdist_bytes(
    name: str = "demo",
    version: str = "1.0",
    *,
    requires: Sequence[str] = (),
    requires_python: str = ">=3.9",
    files: Mapping[str, bytes] | None = None,
    metadata: str | None = None,
    metadata_extra: str = "",
) -> bytes:
    """A valid sdist."""
    return tar_gz(
        sdist_members(
            name,
            version,
            requires=requires,
            requires_python=requires_python,
            files=files,
            metadata=metadata,
            metadata_extra=metadata_extra,
        )
    )


def make_sdist(
    folder: Path,
    name: str = "demo",
    version: str = "1.0",
    *,
    requires: Sequence[str] = (),
    requires_python: str = ">=3.9",
    files: Mapping[str, bytes] | None = None,
    metadata: str | None = None,
    metadata_extra: str = "",
    filename: str = "",
) -> Path:
    """A valid sdist in `folder`, under its right name unless `filename` says another."""
    path = folder / (filename or sdist_filename(name, version))
    path.write_bytes(
        sdist_bytes(
            name,
            version,
            requires=requires,
            requires_python=requires_python,
            files=files,
            metadata=metadata,
            metadata_extra=metadata_extra,
        )
    )
    return path
