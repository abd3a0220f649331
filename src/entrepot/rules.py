"""Rules: pure functions from a page and the time to a page. They may only withhold files and lower `valid_until`.

Time comes in as a value. What a rule cannot tell of a file counts against the file.
"""

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Any

from msgspec import Struct
from msgspec.structs import replace
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from entrepot import units
from entrepot.errors import EntrepotError, Invalid, collected
from entrepot.model import File, Project, ProjectName, earliest, normalise

Rule = Callable[[Project, datetime], Project]

_SDISTS = (".tar.gz", ".zip", ".tgz", ".tar.bz2", ".tar.xz", ".tar.z", ".tar")
# What a pattern against filenames ends in; project names may hold dots as well ("zope.interface").
_ENDINGS = (".whl", ".egg", *_SDISTS, ".exe", ".msi", ".rpm", ".deb", ".dmg")
_NAMES = re.compile(r"[A-Za-z0-9._*?-]+\Z", re.ASCII)
_FILENAMES = re.compile(r"[A-Za-z0-9._+!*?-]+\Z", re.ASCII)
_WITH_VERSIONS = re.compile(r"\s*([^\s=<>!~]*)\s*([=<>!~].*)\Z", re.DOTALL)
_HINT = 'a pattern is "name", "acme-*", "name==1.*" or "*.exe"'
_LONGEST = timedelta(days=36_500)


class Pattern(Struct, frozen=True, kw_only=True):
    """Which files are meant: by the project's name, and perhaps by their version or their filename."""

    text: str
    names: re.Pattern[str]
    versions: Callable[[str], bool | None] | None = None
    filenames: re.Pattern[str] | None = None

    def matches(self, file: File) -> bool | None:
        """Of a project whose name matches. None if the file's version cannot be compared."""
        if self.filenames is not None:
            return self.filenames.match(file.filename) is not None
        return self.versions is None or self.versions(file.version)


def pattern(text: str) -> Pattern:
    """Raises `Invalid` for what is no pattern."""
    if text.lower().endswith(_ENDINGS):
        if not _FILENAMES.match(text):
            raise Invalid(f"{text!r} matches no filename", hint=_HINT)
        return Pattern(text=text, names=_glob("*"), filenames=_glob(text))
    name, versions = text, None
    if split := _WITH_VERSIONS.match(text):
        name = split[1]
        try:
            versions = _within(SpecifierSet(split[2]))
        except InvalidSpecifier:
            raise Invalid(f"{split[2]!r} is no version specifier", hint=_HINT) from None
    if not _NAMES.match(name):
        raise Invalid(f"{text!r} matches no project name", hint=_HINT)
    return Pattern(text=text, names=_glob(normalise(name)), versions=versions)


def _glob(text: str) -> re.Pattern[str]:
    """`*` stands for any characters, `?` for one, in any case."""
    signs = {"*": ".*", "?": "."}
    return re.compile("".join(signs.get(sign, re.escape(sign)) for sign in text) + r"\Z", re.IGNORECASE)


def _within(specifiers: SpecifierSet) -> Callable[[str], bool | None]:
    """Whether a version is within the specifiers; None if it is not of PEP 440."""

    @lru_cache(maxsize=1 << 12)
    def contains(text: str) -> bool | None:
        try:
            return specifiers.contains(Version(text), prereleases=True)
        except InvalidVersion:
            return None

    return contains


def names(patterns: Iterable[str]) -> Callable[[ProjectName], bool]:
    """Whether a project's name matches one of the patterns, which must be of names alone. Raises `Invalid`."""
    known = [_of_names(text) for text in patterns]
    return lambda name: any(globbed.match(name) for globbed in known)


def _of_names(text: str) -> re.Pattern[str]:
    found = pattern(text)
    if found.versions is not None or found.filenames is not None:
        raise Invalid(f"{text!r} is no pattern of project names", hint='for example "acme-*"')
    return found.names


def _first(patterns: Iterable[Pattern], page: Project, *, unknown: bool) -> Callable[[File], Pattern | None]:
    """The first pattern that matches a file of this page; `unknown` is taken where that cannot be told."""
    ours = [known for known in patterns if known.names.match(page.name)]

    def first(file: File) -> Pattern | None:
        for known in ours:
            answer = known.matches(file)
            if unknown if answer is None else answer:
                return known
        return None

    return first


def allow(patterns: Collection[Pattern]) -> Rule:
    """Only what matches passes."""

    def rule(page: Project, now: datetime) -> Project:  # noqa: ARG001
        first = _first(patterns, page, unknown=False)
        return page.keep(lambda file: first(file) is not None, why="it is not among what is allowed")

    return rule


def deny(patterns: Collection[Pattern]) -> Rule:
    """What matches does not pass."""

    def rule(page: Project, now: datetime) -> Project:  # noqa: ARG001
        first = _first(patterns, page, unknown=True)

        def reason(file: File) -> str | None:
            found = first(file)
            return f"it is denied by {found.text!r}" if found is not None else None

        return page.withhold(reason)

    return rule


def cooldown(age: timedelta, *, exempt: Collection[Pattern] = (), unknown_passes: bool = False) -> Rule:
    """Files pass when they are so old. The page is asked for again when the next one is."""
    words = units.in_time(age.total_seconds())

    def rule(page: Project, now: datetime) -> Project:
        is_exempt = _first(exempt, page, unknown=False)
        waiting = list[datetime]()

        def reason(file: File) -> str | None:
            until = _after(file.uploaded, age) if file.uploaded is not None else None
            passes = unknown_passes if until is None else until <= now
            if passes or is_exempt(file) is not None:
                return None
            if file.uploaded is None or until is None:
                return f"its upload time is not known, and there is a cooldown of {words}"
            waiting.append(until)
            return f"uploaded {_minute(file.uploaded)}: passes on {_minute(until)}, after {words}"

        ruled = page.withhold(reason)
        return replace(ruled, valid_until=earliest((ruled.valid_until, *waiting)))

    return rule


def _after(moment: datetime, age: timedelta) -> datetime:
    try:
        return moment + age
    except OverflowError:  # uploaded, as upstream has it, at the end of time
        return datetime.max.replace(tzinfo=UTC)


def at(day: date, *, unknown_passes: bool = False) -> Rule:
    """Only files that were uploaded up to the end of that day (UTC) pass."""
    end = datetime.combine(day, time.max, UTC)

    def reason(file: File) -> str | None:
        if file.uploaded is None:
            return None if unknown_passes else f"its upload time is not known, so it may be younger than {day}"
        return f"uploaded {_minute(file.uploaded)}, after {day}" if file.uploaded > end else None

    return lambda page, now: page.withhold(reason)  # noqa: ARG005


def formats(kinds: Collection[str]) -> Rule:
    """Only files of these kinds pass: wheel, sdist, egg, other."""

    def reason(file: File) -> str | None:
        kind = kind_of(file.filename)
        return None if kind in kinds else f"its format, {kind}, is not among {', '.join(kinds)}"

    return lambda page, now: page.withhold(reason)  # noqa: ARG005


def kind_of(filename: str) -> str:
    """wheel, sdist, egg or other."""
    lower = filename.lower()
    if lower.endswith(".whl"):
        return "wheel"
    if lower.endswith(".egg"):
        return "egg"
    return "sdist" if lower.endswith(_SDISTS) else "other"


def hide_yanked(page: Project, now: datetime) -> Project:  # noqa: ARG001
    """A `Rule`: yanked files do not pass, also where a client asks for that very version."""
    return page.withhold(lambda file: None if file.yanked is None else f"yanked: {file.yanked or 'no reason given'}")


def sparing(origins: Collection[str], rule: Rule) -> Rule:
    """The rule for all files but those of these sources."""

    def sparing_rule(page: Project, now: datetime) -> Project:
        touched = tuple(file for file in page.files if file.origin not in origins)
        if not touched:
            return page
        ruled = rule(replace(page, files=touched), now)
        kept = {file.filename for file in ruled.files}
        return replace(ruled, files=tuple(f for f in page.files if f.origin in origins or f.filename in kept))

    return sparing_rule


def _minute(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M}"


def passing(said: Mapping[str, Any]) -> Callable[[ProjectName], bool] | None:
    """Whether a file of a project of that name may pass the rule of this table; None: that no name decides."""
    if "allow" in said:
        allowed = _patterns(said, "allow")
        return lambda name: any(known.names.match(name) for known in allowed)
    if "deny" in said:
        denied = [known for known in _patterns(said, "deny") if known.versions is None and known.filenames is None]
        return lambda name: not any(known.names.match(name) for known in denied)
    return None


# From values to rules.


def build(said: Mapping[str, Any]) -> Rule:
    """The rule of one table in `rules`, by the keys that are set there. Raises `Invalid` naming every fault's key."""
    kinds = [kind for kind in _KINDS if kind in said]
    if len(kinds) != 1:
        what = f"says {len(kinds)} things at once: {', '.join(kinds)}" if kinds else "says nothing"
        raise Invalid(what, hint=f"one of: {', '.join(_KINDS)}")
    kind = kinds[0]
    build_kind, others = _KINDS[kind]
    problems = [_misplaced(key, kind) for key in said if key != kind and key not in others]
    with _noted(problems):
        rule = build_kind(said)
    if problem := collected(problems, "the rule"):
        raise problem
    return rule


def _misplaced(key: str, kind: str) -> EntrepotError:
    places = " and ".join(known for known, (_, others) in _KINDS.items() if key in others)
    return Invalid(f"goes with {places}, not with {kind}", at=key)


@contextmanager
def _noted(problems: list[EntrepotError], at: str = "") -> Iterator[None]:
    """Go on after a fault, so that all are found."""
    try:
        yield
    except Invalid as error:
        problems += [Invalid(one.message, at=at or one.at, hint=one.hint) for one in error.problems or (error,)]


def _patterns(said: Mapping[str, Any], key: str) -> tuple[Pattern, ...]:
    given = said.get(key, ())
    found, problems = list[Pattern](), list[EntrepotError]()
    for text in (given,) if isinstance(given, str) else given:
        with _noted(problems, key):
            found.append(pattern(text))
    if problem := collected(problems, "the rule"):
        raise problem
    return tuple(found)


def _cooldown(said: Mapping[str, Any]) -> Rule:
    problems = list[EntrepotError]()
    with _noted(problems, "cooldown"):
        age = _age(said["cooldown"])
    with _noted(problems):
        exempt = _patterns(said, "exempt")
    if problem := collected(problems, "the rule"):
        raise problem
    return cooldown(age, exempt=exempt, unknown_passes=_passes(said))


def _age(text: str | int) -> timedelta:
    seconds = units.seconds(text)
    if seconds > _LONGEST.total_seconds():
        raise Invalid(f"{text!r} is longer than a hundred years")
    return timedelta(seconds=seconds)


def _at(said: Mapping[str, Any]) -> Rule:
    try:
        return at(day(said["at"]), unknown_passes=_passes(said))
    except Invalid as error:
        raise Invalid(error.message, at="at", hint=error.hint) from None


def day(text: str) -> date:
    """Of "2026-03-01". Raises `Invalid`."""
    with suppress(ValueError):  # a 30th of February
        if re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
            return date.fromisoformat(text)
    raise Invalid(f"{text[:40]!r} is no day", hint="YYYY-MM-DD, such as 2026-03-01")


def _passes(said: Mapping[str, Any]) -> bool:
    return said.get("unknown") == "allow"


# What a table may say, and the keys that may stand beside it.
_KINDS: dict[str, tuple[Callable[[Mapping[str, Any]], Rule], tuple[str, ...]]] = {
    "allow": (lambda said: allow(_patterns(said, "allow")), ()),
    "deny": (lambda said: deny(_patterns(said, "deny")), ()),
    "cooldown": (_cooldown, ("exempt", "unknown")),
    "at": (_at, ("unknown",)),
    "formats": (lambda said: formats(said["formats"]), ()),
    "yanked": (lambda said: hide_yanked, ()),  # noqa: ARG005
}
