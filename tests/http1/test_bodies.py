"""Bytes between the connection and whoever takes them."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrepot.http1.bodies import NOTHING, Body


class Tap:
    """Counts how often it was turned off and on."""

    def __init__(self) -> None:
        self.offs = self.ons = 0
        self.body = Body(self.off, self.on)

    def off(self) -> None:
        self.offs += 1

    def on(self) -> None:
        self.ons += 1

    @property
    def closed(self) -> bool:
        assert 0 <= self.offs - self.ons <= 1, "out of balance"
        return self.offs > self.ons


async def test_what_is_added_is_taken_in_order_and_then_the_end() -> None:
    body = Tap().body
    body.add(b"one")
    body.add(b"two")
    body.end()
    assert [await body.take() for _ in range(4)] == [b"one", b"two", b"", b""]


async def test_what_is_cut_is_taken_and_then_none() -> None:
    body = Tap().body
    body.add(b"one")
    body.break_off()
    assert [await body.take() for _ in range(3)] == [b"one", None, None]


async def test_an_end_is_not_cut_afterwards() -> None:
    body = Tap().body
    body.end()
    body.break_off()
    assert await body.take() == b""


@pytest.mark.parametrize(("wake", "taken"), [("add", b"x"), ("end", b""), ("break_off", None)])
async def test_a_taker_waits_and_is_woken(wake: str, taken: bytes | None) -> None:
    body = Tap().body
    taking = asyncio.create_task(body.take())
    await asyncio.sleep(0)
    assert not taking.done()
    getattr(body, wake)(*([b"x"] if wake == "add" else []))
    assert await taking == taken


async def test_a_taker_that_gives_up_takes_nothing() -> None:
    body = Tap().body
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await body.take()
    body.add(b"x")
    assert await body.take() == b"x"


async def test_two_takers_are_a_fault() -> None:
    body = Tap().body
    first = asyncio.create_task(body.take())
    await asyncio.sleep(0)
    with pytest.raises(AssertionError):
        await body.take()
    body.end()
    assert await first == b""


async def test_much_that_nobody_takes_stops_the_reading_until_little_is_left() -> None:
    tap = Tap()
    for _ in range(5):
        tap.body.add(b"x" * 60_000)
    assert tap.closed
    while tap.closed:
        assert await tap.body.take()
    assert tap.body._size < 64 << 10


async def test_what_nobody_wants_is_forgotten_and_the_reading_goes_on() -> None:
    tap = Tap()
    tap.body.add(b"x" * 300_000)
    tap.body.end()
    assert tap.closed
    tap.body.forget()
    assert not tap.closed
    assert await tap.body.take() == b""


@given(st.lists(st.integers(0, 200_000) | st.none(), max_size=40))
async def test_pauses_and_what_waits_are_in_balance(steps: list[int | None]) -> None:
    """Numbers add, None takes."""
    tap = Tap()
    for step in steps:
        if step is not None:
            tap.body.add(bytes(step))
        elif not tap.body.empty:
            await tap.body.take()
        assert tap.body._size == sum(map(len, tap.body._pieces))
        assert tap.closed or tap.body._size <= tap.body._MUCH
        assert not tap.closed or tap.body._size >= tap.body._LITTLE
    tap.body.forget()
    assert not tap.closed


async def test_nothing_is_all_that_comes_of_no_body() -> None:
    NOTHING.break_off()
    assert (NOTHING.ended, NOTHING.cut, NOTHING.empty, await NOTHING.take()) == (True, False, True, b"")
