"""The environments for which files are wanted: which wheels fit them, and which markers hold in them."""

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from itertools import product
from typing import Final

from msgspec import Struct
from packaging import tags
from packaging.markers import Marker
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import InvalidWheelFilename, parse_wheel_filename

from entrepot.errors import Invalid
from entrepot.model import File

_PYTHON = re.compile(r"3\.(\d{1,2})(?:\.\d{1,3})?\Z")
_LINUX = re.compile(r"(manylinux|musllinux)_(\d+)_(\d+)_(\w+)\Z")
_MAC = re.compile(r"macosx_(\d+)_(\d+)_(\w+)\Z")
_LEGACY: Final = {"manylinux1": (2, 5), "manylinux2010": (2, 12), "manylinux2014": (2, 17)}
_SHORT: Final = {
    "linux": "manylinux_2_28_x86_64", "macos": "macosx_14_0_arm64", "windows": "win_amd64",
}  # fmt: skip
_HINT: Final = "for example linux, macos, windows, manylinux_2_28_aarch64, musllinux_1_2_x86_64, macosx_14_0_arm64"


class Targets(Struct, frozen=True, kw_only=True):
    """Versions of CPython and platforms, in the words of `parse`. Empty means any."""

    pythons: tuple[str, ...] = ()
    platforms: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.pythons or self.platforms)

    def fit(self, file: File) -> bool:
        """Whether a file is of use in one of them: a wheel by its tags, any file by the Python that it requires."""
        if self.pythons and not any(_takes(file.requires_python, python) for python in self.pythons):
            return False
        if not file.is_wheel or not self:
            return True
        try:
            _, _, _, found = parse_wheel_filename(file.filename)
        except InvalidWheelFilename:
            return False
        pythons, platforms = _interpreters(self.pythons), _compatible(self.platforms)
        return any(
            (not pythons or (tag.interpreter, tag.abi) in pythons) and (not platforms or tag.platform in platforms)
            for tag in found
        )

    def hold(self, marker: Marker | None) -> bool:
        """Whether a marker holds in one of them, or might where nothing is said."""
        if marker is None or not self:
            return True
        return any(marker.evaluate(environment) for environment in self._environments())

    def _environments(self) -> Iterator[Mapping[str, str]]:
        pythons = self.pythons or tuple(f"3.{minor}" for minor in range(8, 16))
        platforms = self.platforms or tuple(_SHORT.values())
        for python, platform in product(pythons, platforms):
            yield {**_of_python(python), **_of_platform(platform), "extra": ""}


def parse(pythons: Iterable[str], platforms: Iterable[str]) -> Targets:
    """Raises `Invalid` for what is no Python version or no platform."""
    return Targets(pythons=tuple(map(_python, pythons)), platforms=tuple(map(_platform, platforms)))


def _python(text: str) -> str:
    if not _PYTHON.match(text):
        raise Invalid(f"{text!r} is no version of Python 3", at="--python", hint="for example 3.12")
    return text


def _platform(text: str) -> str:
    name = _SHORT.get(text, text)
    prefix, _, architecture = name.partition("_")
    if prefix in _LEGACY:
        name = "manylinux_{}_{}_{}".format(*_LEGACY[prefix], architecture)
    elif prefix == "linux" and architecture:
        name = f"manylinux_2_28_{architecture}"
    if not _LINUX.match(name) and not _MAC.match(name) and name not in {"win32", "win_amd64", "win_arm64"}:
        raise Invalid(f"{text!r} is no platform", at="--platform", hint=_HINT)
    return name


def _takes(requires: str | None, python: str) -> bool:
    """A `3.12` stands for its latest release as well as for its first."""
    try:
        wanted = SpecifierSet(requires or "")
    except InvalidSpecifier:
        return True  # as pip takes what it cannot read
    versions = (python,) if python.count(".") > 1 else (python, f"{python}.99")
    return any(wanted.contains(version, prereleases=True) for version in versions)


@lru_cache(maxsize=64)
def _interpreters(pythons: tuple[str, ...]) -> frozenset[tuple[str, str]]:
    """The (interpreter, abi) that they install."""
    found: set[tuple[str, str]] = set()
    for python in pythons:
        version = (3, int(python.split(".")[1]))
        made = tags.cpython_tags(python_version=version, platforms=["any"])
        found |= {(tag.interpreter, tag.abi) for tag in made}
        made = tags.compatible_tags(python_version=version, interpreter=f"cp3{version[1]}", platforms=["any"])
        found |= {(tag.interpreter, tag.abi) for tag in made}
    return frozenset(found)


@lru_cache(maxsize=64)
def _compatible(platforms: tuple[str, ...]) -> frozenset[str]:
    """The platform tags that they install."""
    found = {tag for platform in platforms for tag in _older(platform)}
    return frozenset(found | {"any"}) if found else frozenset()


def _older(platform: str) -> Iterator[str]:
    """The tag, and those of older systems that it installs as well."""
    yield platform
    if match := _MAC.match(platform):
        yield from tags.mac_platforms((int(match[1]), int(match[2])), match[3])
    elif match := _LINUX.match(platform):
        kind, major, minor, architecture = match[1], int(match[2]), int(match[3]), match[4]
        yield f"linux_{architecture}"
        yield from (f"{kind}_{major}_{older}_{architecture}" for older in range(minor + 1))
        if kind == "manylinux":
            yield from (f"{name}_{architecture}" for name, least in _LEGACY.items() if (major, minor) >= least)


def _of_python(python: str) -> Mapping[str, str]:
    return {
        "python_version": ".".join(python.split(".")[:2]),
        "python_full_version": python if python.count(".") > 1 else f"{python}.0",
        "implementation_name": "cpython",
        "implementation_version": python if python.count(".") > 1 else f"{python}.0",
        "platform_python_implementation": "CPython",
    }


def _of_platform(platform: str) -> Mapping[str, str]:
    if platform.startswith("win"):
        machine = {"win32": "x86", "win_amd64": "AMD64", "win_arm64": "ARM64"}[platform]
        return _words("nt", "win32", "Windows", machine)
    if match := _MAC.match(platform):
        return _words("posix", "darwin", "Darwin", match[3])
    return _words("posix", "linux", "Linux", platform.split("_", 3)[3])


def _words(os_name: str, sys_platform: str, system: str, machine: str) -> Mapping[str, str]:
    return {
        "os_name": os_name, "sys_platform": sys_platform, "platform_system": system, "platform_machine": machine,
        "platform_release": "", "platform_version": "",
    }  # fmt: skip


def for_uv(platform: str) -> str:
    """The platform in uv's words (`--python-platform`)."""
    if match := _LINUX.match(platform):
        kind, major, minor, architecture = match.groups()
        return f"{architecture}-{kind}_{major}_{minor}" if kind == "manylinux" else f"{architecture}-unknown-linux-musl"
    if match := _MAC.match(platform):
        return "aarch64-apple-darwin" if match[3] == "arm64" else "x86_64-apple-darwin"
    architecture = {"win32": "i686", "win_amd64": "x86_64", "win_arm64": "aarch64"}[platform]
    return f"{architecture}-pc-windows-msvc"
