"""Filenames of distributions: read leniently what exists, check strictly what is uploaded, and order files.

`parse` takes every name that pip would still install from; `check` takes only what the current standards
allow a builder to write (PEP 427, PEP 440, PEP 625).
"""

import re
from bisect import bisect_right
from collections.abc import Iterable
from functools import lru_cache
from math import inf
from typing import Literal

from msgspec import Struct
from packaging.utils import InvalidWheelFilename, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from entrepot.errors import Invalid
from entrepot.model import File, ProjectName, is_valid_name, normalise

Kind = Literal["sdist", "bdist_wheel", "bdist_egg"]

_ACCEPTED = "wheels (.whl) and source distributions (.tar.gz) are accepted"
_LONGEST = 255  # bytes, of which file systems take no more for one name
_READABLE = re.compile(rf"[A-Za-z0-9._+!-]{{1,{_LONGEST}}}\Z", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
# .zip was a source distribution before PEP 625; such files still lie in folders and on mirrors.
_SDIST_EXTENSIONS = (".tar.gz", ".zip")
# Eggs were what wheels are now. Nobody builds or installs them any more, but old indexes and folders have them.
_EGG = re.compile(r"(.+)-([^-]+)-py(\d[0-9.]*)(?:-.+)?\.egg\Z")
_NONE = Version("0")  # stands for a version that is not PEP 440 where only its absence counts
# Names that can mean one thing only, of a version that is its own normal form: nearly all.
_PLAIN = r"(?:0|[1-9][0-9]*)(?:\.(?:0|[1-9][0-9]*))*"
_USUAL = re.compile(
    rf"[A-Za-z0-9](?:[A-Za-z0-9._]*[A-Za-z0-9])?-({_PLAIN})(?:\.tar\.gz|(?:-[A-Za-z0-9._]+){{3}}\.whl)\Z"
).match
_IS_PLAIN = re.compile(rf"{_PLAIN}\Z").match
_BUILD = re.compile(r"\d[A-Za-z0-9._]*\Z", re.ASCII)


class Distribution(Struct, frozen=True, kw_only=True):
    """What a filename tells. `version` is None, and `version_text` as written, where it is not PEP 440."""

    project: ProjectName
    version: Version | None
    version_text: str
    kind: Kind
    pyversion: str = "source"  # the upload form's word: "source", a wheel's Python tag, or the Python of an egg
    build: str = ""
    tags: str = ""  # a wheel's compressed tag set as written: "py2.py3-none-any"


def parse(filename: str, *, project: ProjectName | None = None) -> Distribution:
    """Read the name of a file that exists already. `project`, where known, settles an ambiguous split.

    Raises `Invalid` for what is no wheel, sdist or egg: installers, signatures, anything with a path.
    """
    if not _READABLE.match(filename):
        raise Invalid("no distribution has such a filename", at=ascii(filename), hint=_ACCEPTED)
    if filename.endswith(".whl"):
        return _parse_wheel(filename, project)
    if egg := _EGG.match(filename):
        return _named(filename, egg[1], egg[2], kind="bdist_egg", pyversion=egg[3])
    for extension in _SDIST_EXTENSIONS:
        if filename.endswith(extension):
            return _parse_sdist(filename, filename[: -len(extension)], project)
    raise Invalid("the filename is that of no wheel or source distribution", at=filename, hint=_ACCEPTED)


def version_of(filename: str, project: ProjectName) -> str | None:
    """The `version_text` of a file of that project; None if `parse` takes it for no distribution.

    Of the wheels of a version only the first is parsed: pages have thousands of them.
    """
    if filename.endswith(".whl") and filename.count("-") > 3 and _READABLE.match(filename):
        stem, python, abi, platform = filename.rsplit("-", 3)
        if python and abi and platform != ".whl":
            return _version_text(stem + "-a-b-c.whl", project)
    return _version_text(filename, project)


@lru_cache(maxsize=1 << 14)
def _version_text(filename: str, project: ProjectName) -> str | None:
    usual = _USUAL(filename)
    if usual is not None and len(filename) <= _LONGEST:
        return usual[1]
    try:
        return parse(filename, project=project).version_text
    except Invalid:
        return None


def _parse_wheel(filename: str, project: ProjectName | None) -> Distribution:
    """`{name}-{version}(-{build})?-{python}-{abi}-{platform}.whl` (PEP 427); a name may hold "-" here."""
    parts = filename[:-4].split("-")
    if len(parts) < 5 or not all(parts):
        raise Invalid(
            "a wheel's filename has five or six parts",
            at=filename,
            hint="name-version-python-abi-platform.whl",
        )
    named, python, tags = parts[:-3], parts[-3], "-".join(parts[-3:])
    build = ""
    if len(named) > 2 and _BUILD.match(named[-1]) and _version(named[-2]) and _fits(named[:-2], project):
        build = named.pop()
    return _named(
        filename,
        "-".join(named[:-1]),
        named[-1],
        kind="bdist_wheel",
        pyversion=python,
        build=build,
        tags=tags,
    )


def _fits(name: list[str], project: ProjectName | None) -> bool:
    return project is None or normalise("-".join(name)) == project


def _parse_sdist(filename: str, stem: str, project: ProjectName | None) -> Distribution:
    """`{name}-{version}`: before PEP 625 both could hold "-", so the best split is looked for."""
    name, dash, version = stem.partition("-")
    if not dash:
        raise Invalid("the filename has no version", at=filename, hint="name-version.tar.gz")
    if "-" in version or (project is not None and normalise(name) != project):
        name, version = _best_split(stem, project)
    return _named(filename, name, version, kind="sdist")


def _best_split(stem: str, project: ProjectName | None) -> tuple[str, str]:
    """The split that gives the project's name; else the longest valid version; else at the first digit."""
    parts = stem.split("-")
    splits = [("-".join(parts[:at]), "-".join(parts[at:])) for at in range(1, len(parts))]
    if project is not None:
        ours = [split for split in splits if normalise(split[0]) == project]
        splits = ours or splits
    valid = (split for split in splits if _version(split[1]))
    digits = (split for split in splits if split[1][:1].isdigit())
    return next(valid, None) or next(digits, None) or splits[-1]


def _named(
    filename: str,
    name: str,
    text: str,
    *,
    kind: Kind,
    pyversion: str = "source",
    build: str = "",
    tags: str = "",
) -> Distribution:
    if not is_valid_name(name) or not text:
        raise Invalid("the filename has no valid project name and version", at=filename, hint=_ACCEPTED)
    version = _version(text)
    return Distribution(
        project=normalise(name),
        version=version,
        version_text=text if version is None else str(version),
        kind=kind,
        pyversion=pyversion,
        build=build,
        tags=tags,
    )


@lru_cache(maxsize=1 << 14)
def _version(text: str) -> Version | None:
    try:
        return Version(text)
    except InvalidVersion:
        return None


def check(filename: str, *, kind: str) -> Distribution:
    """Read the name of a file being uploaded as `kind` (the form's `filetype`). Raises `Invalid`."""
    _check_characters(filename)
    if filename.endswith(".whl"):
        _check_kind(filename, kind, "bdist_wheel")
        return _check_wheel(filename)
    if filename.endswith(".tar.gz"):
        _check_kind(filename, kind, "sdist")
        return _check_sdist(filename)
    raise Invalid(f"Filename {filename!r} is not accepted", at="content", hint=_ACCEPTED)


def _check_characters(filename: str) -> None:
    if _CONTROL.search(filename):
        raise Invalid(f"Filename {filename!a} holds control characters", at="content")
    if "/" in filename or "\\" in filename:
        raise Invalid(f"Filename {filename!a} is a path", at="content", hint="send the last part only")
    if len(filename.encode("utf-8", "surrogatepass")) > _LONGEST:
        raise Invalid(f"Filename {filename[:40]!a}… is longer than {_LONGEST} bytes", at="content")
    if not _READABLE.match(filename):
        raise Invalid(f"Filename {filename!a} holds characters that no distribution has", at="content")


def _check_kind(filename: str, given: str, actual: Kind) -> None:
    if given != actual:
        raise Invalid(f"Filename {filename!r} is a {actual}, the form says {given!r}", at="filetype")


def _check_sdist(filename: str) -> Distribution:
    """`{name}-{version}.tar.gz`, both normalised, the name with "_" for "-" (PEP 625)."""
    found = parse(filename)
    if found.version is None:
        raise Invalid(f"Filename {filename!r} has no valid version", at="content", hint="versions follow PEP 440")
    _check_spelling(filename, f"{_escaped(found.project)}-{found.version_text}.tar.gz")
    return found


def _check_wheel(filename: str) -> Distribution:
    try:
        name, version, _, _ = parse_wheel_filename(filename)
    except InvalidWheelFilename as error:
        # packaging repeats the whole filename after its reason.
        reason = str(error).partition(": ")[0]
        hint = "name-version-python-abi-platform.whl, see PEP 427"
        raise Invalid(f"{reason}: {filename!r}", at="content", hint=hint) from error
    # packaging lets a leading or trailing separator through, which is no name (PEP 508).
    if not is_valid_name(name):
        raise Invalid(f"Filename {filename!r} has no valid project name", at="content")
    rest = filename.split("-", 2)[2]
    _check_spelling(filename, f"{_escaped(normalise(name))}-{version}-{rest}")
    return parse(filename, project=normalise(name))


def _check_spelling(filename: str, expected: str) -> None:
    if filename != expected:
        raise Invalid(
            f"Filename {filename!r} is invalid, should be {expected!r}.",
            at="content",
            hint="rebuild with a current build backend",
        )


def _escaped(project: ProjectName) -> str:
    return project.replace("-", "_")


def ordered(files: Iterable[File]) -> tuple[File, ...]:
    """By (version, filename); files without a PEP 440 version come first."""
    files = tuple(files)
    ranks = _ranks({file.version for file in files})
    # Numbered, so that files themselves are never compared, and no function is called for each.
    places = [ranks[file.version] for file in files]
    keys = sorted(zip(places, [file.filename for file in files], range(len(files)), strict=True))
    return tuple([files[number] for _, _, number in keys])


def inserted(files: tuple[File, ...], file: File) -> tuple[File, ...]:
    """`ordered((*files, file))` for files that are in order already: a few comparisons, however many there are."""
    place = bisect_right(files, _place(file), key=_place)
    return (*files[:place], file, *files[place:])


def _place(file: File) -> tuple[bool, Version, str]:
    version = _version(file.version)
    return version is not None, version or _NONE, file.filename


def versions(files: Iterable[File]) -> tuple[str, ...]:
    """The version texts of the files, each once, lowest first."""
    texts = {file.version for file in files}
    ranks = _ranks(texts)
    return tuple(sorted(texts, key=lambda text: (ranks[text], text)))


def latest(files: Iterable[File]) -> str | None:
    """The version to show first: not wholly yanked before yanked, final before pre-release, then highest."""
    files = tuple(files)
    standing = {file.version for file in files if file.yanked is None}
    finals = {text for text in {file.version for file in files} if is_final(text)}
    rank = {text: position for position, text in enumerate(versions(files))}
    return max(rank, key=lambda text: (text in standing, text in finals, rank[text]), default=None)


def is_final(text: str) -> bool:
    """Whether a version is no pre-release: what resolvers look at first."""
    version = _version(text)
    return version is not None and not version.is_prerelease


def _ranks(texts: set[str]) -> dict[str, int]:
    """Comparing versions is slow: sort each distinct one once, and files by the number of its place."""
    keys = {text: _key(text) for text in texts}
    places = {key: place for place, key in enumerate(sorted({key for key in keys.values() if key is not None}), 1)}
    return {text: 0 if key is None else places[key] for text, key in keys.items()}


# Of a final release: neither before nor behind it, and without a local part.
_FINAL = ((1, "", 0), -1, inf, ())
_Key = tuple[int, tuple[int, ...], tuple[tuple[int, str, int], int, float, tuple[tuple[int, int, str], ...]]]


@lru_cache(maxsize=1 << 14)
def _key(text: str) -> _Key | None:
    """Compares as `packaging.version.Version` does, of which the making alone takes five times as long."""
    if _IS_PLAIN(text):
        return 0, _trimmed([int(part) for part in text.split(".")]), _FINAL
    version = _version(text)
    if version is None:
        return None
    pre, post, dev = version.pre, version.post, version.dev
    before = (0, *pre) if pre is not None else (-1, "", 0) if post is None and dev is not None else (1, "", 0)
    local = [
        (1, int(part), "") if part.isdigit() else (0, 0, part) for part in (version.local or "").split(".") if part
    ]
    rest = (before, -1 if post is None else post, inf if dev is None else dev, tuple(local))
    return version.epoch, _trimmed(list(version.release)), rest


def _trimmed(release: list[int]) -> tuple[int, ...]:
    """1.0 is 1.0.0 (PEP 440)."""
    while release and not release[-1]:
        release.pop()
    return tuple(release)
