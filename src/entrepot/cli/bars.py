"""Progress on a terminal: a bar by bytes. Elsewhere there is none."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from msgspec import Struct


class Bar(Struct, frozen=True):
    """`advance` by bytes; `expect` them in all, as soon as that is known; `say` what a person should know at once."""

    advance: Callable[[int], None]
    expect: Callable[[int], None]
    say: Callable[[str], None]


@contextmanager
def by_bytes(what: str) -> Iterator[Bar]:
    if not sys.stderr.isatty():
        yield Bar(lambda _: None, lambda _: None, lambda _: None)
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as bar:
        task = bar.add_task(what, total=None)
        expected = 0

        def expect(size: int) -> None:
            nonlocal expected
            expected += size
            bar.update(task, total=expected)

        yield Bar(
            advance=lambda size: bar.update(task, advance=size),
            expect=expect,
            say=lambda text: bar.console.print(text, markup=False, highlight=False),
        )
