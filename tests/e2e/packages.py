"""Distributions as real build back ends make them."""

import base64
import hashlib
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement

from tests.e2e.processes import clean_environment


@dataclass(frozen=True)
class Built:
    """A project's wheel and sdist."""

    wheel: Path
    sdist: Path

    @property
    def files(self) -> tuple[Path, Path]:
        return self.wheel, self.sdist


def build(folder: Path, name: str, version: str, *, code: str, extra: str = "") -> Built:
    """Sources of a project, built by `python -m build` with hatchling: first the sdist, and from it the wheel."""
    source = folder / "source" / f"{name}-{version}"
    (source / "src" / name).mkdir(parents=True)
    (source / "src" / name / "__init__.py").write_text(code)
    (source / "README.md").write_text(f"# {name}\n\nReal, but small.\n")
    (source / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
        f'[project]\nname = "{name}"\nversion = "{version}"\nreadme = "README.md"\n'
        f'requires-python = ">=3.9"\nlicense = "MIT"\n{extra}'
    )
    out = folder / f"{name}-{version}"
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(source)]
    built = subprocess.run(command, env=clean_environment(), capture_output=True, text=True, timeout=120, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    [wheel], [sdist] = out.glob("*.whl"), out.glob("*.tar.gz")
    return Built(wheel, sdist)


def pack_backends(folder: Path) -> Path:
    """Wheels of hatchling and all that it needs, packed again from where they are installed."""
    waiting, packed = ["hatchling"], set[str]()
    while waiting:
        name = waiting.pop()
        if name not in packed:
            packed.add(name)
            _pack(folder, name)
            needs = map(Requirement, distribution(name).requires or ())
            waiting += [need.name for need in needs if need.marker is None or need.marker.evaluate({"extra": ""})]
    return folder


def _pack(folder: Path, name: str) -> None:
    installed = distribution(name)
    inside = {
        str(file): Path(str(file.locate())).read_bytes()
        for file in installed.files or ()
        if ".." not in file.parts and "__pycache__" not in file.parts
    }
    [info] = {path.split("/")[0] for path in inside if path.split("/")[0].endswith(".dist-info")}
    for local in ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json"):
        inside.pop(f"{info}/{local}", None)
    lines = [f"{path},sha256={_digest(data)},{len(data)}\n" for path, data in inside.items()]
    inside[f"{info}/RECORD"] = f"{''.join(lines)}{info}/RECORD,,\n".encode()
    with zipfile.ZipFile(folder / f"{info.removesuffix('.dist-info')}-py3-none-any.whl", "w") as wheel:
        for path, data in inside.items():
            wheel.writestr(path, data)


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
