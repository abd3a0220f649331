"""Long lists of projects: read in pieces as if they were whole, written in batches as if at once."""

import json
import tracemalloc
from collections.abc import Callable, Iterator
from itertools import chain, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrepot.errors import Invalid
from entrepot.model import ProjectName
from entrepot.wire import listing, simple_html, simple_json
from entrepot.wire.listing import Rendering
from entrepot.wire.negotiate import Format

spellings = st.from_regex(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,12}[A-Za-z0-9])?", fullmatch=True)
normal = st.from_regex(r"[a-z0-9](?:-?[a-z0-9]){0,12}", fullmatch=True).map(ProjectName)
texts = st.text(max_size=8)
documents = st.recursive(
    st.none() | st.booleans() | st.integers(0, 9) | texts | st.sampled_from(['"projects":[', "]}", "},{", "\\"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(texts, inner, max_size=2),
    max_leaves=4,
)


def cut(data: bytes, places: list[int]) -> Iterator[bytes]:
    """The same bytes in pieces."""
    edges = [0, *sorted({place % (len(data) + 1) for place in places}), len(data)]
    return (data[start:stop] for start, stop in pairwise(edges))


def names(batches: Iterator[object]) -> list[str]:
    return list(dict.fromkeys(chain.from_iterable(batches)))  # type: ignore[arg-type]


@given(
    st.lists(st.tuples(spellings | texts, documents), max_size=12), documents, st.booleans(), st.lists(st.integers(0)),
    st.sampled_from([None, 1]),
)  # fmt: skip
def test_a_list_in_json_may_be_cut_anywhere(
    members: list[tuple[str, object]], extra: object, last: bool, places: list[int], indent: int | None
) -> None:
    projects = {"projects": [{"more": more, "name": name} for name, more in members]}
    around = {"meta": {"api-version": "1.1", "_x": extra}, "else": extra}
    document = {**around, **projects} if last else {**projects, **around}
    data = json.dumps(document, indent=indent).encode()
    assert names(listing.json_names(cut(data, places))) == list(simple_json.parse_list(data))


@given(st.lists(spellings, max_size=12), st.lists(st.integers(0)), st.sampled_from(["", "<!-- <a href=x> -->", "<p>é"]))
def test_a_list_in_html_may_be_cut_anywhere(listed: list[str], places: list[int], between: str) -> None:
    links = between.join(f'<a href="/simple/{name}/">{name}</a>\n' for name in listed)
    data = f'<meta name="pypi:repository-version" content="1.1"><title>All</title>{links}</body>'.encode()
    assert names(listing.html_names(cut(data, places))) == list(simple_html.parse_list(data))


@given(st.binary(max_size=60), st.lists(st.integers(0)))
def test_noise_is_invalid_or_a_list(data: bytes, places: list[int]) -> None:
    for read in (listing.json_names, listing.html_names):
        try:
            list(read(cut(data, places)))
        except Invalid:
            continue


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        '{"meta":{}}',
        '{"projects":[',
        '{"projects":[{"name":"a"}',
        '{"projects":[{"name":"a"},',
        '{"projects":[{"name":"a"},]}',
        '{"projects":[{"name":"a"}]',
        '{"projects":[{"name":"a"}]}}',
        '{"projects":[{"name":1}]}',
        '{"projects":["a"]}',
        '{"projects":{"name":"a"}}',
        '{"x":{"projects":[{"name":"a"}]}}',
        '{"projects":[{"name":"a"}],"meta":{"api-version":"2.0"}}',
        '{"meta":{"api-version":"2.0"},"projects":[{"name":"a"}]}',
        '[{"projects":[]}]',
    ],
)
def test_what_is_no_whole_list_is_invalid(text: str) -> None:
    with pytest.raises(Invalid):
        list(listing.json_names([text.encode()]))
    with pytest.raises(Invalid):
        list(listing.json_names(bytes([sign]) for sign in text.encode()))


def endless(first: bytes, piece: bytes) -> Iterator[bytes]:
    yield first
    while True:
        yield piece


@pytest.mark.parametrize(
    ("read", "first", "piece"),
    [
        (listing.json_names, b'{"projects":[', b'{"name":"'),
        (listing.json_names, b'{"x":"', b"x" * 65_536),
        (listing.json_names, b'{"projects":[]', b" " * 65_536),
        (listing.html_names, b"<!--", b"x" * 65_536),
    ],
)
def test_what_never_ends_is_given_up(read: Callable[..., Iterator[object]], first: bytes, piece: bytes) -> None:
    with pytest.raises(Invalid, match="MiB"):
        list(read(endless(first, piece * (65_536 // len(piece)))))


@given(st.lists(normal, max_size=20), st.lists(st.integers(0)))
def test_batches_are_written_as_the_whole(listed: list[ProjectName], places: list[int]) -> None:
    edges = [0, *sorted(place % (len(listed) + 1) for place in places), len(listed)]
    for format_, render in ((Format.JSON, simple_json.render_list), (Format.HTML, simple_html.render_list)):
        writing = Rendering(format_)
        body = [writing.batch(listed[a:b]) for a, b in pairwise(edges)]
        assert b"".join([writing.head, *body, writing.tail]) == render(listed)


@given(st.lists(st.lists(normal, max_size=8), max_size=8), st.integers(1, 64))
def test_names_come_in_order_and_each_once(batches: list[list[ProjectName]], at_once: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(listing, "_SORTED_AT_ONCE", at_once)
        data = b"".join(listing.ordered(batches))
    assert listing.names_of(data) == sorted(set(chain.from_iterable(batches)))


def test_one_name_a_million_times_is_one_name() -> None:
    assert list(listing.ordered([[ProjectName("a" * 50)] * 100_000])) == [b"a" * 50 + b"\n"]


def test_no_page_of_a_name_that_is_too_long_can_be_asked_for() -> None:
    assert b"".join(listing.ordered([[ProjectName("a" * 251), ProjectName("b")]])) == b"b\n"


def test_memory_is_that_of_the_names_and_not_of_the_document() -> None:
    def document() -> Iterator[bytes]:
        yield b'{"meta":{"api-version":"1.1"},"projects":['
        for start in range(0, 200_000, 1000):
            members = [
                f'{{"_last-serial":{n},"name":"Some.Project_{n * 7919 % 200_000}"}}' for n in range(start, start + 1000)
            ]
            yield (",".join(members) + ("," if start < 199_000 else "]}")).encode()

    tracemalloc.start()
    count = sum(piece.count(b"\n") for piece in listing.ordered(listing.json_names(document())))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 200_000
    assert peak < 16 << 20  # the names have 4 MB, and parsed they would take 25
