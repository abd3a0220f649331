"""Durations and sizes as people write them: "10 min", "4 GiB"."""

import re

from entrepot.errors import Invalid

# Fifteen digits are more than any duration or size needs, and few enough for a float to hold.
_QUANTITY = re.compile(r"\s*([0-9]{1,15}(?:\.[0-9]{1,15})?)\s*([A-Za-z]*)\s*\Z")
_SECONDS = {
    **dict.fromkeys(("", "s", "sec", "secs", "second", "seconds"), 1),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), 60),
    **dict.fromkeys(("h", "hour", "hours"), 3600),
    **dict.fromkeys(("d", "day", "days"), 86400),
}
_BYTES = {
    "": 1,
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "tib": 2**40,
}


def seconds(text: str | int) -> float:
    """The seconds of "30s", "10 min", "2 hours", "7 days"; a bare number means seconds."""
    number, unit = _split(text, 'a duration such as "10 min"')
    factor = _SECONDS.get(unit.lower())
    if factor is None:
        raise Invalid(f"{text!r} has an unknown unit of time", hint="use s, min, h or days")
    return number * factor


def size(text: str | int) -> int:
    """The bytes of "4 GiB", "50 MB"; a bare number means bytes. KiB, MiB … are powers of 1024, kB, MB … of 1000."""
    number, unit = _split(text, 'a size such as "4 GiB"')
    factor = _BYTES.get(unit.lower())
    if factor is None:
        raise Invalid(f"{text!r} has an unknown unit of size", hint="use B, kB, MB, GB, KiB, MiB or GiB")
    return int(number * factor)


def in_words(count: int) -> str:
    """A size for people: "1.5 GiB"."""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if round(value, 1) < 1024 or unit == "GiB":
            break
        value /= 1024
    return f"{value:.1f} {unit}".replace(".0 ", " ")


def in_time(count: float) -> str:
    """A duration for people, in the largest unit of which it is a whole number: "7 days", "36 hours"."""
    for unit, factor in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if count and count % factor == 0:
            return f"{count / factor:g} {unit}{'' if count == factor else 's'}"
    return f"{count:g} seconds"


def _split(text: str | int, wanted: str) -> tuple[float, str]:
    found = _QUANTITY.match(str(text))
    if not found:
        raise Invalid(f"{text!r} is not {wanted}")
    return float(found[1]), found[2]
