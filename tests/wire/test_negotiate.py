from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrepot.wire import negotiate
from entrepot.wire.negotiate import Format, choose, encodings
from tests.wire.strategies import patient

JSON, HTML_V1, HTML = Format.JSON, Format.HTML_V1, Format.HTML

V1_JSON = "application/vnd.pypi.simple.v1+json"
V1_HTML = "application/vnd.pypi.simple.v1+html"

# What clients really send (standards.md §2.2, §3).
CLIENTS = {
    "pip, unearth, Renovate": (f"{V1_JSON}, {V1_HTML}; q=0.1, text/html; q=0.01", JSON),
    "uv": (f"{V1_JSON}, {V1_HTML};q=0.2, text/html;q=0.01", JSON),
    "poetry": (f"{V1_JSON}, */*;q=0.1", JSON),
    "Dependabot": ("text/html", HTML),
    "hatch, curl, requests": ("*/*", HTML),
    "Firefox": ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", HTML),
    "Chrome": (
        "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8,a/b;v=b3;q=0.7",
        HTML,
    ),
    "Java": ("text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2", HTML),
    "uv publish": ("application/json;q=0.9, text/plain;q=0.8, text/html;q=0.7", HTML),
}


@pytest.mark.parametrize(("accept", "expected"), CLIENTS.values(), ids=CLIENTS.keys())
def test_every_known_client_gets_what_it_prefers(accept: str, expected: Format) -> None:
    assert choose(accept.encode()) is expected


@pytest.mark.parametrize("accept", [None, b"", b" , ,", b"*/*", b"*/*;q=0.1", b"garbage", b"text/html;q=high"])
def test_who_asks_for_nothing_gets_html(accept: bytes | None) -> None:
    assert choose(accept) is HTML


@pytest.mark.parametrize(
    "accept",
    ["application/json", "image/png, application/json", "*/*;q=0", "text/html;q=0", f"{V1_JSON};q=0.000", "text/plain"],
)
def test_who_accepts_nothing_of_ours_gets_nothing(accept: str) -> None:
    assert choose(accept.encode()) is None


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("application/vnd.pypi.simple.latest+json", JSON),
        ("application/vnd.pypi.simple.latest+html", HTML_V1),
        (f"{V1_HTML}, application/vnd.pypi.simple.latest+json;q=0.5", HTML_V1),
    ],
)
def test_latest_is_answered_with_the_real_version(accept: str, expected: Format) -> None:
    assert choose(accept.encode()) is expected
    assert b"latest" not in expected.content_type


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (f"text/html, {V1_JSON}", JSON),
        (f"text/html, {V1_HTML}, {V1_JSON}", JSON),
        (f"text/html, {V1_HTML}", HTML_V1),
        (f"*/*, {V1_JSON}", JSON),
        (f"*/*, {V1_HTML}", HTML_V1),
        (f"text/html;q=0.9, {V1_JSON};q=0.9", JSON),
    ],
)
def test_among_named_equals_json_wins(accept: str, expected: Format) -> None:
    assert choose(accept.encode()) is expected


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("text/*", HTML),
        ("application/*", HTML_V1),
        (f"text/*;q=0.5, {V1_JSON};q=0.4", HTML),
        (f"*/*, {V1_JSON};q=0.1", HTML),
        ("*/*, text/html;q=0", HTML_V1),
        ("*/*, text/html;q=0, application/*;q=0", None),
        (f"application/*;q=0, {V1_JSON}", JSON),
        (f"text/html;q=0.3, */*;q=0.8, {V1_HTML};q=0.1", JSON),
        ("text/*;q=0, */*;q=0.5", HTML_V1),
    ],
)
def test_the_most_specific_range_gives_the_weight(accept: str, expected: Format | None) -> None:
    assert choose(accept.encode()) is expected


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (f"TEXT/HTML;Q=0.5, {V1_JSON.upper()}", JSON),
        (f"text/html ;\tq = 0.5 ,{V1_JSON} ; q=0.9", JSON),
        (f"text/html;level=1;q=0.5;x=y, {V1_JSON};charset=utf-8;q=0.6", JSON),
        (f"text/html;q=0.5, {V1_JSON};q=1.5", HTML),
        (f"text/html;q=0.5, {V1_JSON};q=0.1234", HTML),
        (f"text/html;q=0.5, {V1_JSON};q=-1", HTML),
        (f"text/html;q=0.5, {V1_JSON};q=nan", HTML),
        (f"text/html;q=1.000, {V1_JSON};q=0.999", HTML),
        (f"text/html;q=0., {V1_JSON};q=1.", JSON),
    ],
)
def test_spelling_is_free_and_malformed_parts_are_ignored(accept: str, expected: Format) -> None:
    assert choose(accept.encode()) is expected


@pytest.mark.parametrize(
    ("parameter", "expected"),
    [
        (V1_JSON, JSON),
        (V1_JSON.replace("+", " "), JSON),  # what query strings make of "+"
        (V1_HTML, HTML_V1),
        ("text/html", HTML),
        ("application/vnd.pypi.simple.latest+json", JSON),
        ("application/json", None),
        ("application/vnd.pypi.simple.v2+json", None),
        ("*/*", None),
        ("", None),
    ],
)
@pytest.mark.parametrize("accept", [None, b"text/html", V1_JSON.encode()])
def test_the_format_parameter_takes_precedence(accept: bytes | None, parameter: str, expected: Format | None) -> None:
    assert choose(accept, parameter) is expected


def test_each_format_says_its_own_content_type() -> None:
    assert [format_.content_type for format_ in Format] == [
        b"text/html; charset=utf-8",
        b"application/vnd.pypi.simple.v1+html; charset=utf-8",
        b"application/vnd.pypi.simple.v1+json",
    ]


def test_long_headers_are_answered_but_not_remembered() -> None:
    padding = b"x/y;q=0.1, " * 400
    before = negotiate._choose_remembered.cache_info().currsize
    assert choose(padding + V1_JSON.encode()) is JSON
    assert encodings(b"br, " * 2000 + b"gzip") == ("gzip",)
    assert negotiate._choose_remembered.cache_info().currsize == before
    assert negotiate._choose_remembered.cache_info().maxsize is not None


_parts = st.sampled_from([V1_JSON, V1_HTML, "text/html", "*/*", "text/*", "application/*", "a/b", "x"])
_weights = st.sampled_from(["", ";q=0", ";q=0.5", "; q=0.01", ";q=1", ";q=", ";q=2"])
_headers = st.lists(st.tuples(_parts, _weights).map("".join), max_size=6).map(lambda parts: ", ".join(parts).encode())


@patient
@given(_headers | st.binary(max_size=60))
def test_any_header_has_an_answer_and_the_memory_changes_none(accept: bytes) -> None:
    assert choose(accept) is negotiate._choose(accept)


@patient
@given(_headers, st.randoms())
def test_the_order_of_the_ranges_does_not_matter(accept: bytes, random: Random) -> None:
    parts = accept.split(b", ")
    random.shuffle(parts)
    assert choose(b", ".join(parts)) is choose(accept)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, ()),
        (b"", ()),
        (b"identity", ()),  # pip, of files
        (b"gzip, deflate", ("gzip",)),  # pip, of pages
        (b"gzip, deflate, zstd", ("zstd", "gzip")),  # uv
        (b"gzip, deflate, br, zstd", ("zstd", "gzip")),  # browsers
        (b"gzip;q=1.0, zstd;q=0.5", ("gzip", "zstd")),
        (b"gzip ; q=0", ()),
        (b"*", ("zstd", "gzip")),
        (b"*;q=0.5, gzip;q=0", ("zstd",)),
        (b"*;q=0", ()),
        (b"identity, gzip;q=0.5", ()),
        (b"identity;q=0.5, gzip", ("gzip",)),
        (b"identity;q=0, gzip;q=0.1", ("gzip",)),
        (b"X-GZIP", ("gzip",)),
        (b"gzip;q=oops", ()),
    ],
)
def test_content_codings_are_chosen_by_weight(header: bytes | None, expected: tuple[str, ...]) -> None:
    assert encodings(header) == expected


def test_only_what_is_offered_is_chosen() -> None:
    assert encodings(b"gzip, zstd", offers=("gzip",)) == ("gzip",)
    assert encodings(b"gzip, zstd", offers=()) == ()
