"""Which strings are keys: the same for every driver, so that data can move between stores.

A key is relative, its segments are divided by "/", and nothing in it can lead out of a store.
"""

import hashlib
import re
from functools import lru_cache

from entrepot.errors import Invalid

# Names at the top of a disk store that are no keys. A file system puts `lost+found` at the top of a
# disk by itself, readable by root alone: to list it would fail.
RESERVED = frozenset({"locks", "staging", "trash", "entrepot.json", "lost+found"})

LONGEST_SEGMENT = 255  # bytes: NAME_MAX of Linux
LONGEST_KEY = 1024  # bytes: the limit of S3

# Neither "." nor "..", no separator of any system, no control character (C0, DEL, C1), and no lone
# surrogate, which UTF-8 cannot encode.
_SEGMENT = r"(?!\.{1,2}(?:/|\Z))[^/\\\x00-\x1f\x7f-\x9f\ud800-\udfff]+"
_RESERVED = "|".join(re.escape(name) for name in sorted(RESERVED))
_is_segment = re.compile(_SEGMENT).fullmatch
_is_key = re.compile(rf"(?!(?:{_RESERVED})(?:/|\Z)){_SEGMENT}(?:/{_SEGMENT})*").fullmatch


def check(key: str) -> None:
    """Raises `Invalid` if `key` is none. On the way of every hot page: about a microsecond."""
    if _is_key(key) is None or not _fits(key):
        raise Invalid(f"not a key: {key!r}", at="key", hint=_why_not(key))


def is_key(key: str) -> bool:
    return _is_key(key) is not None and _fits(key)


def check_prefix(prefix: str) -> bool:
    """Whether any key can start with `prefix`. Raises `Invalid` if it leads through what is no folder."""
    folder, slash, _ = prefix.rpartition("/")
    if folder.partition("/")[0] in RESERVED:
        return False
    if slash:
        check(folder)
    return True


@lru_cache(maxsize=1024)  # a write and the stats around it ask several times
def place(key: str) -> int:
    """Which of 4,096 places stands for the key. The 16 that share all bits but the lowest four share a lock."""
    return int(hashlib.sha256(key.encode()).hexdigest()[:3], 16)


def _fits(key: str) -> bool:
    if len(key) <= LONGEST_SEGMENT and key.isascii():
        return True
    encoded = key.encode()
    return len(encoded) <= LONGEST_KEY and all(len(part) <= LONGEST_SEGMENT for part in encoded.split(b"/"))


def _why_not(key: str) -> str:
    segments = key.split("/")
    if segments[0] in RESERVED:
        return f"{segments[0]} belongs to the store itself"
    if "" in segments:
        return "it has an empty segment"
    if all(_is_segment(segment) for segment in segments):
        return f"a segment has at most {LONGEST_SEGMENT} bytes, a key {LONGEST_KEY}"
    return 'no ".", "..", backslashes, control characters or lone surrogates'
