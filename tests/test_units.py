"""Durations and sizes: what people write is what is meant, and nothing is guessed."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrepot import units
from entrepot.errors import Invalid


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30s", 30),
        ("30 s", 30),
        ("  30   sec ", 30),
        ("1 second", 1),
        ("2 seconds", 2),
        ("10 min", 600),
        ("10 mins", 600),
        ("10 m", 600),
        ("1 minute", 60),
        ("2 hours", 7200),
        ("1.5h", 5400),
        ("7 days", 604_800),
        ("1 day", 86_400),
        ("7d", 604_800),
        ("7 DAYS", 604_800),
        ("0", 0),
        ("90", 90),
        (90, 90),
        ("0.5 s", 0.5),
    ],
)
def test_a_duration_means_what_it_says(text: str | int, seconds: float) -> None:
    assert units.seconds(text) == seconds


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1", 1),
        (1024, 1024),
        ("10 B", 10),
        ("1 kB", 1000),
        ("1 KB", 1000),
        ("1 KiB", 1024),
        ("50 MB", 50_000_000),
        ("48 MiB", 48 * 1024**2),
        ("4 GiB", 4 * 1024**3),
        ("4GiB", 4 * 1024**3),
        ("1.5 GiB", 3 * 1024**3 // 2),
        ("2 TB", 2 * 10**12),
        ("1 TiB", 1024**4),
        ("0", 0),
    ],
)
def test_a_size_means_what_it_says(text: str | int, size: int) -> None:
    assert units.size(text) == size


@pytest.mark.parametrize("text", ["500 ms", "1 ss", "3 ds", "1 month", "2 weeks", "1 y", "10 us", "5 b", "1 hs"])
def test_a_unit_of_time_that_does_not_exist_is_refused_and_those_that_do_are_named(text: str) -> None:
    with pytest.raises(Invalid) as refused:
        units.seconds(text)
    assert str(refused.value) == f"{text!r} has an unknown unit of time (use s, min, h or days)"


@pytest.mark.parametrize("text", ["4 G", "4 Gi", "4 bits", "4 s", "4 GiBs"])
def test_a_unit_of_size_that_does_not_exist_is_refused_and_those_that_do_are_named(text: str) -> None:
    with pytest.raises(Invalid, match=r"has an unknown unit of size \(use B, kB, MB, GB, KiB, MiB or GiB\)"):
        units.size(text)


NEITHER = [
    "",
    " ",
    "soon",
    "-1",
    "-5 min",
    "+5",
    "1e5",
    "1_000",
    "1,5 h",
    "10 min 5 s",
    "٣ s",
    "½ h",
    "nan",
    "inf",
    "10\0s",
]


@pytest.mark.parametrize("text", [*NEITHER, "9" * 400, -1])
def test_what_is_no_quantity_is_refused_with_an_example(text: str | int) -> None:
    with pytest.raises(Invalid, match='is not a duration such as "10 min"'):
        units.seconds(text)
    with pytest.raises(Invalid, match='is not a size such as "4 GiB"'):
        units.size(text)


@given(st.text(max_size=30) | st.integers())
def test_no_text_leads_to_another_error_than_invalid(text: str | int) -> None:
    for read in (units.seconds, units.size):
        with suppress(Invalid):
            assert read(text) >= 0


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (0, "0 B"),
        (1, "1 B"),
        (1023, "1023 B"),
        (1024, "1 KiB"),
        (1536, "1.5 KiB"),
        (1024**2 - 1, "1 MiB"),
        (1024**2, "1 MiB"),
        (1024**3 - 1, "1 GiB"),
        (4 * 1024**3, "4 GiB"),
        (5 * 1024**4, "5120 GiB"),
        (10, "10 B"),
        (10 * 1024, "10 KiB"),
    ],
)
def test_a_size_in_words(count: int, words: str) -> None:
    assert units.in_words(count) == words


@given(st.integers(min_value=0, max_value=1024**4))
def test_a_size_in_words_is_read_back_as_about_the_same_size(count: int) -> None:
    assert units.size(units.in_words(count)) == pytest.approx(count, rel=0.06)
