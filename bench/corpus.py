"""The wheels that every server serves: small, valid (PEP 427), and the same bytes on every machine."""

import base64
import hashlib
import io
import json
import os
import shutil
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

GENERATION = 1  # raised when the bytes change: an older corpus is then made anew
MODERATE, LARGE = 60_000, 20_000_000
LARGE_PROJECT = "acme-thousand"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How many wheels: `projects` of `files` each, and one project of `thousand`."""

    projects: int
    files: int
    thousand: int

    @property
    def wheels(self) -> int:
        return self.projects * self.files + self.thousand

    def names(self) -> list[str]:
        return [project_name(number) for number in range(self.projects)] + [LARGE_PROJECT]

    def versions(self, name: str) -> list[str]:
        return [f"1.{number}.0" for number in range(self.thousand if name == LARGE_PROJECT else self.files)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wheel:
    name: str
    version: str
    body: bytes

    @property
    def filename(self) -> str:
        return wheel_filename(self.name, self.version)


def project_name(number: int) -> str:
    return f"acme-p{number:04}"


def wheel_filename(name: str, version: str) -> str:
    return f"{name.replace('-', '_')}-{version}-py3-none-any.whl"


def wheel(name: str, version: str, payload: int = 0) -> Wheel:
    """A wheel of about 1.7 kB; `payload` adds that many bytes which do not compress."""
    package = name.replace("-", "_")
    info = f"{package}-{version}.dist-info"
    members = {
        f"{package}/__init__.py": f'"""The {name} package."""\n\n__version__ = "{version}"\n'.encode(),
        f"{info}/METADATA": _metadata(name, version),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: bench\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    if payload:
        members[f"{package}/payload.bin"] = _noise(f"{name} {version}", payload)
    lines = [f"{path},sha256={_digest(body)},{len(body)}\n" for path, body in members.items()]
    members[f"{info}/RECORD"] = ("".join(lines) + f"{info}/RECORD,,\n").encode()
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for path, body in members.items():
            entry = zipfile.ZipInfo(path, (2024, 1, 1, 0, 0, 0))
            entry.external_attr = 0o100644 << 16
            entry.compress_type = zipfile.ZIP_STORED if path.endswith(".bin") else zipfile.ZIP_DEFLATED
            archive.writestr(entry, body)
    return Wheel(name=name, version=version, body=out.getvalue())


def wheels(names: list[str], versions: list[str]) -> Iterator[Wheel]:
    return (wheel(name, version) for name in names for version in versions)


def ensure(folder: Path, shape: Shape) -> None:
    """The corpus in `folder`, one subfolder per project; reused when it is already there."""
    stamp = folder.with_suffix(".json")
    wanted = {"generation": GENERATION, "shape": [shape.projects, shape.files, shape.thousand]}
    if stamp.exists() and json.loads(stamp.read_text()) == wanted:
        return
    print(f"making {shape.wheels:,} wheels in {folder}", flush=True)
    stamp.unlink(missing_ok=True)
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    jobs = [(folder, name, shape.versions(name)) for name in shape.names()]
    with get_context("fork").Pool(os.cpu_count()) as pool:
        pool.starmap(_write_project, jobs, chunksize=50)
    for name, size in (("acme-moderate", MODERATE), ("acme-large", LARGE)):
        made = wheel(name, "1.0.0", size)
        (folder / name).mkdir()
        (folder / name / made.filename).write_bytes(made.body)
    stamp.write_text(json.dumps(wanted))


def _write_project(folder: Path, name: str, versions: list[str]) -> None:
    (folder / name).mkdir()
    for made in wheels([name], versions):
        (folder / name / made.filename).write_bytes(made.body)


def _metadata(name: str, version: str) -> bytes:
    prose = "\n".join(hashlib.sha256(f"{name} {version} {line}".encode()).hexdigest() for line in range(18))
    return (
        f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nSummary: A small wheel for measuring\n"
        f"License: MIT\nRequires-Python: >=3.9\nRequires-Dist: packaging>=23\n"
        f"Description-Content-Type: text/plain\n\n{prose}\n"
    ).encode()


def _noise(seed: str, size: int) -> bytes:
    return hashlib.shake_128(seed.encode()).digest(size)


def _digest(body: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(body).digest()).rstrip(b"=").decode()
