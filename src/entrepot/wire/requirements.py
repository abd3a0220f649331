"""What installers are asked to install: requirements files, pylock.toml (PEP 751) and uv.lock.

Two grammars. That of the command line (`parse_file`) follows `-r` and `-c` and passes over pip's other options. That
of HTTP (`parse_lines`) takes requirements and nothing else: every option, URL and path could make a resolver run a
stranger's code, so it is put aside and never acted on.
"""

import posixpath
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

from msgspec import Struct
from msgspec.structs import replace
from packaging.markers import InvalidMarker, Marker
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet

from entrepot.errors import Invalid
from entrepot.model import ProjectName, normalise
from entrepot.wire import locks
from entrepot.wire.locks import Hashes, decoded


class Wanted(Struct, frozen=True, kw_only=True):
    """One requirement: which files of a project are meant."""

    name: ProjectName
    specifier: SpecifierSet = SpecifierSet()
    extras: tuple[str, ...] = ()
    marker: Marker | None = None
    # As (algorithm, digest): every file that is meant has one of them. Empty: any file may be meant.
    hashes: frozenset[tuple[str, str]] = frozenset()
    # The very files that a lock names, with their hashes. Empty: what fits the rest.
    files: Mapping[str, Hashes] = {}
    text: str  # as it was written
    at: str = ""  # where: file and line
    every: bool = False  # all versions that fit, not only the newest


class Refused(Struct, frozen=True, kw_only=True):
    """A line that is not acted on, and why."""

    text: str
    why: str
    at: str = ""


class Asked(Struct, frozen=True, kw_only=True):
    """What a file asks for. `constraints` only narrow what something else asks for; `ignored` are pip's options."""

    wanted: tuple[Wanted, ...] = ()
    constraints: tuple[Wanted, ...] = ()
    refused: tuple[Refused, ...] = ()
    ignored: tuple[Refused, ...] = ()
    prereleases: bool = False  # `--pre`


def parse_lines(data: bytes) -> Asked:
    """What a request asks for: requirements or a lock, told apart by what they look like. Raises `Invalid`."""
    if locks.is_lock(data):
        return _parse_lock(data, "")
    wanted: list[Wanted] = []
    refused: list[Refused] = []
    for _, line in _lines(decoded(data)):
        _sort(_requirement(line), wanted, refused)
    return Asked(wanted=tuple(wanted), refused=tuple(refused))


Read = Callable[[str], bytes]  # the bytes of a file by its path


def parse_file(path: str, read: Read, *, environ: Mapping[str, str] | None = None) -> Asked:
    """What a file asks for, with all that it includes. `read` gets paths relative to where `path` is relative to.

    `environ` is for `${NAME}` in it. Raises `Invalid` for what is no lock, and whatever `read` raises.
    """
    found = _Reading(read, environ or {})
    found.file(path, constraints=False)
    return found.asked()


class _Reading:
    """Goes through files, each once, in the order of their lines."""

    def __init__(self, read: Read, environ: Mapping[str, str]) -> None:
        self._read = read
        self._environ = environ
        self._seen: set[tuple[str, bool]] = set()
        self._wanted: dict[bool, list[Wanted]] = {False: [], True: []}  # by whether they are constraints
        self._refused: list[Refused] = []
        self._ignored: list[Refused] = []
        self._prereleases = False
        self._hashes_required = False

    def asked(self) -> Asked:
        wanted = self._wanted[False]
        if self._hashes_required:
            bare = [one for one in wanted if not one.hashes and not one.files]
            self._refused += [Refused(text=one.text, why="--require-hashes, and no --hash", at=one.at) for one in bare]
            wanted = [one for one in wanted if one.hashes or one.files]
        return Asked(
            wanted=tuple(wanted), constraints=tuple(self._wanted[True]), refused=tuple(self._refused),
            ignored=tuple(self._ignored), prereleases=self._prereleases,
        )  # fmt: skip

    def file(self, path: str, *, constraints: bool) -> None:
        if (path, constraints) in self._seen:
            return
        self._seen.add((path, constraints))
        data = self._read(path)
        if locks.is_lock(data):
            asked = _parse_lock(data, path)
            self._wanted[constraints] += asked.wanted
            self._refused += asked.refused
            return
        for number, line in _lines(decoded(data, at=path)):
            text = _VARIABLE.sub(lambda match: self._environ.get(match[1], match[0]), line)
            self._line(text, path, f"{path}:{number}", constraints=constraints)

    def _line(self, text: str, path: str, at: str, *, constraints: bool) -> None:
        if option := _INCLUDE.match(text):
            self._include(option, path, text, at, constraints=constraints)
        elif _EDITABLE.match(text):
            self._refused.append(Refused(text=text, why=_EDITABLE_WHY, at=at))
        elif text.startswith("-"):
            self._option(text, at)
        else:
            found = _requirement(text, at=at)
            _sort(found, self._wanted[constraints], self._refused)

    def _include(self, option: re.Match[str], path: str, text: str, at: str, *, constraints: bool) -> None:
        target = option["path"].strip()
        if "://" in target:
            self._refused.append(Refused(text=text, why="a URL is not fetched; save it as a file", at=at))
            return
        self.file(_beside(path, target), constraints=constraints or option["kind"] in {"-c", "--constraint"})

    def _option(self, text: str, at: str) -> None:
        word = re.split(r"[\s=]", text, maxsplit=1)[0]
        if word == "--pre":
            self._prereleases = True
        elif word == "--require-hashes":
            self._hashes_required = True
        elif _IGNORED.match(text):
            self._ignored.append(Refused(text=text, why="files come from the index of this command", at=at))
        else:
            self._refused.append(Refused(text=text, why="no option that is known here", at=at))


_EDITABLE_WHY: Final = "an editable project is no file of an index"
_INCLUDE = re.compile(r"(?P<kind>-r|--requirement|-c|--constraint)(?:[\s=]\s*|(?<=-[rc])(?=[^\s=]))(?P<path>.+)")
_EDITABLE = re.compile(r"(?:-e|--editable)(?:[\s=]|\Z)")
_IGNORED = re.compile(
    r"(?:-i|-f|--(?:index-url|pypi-url|extra-index-url|no-index|find-links|no-binary|only-binary|prefer-binary"
    r"|trusted-host|use-feature|config-settings|global-option|no-build-isolation))(?:[\s=]|\Z)"
)
_VARIABLE = re.compile(r"\$\{([A-Z0-9_]+)\}")
_COMMENT = re.compile(r"(?:\A|\s+)#.*\Z")


def _beside(path: str, target: str) -> str:
    return posixpath.normpath(posixpath.join(posixpath.dirname(path), target))


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Lines with their number: continued ones joined; without comments, and without those that are empty then."""
    whole, first = "", 0
    # Not `splitlines`: to pip only these end a line, and a comment must not end at another one.
    for number, line in enumerate(re.split(r"\r\n|\r|\n", text), 1):
        first = first if whole else number
        if line.endswith("\\") and not line.lstrip().startswith("#"):
            whole += line[:-1]
            continue
        whole += _COMMENT.sub("", line) if not whole or not line.lstrip().startswith("#") else ""
        if stripped := _COMMENT.sub("", whole).strip():
            yield first, stripped
        whole = ""
    if stripped := whole.strip():
        yield first, stripped


_HASH_OPTION = re.compile(r"\s+--hash[\s=]\s*(\S+)")
_OPTION = re.compile(r"\s--?[a-z]")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/|file:|[A-Za-z]:\\")
# Hash functions that pip takes for strong.
_STRONG: Final = {"sha256": 64, "sha384": 96, "sha512": 128}
_LONGEST: Final = 16 << 10  # characters; a line with the hashes of all wheels of a large project has some 8,000


def _requirement(line: str, *, at: str = "") -> Wanted | Refused:
    """A requirement with its `--hash` options; what is none is refused."""
    text, hashes = _HASH_OPTION.sub("", line), _HASH_OPTION.findall(line)
    if why := _fault(text) or _fault_of_hashes(hashes) or (len(line) > _LONGEST and "it is too long"):
        return Refused(text=line, why=why, at=at)
    try:
        found = Requirement(text)
    except (InvalidRequirement, ValueError, RecursionError):  # numbers of a thousand digits; nested brackets
        return Refused(text=line, why="it is no requirement (PEP 508)", at=at)
    if found.url is not None:
        return Refused(text=line, why="a URL names no file of an index", at=at)
    return Wanted(
        name=normalise(found.name), specifier=found.specifier, extras=tuple(sorted(found.extras)), marker=found.marker,
        hashes=frozenset(_pair(given) for given in hashes), text=line, at=at,
    )  # fmt: skip


def _fault(text: str) -> str:
    """Why a line is no plain requirement; "" if it may be one."""
    if text.startswith("-") or _OPTION.search(text):
        return "it has an option"
    if _URL.match(text) or text.startswith((".", "/", "~", "\\")) or re.match(r"[^;\[]*[/\\]", text.partition("@")[0]):
        return "it is a URL or a path"
    return ""


def _fault_of_hashes(hashes: Iterable[str]) -> str:
    for given in hashes:
        name, digest = _pair(given)
        if len(digest) != _STRONG.get(name) or not re.fullmatch("[0-9a-f]+", digest):
            return f"{given[:100]!a} is no hash; one of {', '.join(_STRONG)} and a hexadecimal digest"
    return ""


def _pair(given: str) -> tuple[str, str]:
    name, _, digest = given.strip("\"'").partition(":")
    return name.lower(), digest.lower()


def _sort(found: Wanted | Refused, wanted: list[Wanted], refused: list[Refused]) -> None:
    if isinstance(found, Wanted):
        wanted.append(found)
    else:
        refused.append(found)


def _parse_lock(data: bytes, path: str) -> Asked:
    """Every package of a lock that has files of an index. Raises `Invalid`."""
    wanted: list[Wanted] = []
    refused: list[Refused] = []
    for package in locks.parse(data, at=path):
        text = f"{package.name}=={package.version}" if package.version else package.name
        if package.elsewhere:
            refused.append(Refused(text=text, why=f"it comes from {package.elsewhere}, not from an index", at=path))
            continue
        try:
            specifier = SpecifierSet(f"=={package.version}" if package.version else "")
            marker = Marker(package.marker) if package.marker else None
        except (InvalidSpecifier, InvalidMarker, ValueError, RecursionError) as error:
            raise Invalid(f"{text}: {error}", at=path) from error
        name = normalise(package.name)
        wanted.append(
            Wanted(name=name, specifier=specifier, marker=marker, files=package.files, text=text, at=path)
        )  # fmt: skip
    return Asked(wanted=tuple(wanted), refused=tuple(refused))


def narrowed(wanted: Iterable[Wanted], constraints: Iterable[Wanted]) -> tuple[Wanted, ...]:
    """What is wanted, within the constraints on the same names."""
    by_name: dict[ProjectName, SpecifierSet] = {}
    for one in constraints:
        by_name[one.name] = by_name.get(one.name, SpecifierSet()) & one.specifier
    return tuple(replace(one, specifier=one.specifier & by_name.get(one.name, SpecifierSet())) for one in wanted)
