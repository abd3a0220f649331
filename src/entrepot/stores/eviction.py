"""What a cache lets go of when it is full."""

from collections.abc import Callable, Iterable
from typing import TypeVar

T = TypeVar("T")

_FREE = 0.9  # of the size allowed is what is left


def oldest(held: Iterable[tuple[float, int, T]], most: int, stays: Callable[[T], bool] = lambda _: False) -> list[T]:
    """Of things with the time of their last use and their size: what goes so that nine tenths of `most` are left.

    What was used longest ago goes first. None of it goes while `most` is not exceeded.
    """
    ordered = sorted(held, key=lambda each: each[0])
    total = sum(size for _, size, _ in ordered)
    gone: list[T] = []
    for _, size, thing in ordered if total > most else ():
        if total <= most * _FREE:
            break
        if not stays(thing):
            gone.append(thing)
            total -= size
    return gone
