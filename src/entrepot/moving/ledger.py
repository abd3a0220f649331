"""What became of everything that was to be moved: counted, and every fault with its place and reason."""

from collections.abc import Callable
from typing import Literal

from msgspec import Struct

from entrepot.errors import Conflict, EntrepotError, Invalid, Unavailable

_MOST = 12  # failures in a row that are no accident any more

# The destination has something else; it is not safe to have; it could not be done.
Kind = Literal["conflict", "refused", "fault"]

# Told of every piece of bytes that went over.
Progress = Callable[[int], None]


class Trouble(Struct, frozen=True, kw_only=True):
    """Something that was not moved."""

    at: str
    kind: Kind
    why: str


class Patience:
    """Lets single failures pass, and ends the work when everything fails: a disk is full, a server has gone."""

    def __init__(self) -> None:
        self._failures = 0

    def succeeded(self) -> None:
        self._failures = 0

    def failed(self, error: EntrepotError) -> None:
        """Raises the error if it is the last straw."""
        if not isinstance(error, Unavailable):
            return
        self._failures += 1
        if self._failures >= _MOST or error.status == 507:
            raise error


def trouble(error: EntrepotError, at: str, *, refusing: bool = False) -> Trouble:
    """`refusing`: what is invalid is refused here, and not broken there."""
    words = "; ".join(str(problem) for problem in error.problems) or error.message
    hint = f" ({error.hint})" if error.hint and not error.problems else ""
    # The innermost place is the one to look at: a member of an archive, or the other store's key.
    place = f"{error.at}: " if error.at and error.at != at and not error.problems else ""
    kind: Kind = "fault"
    if isinstance(error, Conflict):
        kind = "conflict"
    elif refusing and isinstance(error, Invalid):
        kind = "refused"
    return Trouble(at=at, kind=kind, why=f"{place}{words}{hint}")
