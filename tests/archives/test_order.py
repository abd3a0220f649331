"""The order of versions, and which one is meant."""

from hypothesis import given
from hypothesis import strategies as st
from packaging.version import Version

from entrepot.archives.order import chosen, key, range_of

TEXTS = st.text(min_size=1, max_size=20)
NUMBERS = st.lists(st.integers(0, 99), min_size=1, max_size=4).map(lambda parts: ".".join(map(str, parts)))


def in_order(*versions: str) -> list[str]:
    return sorted(versions, key=key)


def test_versions_of_pep_440_come_in_its_order() -> None:
    assert in_order("1.10", "1.2", "1.0.post1", "1.0", "1.0rc1", "2!0.1") == [
        "1.0rc1", "1.0", "1.0.post1", "1.2", "1.10", "2!0.1",
    ]  # fmt: skip


def test_other_texts_come_before_and_in_natural_order() -> None:
    assert in_order("1.0", "build-10", "build-9", "a", "run 2", "run 10") == [
        "a", "build-9", "build-10", "run 2", "run 10", "1.0",
    ]  # fmt: skip


@given(st.lists(TEXTS | NUMBERS, max_size=20))
def test_any_texts_have_an_order_that_does_not_depend_on_the_one_they_came_in(texts: list[str]) -> None:
    once = sorted(texts, key=key)
    texts.reverse()
    assert sorted(texts, key=key) == once
    assert sorted(once) == sorted(texts)


@given(NUMBERS, NUMBERS)
def test_numbers_are_ordered_as_packaging_orders_them(one: str, other: str) -> None:
    if Version(one) < Version(other):
        assert in_order(other, one) == [one, other]


def test_a_channel_goes_before_a_version_and_a_version_before_a_range() -> None:
    known = {"1.0", "2.0", ">=1"}
    assert chosen("latest", known, {"latest": "1.0"}) == "1.0"
    assert chosen("2.0", known, {}) == "2.0"
    assert chosen(">=1", known, {}) == ">=1"
    assert chosen(">=1,<2", known, {}) == "1.0"
    assert chosen("2.0.0", known, {}) is None, "another text is another version"


def test_a_range_means_its_newest_release() -> None:
    known = {"1.0", "1.2", "1.10", "2.0rc1", "nightly"}
    assert chosen(">=1", known, {}) == "1.10"
    assert chosen("~=1.0", known, {}) == "1.10"
    assert chosen("<1.10", known, {}) == "1.2"
    assert chosen(">=2.0rc1", known, {}) == "2.0rc1"
    assert chosen(">=3", known, {}) is None
    assert chosen(">=2.0a1", {"2.0rc1"}, {}) == "2.0rc1"


@given(TEXTS)
def test_what_is_no_range_is_none_and_no_error(text: str) -> None:
    range_of(text)
    assert chosen(text, [], {}) is None
