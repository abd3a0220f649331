"""The order of versions, and which one somebody means: a version, a channel, a range."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

_NUMBERS = re.compile(r"([0-9]+)")


def key(text: str) -> tuple[Any, ...]:
    """To sort by: PEP 440 where it parses; what does not comes before, in natural order (a2 before a10)."""
    parsed = _parsed(text)
    if parsed is not None:
        return (1, parsed, text)
    return (0, tuple(_natural(part) for part in _NUMBERS.split(text) if part), text)


def _natural(part: str) -> tuple[int, int, str]:
    """Numbers by their value, and before letters."""
    return (0, int(part), "") if _NUMBERS.fullmatch(part) else (1, 0, part)


def chosen(wanted: str, versions: Iterable[str], channels: Mapping[str, str]) -> str | None:
    """The version that `wanted` names: itself, where a channel points, or the newest of a range (PEP 440).

    None if there is none. Pre-releases are in a range if it names one, or if there is nothing else.
    """
    known = set(versions)
    if wanted in channels:
        return channels[wanted]
    if wanted in known:
        return wanted
    ranged = range_of(wanted)
    if ranged is None:
        return None
    fitting = list(ranged.filter(text for text in known if _parsed(text) is not None))
    return max(fitting, key=key, default=None)


def range_of(text: str) -> SpecifierSet | None:
    """The range that a text such as ">=1.2,<2" is; None if it is none."""
    if not text.startswith(("<", ">", "=", "!", "~")):
        return None
    try:
        return SpecifierSet(text)
    except InvalidSpecifier:
        return None


def _parsed(text: str) -> Version | None:
    try:
        return Version(text)
    except InvalidVersion:
        return None
