"""Work in a process of its own, so that its threads are not in the way of a later fork."""

import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, TypeVar, cast

from entrepot.errors import EntrepotError, Unavailable

T = TypeVar("T")


def apart(work: Callable[[], T]) -> T:
    """What `work` returns, or the error of ours that it raises, out of a child process. Both must go through pickle."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_run, args=(work, theirs))
    child.start()
    theirs.close()
    try:
        came = ours.recv()
    except EOFError:
        child.join()
        raise Unavailable(f"a child process ended with {child.exitcode} and said nothing") from None
    finally:
        ours.close()
    child.join()
    if isinstance(came, EntrepotError):
        raise came
    return cast("T", came)


def _run(work: Callable[[], Any], answer: Connection) -> None:
    try:
        came = work()
    except EntrepotError as error:
        came = error.with_traceback(None)
    answer.send(came)
    answer.close()
