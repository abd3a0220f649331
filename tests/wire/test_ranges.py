from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrepot.wire import ranges
from entrepot.wire.ranges import Unsatisfiable, if_range_allows
from tests.wire.strategies import patient


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("bytes=0-99", range(100)),
        ("bytes=0-0", range(1)),
        ("bytes=100-", range(100, 1000)),
        ("bytes=0-", range(1000)),
        ("bytes=999-", range(999, 1000)),
        ("bytes=990-5000", range(990, 1000)),
        ("bytes=-5", range(995, 1000)),
        ("bytes=-5000", range(1000)),
        ("BYTES=0-9", range(10)),
        ("bytes= 0-9 ", range(10)),
        ("bytes=007-0009", range(7, 10)),
        (f"bytes=1-{10**18}", range(1, 1000)),
    ],
)
def test_one_range_is_cut_to_the_size(header: str, expected: range) -> None:
    assert ranges.parse(header, 1000) == expected


@pytest.mark.parametrize("header", ["bytes=1000-", "bytes=1000-1001", "bytes=5000-6000", "bytes=-0", "bytes=-000"])
def test_a_range_beyond_the_end_is_unsatisfiable(header: str) -> None:
    assert ranges.parse(header, 1000) == Unsatisfiable(1000)


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "bytes",
        "bytes=",
        "bytes=-",
        "bytes=a-b",
        "bytes=1",
        "bytes=--5",
        "bytes=+1-2",
        "bytes=5-4",
        "bytes=0-1,5-6",
        "bytes=0-1,",
        "bytes=0 - 1",
        "bytes =0-1",
        "items=0-1",
        "bytes=0-1\n",
        "bytes=١-٢",
        "bytes=0x1-2",
        f"bytes={'9' * 5000}-",
    ],
)
def test_anything_else_is_ignored(header: str | None) -> None:
    assert ranges.parse(header, 1000) is None


def test_an_empty_file_has_no_ranges() -> None:
    assert ranges.parse("bytes=0-", 0) == Unsatisfiable(0)
    assert ranges.parse("bytes=-5", 0) is None


@patient
@given(st.integers(0, 50), st.none() | st.integers(0, 60), st.none() | st.integers(0, 60))
def test_the_bytes_are_those_that_were_asked_for(size: int, first: int | None, last: int | None) -> None:
    body = bytes(range(size))
    header = f"bytes={'' if first is None else first}-{'' if last is None else last}"
    match ranges.parse(header, size):
        case range() as part:
            stop = size if last is None else last + 1
            expected = body[first:stop] if first is not None else body[-(last or 0) :]
            assert body[part.start : part.stop] == expected != b""
            assert ranges.content_range(part, size) == f"bytes {part[0]}-{part[-1]}/{size}"
        case Unsatisfiable() as beyond:
            assert (last == 0) if first is None else (first >= size)
            assert beyond.content_range == f"bytes */{size}"
        case None:
            assert first is last is None or size == 0 or (first is not None and last is not None and last < first)


MODIFIED = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)


@pytest.mark.parametrize(
    ("header", "etag", "expected"),
    [
        (None, '"a"', True),
        ('"a"', '"a"', True),
        (' "a"\t', '"a"', True),
        ('""', '""', True),
        ('"a"', '"b"', False),
        ('"a"', None, False),
        ('W/"a"', '"a"', False),
        ('"a"', 'W/"a"', False),
        ('W/"a"', 'W/"a"', False),
        ('"a", "b"', '"a"', False),
        ("a", "a", False),
        ("", '"a"', False),
        ('"', '"', False),
    ],
)
def test_entity_tags_are_compared_strongly(header: str | None, etag: str | None, expected: bool) -> None:
    assert if_range_allows(header, etag=etag, last_modified=MODIFIED) is expected


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("Fri, 02 Jan 2026 03:04:05 GMT", True),
        ("Fri, 02 Jan 2026 03:04:06 GMT", False),
        ("Fri, 02 Jan 2026 03:04:04 GMT", False),
        ("Friday, 02-Jan-26 03:04:05 GMT", False),
        ("yesterday", False),
    ],
)
def test_dates_must_match_exactly(header: str, expected: bool) -> None:
    assert if_range_allows(header, etag='"a"', last_modified=MODIFIED) is expected
    elsewhere = MODIFIED.astimezone(timezone(timedelta(hours=5)))
    assert if_range_allows(header, etag=None, last_modified=elsewhere) is expected
    assert not if_range_allows(header, etag='"a"', last_modified=None)
