"""Which form of an answer a client gets: content types of the Simple API, and content codings.

Pure functions of the raw header values. Several headers of one name are joined by ", " by the caller.
"""

import re
from collections.abc import Iterator, Mapping
from enum import Enum
from functools import lru_cache

# Real headers have 20 to 300 bytes; a longer one must not be able to fill the cache.
LONGEST_REMEMBERED = 4096


class Format(Enum):
    """The three content types of the Simple API (PEP 691). In the order that PyPI prefers among equals."""

    HTML = "text/html"
    HTML_V1 = "application/vnd.pypi.simple.v1+html"
    JSON = "application/vnd.pypi.simple.v1+json"

    @property
    def content_type(self) -> bytes:
        """The value of the Content-Type header. JSON is UTF-8 by definition, HTML has to say it."""
        return _CONTENT_TYPES[self]


_CONTENT_TYPES = {
    Format.HTML: b"text/html; charset=utf-8",
    Format.HTML_V1: b"application/vnd.pypi.simple.v1+html; charset=utf-8",
    Format.JSON: b"application/vnd.pypi.simple.v1+json",
}
# What a client may call each type. "latest" is a name for asking, never for answering (PEP 691,
# "Version + Format Selection"): it is answered with the real type.
_NAMES = {
    "text/html": Format.HTML,
    "application/vnd.pypi.simple.v1+html": Format.HTML_V1,
    "application/vnd.pypi.simple.latest+html": Format.HTML_V1,
    "application/vnd.pypi.simple.v1+json": Format.JSON,
    "application/vnd.pypi.simple.latest+json": Format.JSON,
}
_WILDCARDS: Mapping[str, tuple[Format, ...]] = {
    "*/*": tuple(Format),
    "text/*": (Format.HTML,),
    "application/*": (Format.HTML_V1, Format.JSON),
}
_SPECIFICITY = {"*/*": 0, "text/*": 1, "application/*": 1}
_NAMED = 2
# Among types that the client itself named with equal weight JSON wins: it alone carries sizes and times.
_NAMED_ORDER = (Format.JSON, Format.HTML_V1, Format.HTML)

_QVALUE = re.compile(r"(?:0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)\Z")  # RFC 9110 §12.4.2


def choose(accept: bytes | None, format_parameter: str | None = None) -> Format | None:
    """The format to answer with; None if the client accepts none of them (406).

    `format_parameter` is the decoded value of `?format=`, which takes precedence over the header (PEP 691).
    """
    if format_parameter is not None:
        # "+" is a space in a query string; the PEP's own example does not escape it.
        return _NAMES.get(format_parameter.strip().replace(" ", "+").lower())
    if accept is None:
        return Format.HTML
    if len(accept) > LONGEST_REMEMBERED:
        return _choose(accept)
    return _choose_remembered(accept)


def _choose(accept: bytes) -> Format | None:
    weights: dict[Format, tuple[int, float]] = {}  # (specificity, q) of the most specific range that matches
    understood = False
    for name, q in _weighted(accept):
        if "/" not in name:
            continue
        understood = True
        specificity = _SPECIFICITY.get(name, _NAMED)
        named = _NAMES.get(name)
        for format_ in (named,) if named else _WILDCARDS.get(name, ()):
            weights[format_] = max(weights.get(format_, (-1, 0.0)), (specificity, q))
    if not understood:  # empty, or nothing but faults: as if there were no header
        return Format.HTML
    best = max((q for _, q in weights.values()), default=0.0)
    if best == 0.0:
        return None
    winners = {format_: specificity for format_, (specificity, q) in weights.items() if q == best}
    for format_ in _NAMED_ORDER:
        if winners.get(format_) == _NAMED:
            return format_
    return next(format_ for format_ in Format if format_ in winners)


_choose_remembered = lru_cache(maxsize=256)(_choose)


def encodings(accept_encoding: bytes | None, *, offers: tuple[str, ...] = ("zstd", "gzip")) -> tuple[str, ...]:
    """The offered content codings that the client prefers to an unencoded body, best first.

    Equal weights keep the order of `offers`. No header means none: RFC 9110 §12.5.3 would allow any, but
    who does not ask (curl, scripts) seldom decodes.
    """
    if not accept_encoding:
        return ()
    if len(accept_encoding) > LONGEST_REMEMBERED:
        return _encodings(accept_encoding, offers)
    return _encodings_remembered(accept_encoding, offers)


def _encodings(accept_encoding: bytes, offers: tuple[str, ...]) -> tuple[str, ...]:
    weights: dict[str, float] = {}
    for name, q in _weighted(accept_encoding):
        coding = name.removeprefix("x-")  # "x-gzip" is "gzip" (RFC 9110 §8.4.1.3)
        weights[coding] = max(q, weights.get(coding, 0.0))
    others = weights.get("*", 0.0)
    # Unlisted, identity is acceptable but never preferred to what is listed.
    plain = weights.get("identity", 0.0)
    accepted = [(weights.get(coding, others), coding) for coding in offers]
    accepted = [(q, coding) for q, coding in accepted if q > 0 and q >= plain]
    return tuple(coding for _, coding in sorted(accepted, key=lambda pair: -pair[0]))


_encodings_remembered = lru_cache(maxsize=256)(_encodings)


def _weighted(header: bytes) -> Iterator[tuple[str, float]]:
    """The (name, q) of each element of an Accept-like header; parameters but q are ignored.

    Malformed elements are left out (RFC 9110 asks a recipient only not to trust them).
    """
    for element in header.decode("latin-1").lower().split(","):
        name, *parameters = (part.strip(" \t") for part in element.split(";"))
        q = "1"
        for parameter in parameters:
            key, equals, value = parameter.partition("=")
            if key.rstrip(" \t") == "q" and equals:
                q = value.lstrip(" \t")
                break  # what follows q belongs to the extension, not to the type (RFC 7231 §5.3.2)
        if name and " " not in name and _QVALUE.match(q):
            yield name, float(q)
