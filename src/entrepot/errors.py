"""The five ways in which a request can fail.

The kind steers composition: `NotFound` lets the next index answer, every other kind stops. Domain code
raises these with fields and never speaks of HTTP; `web.problems` holds the one table to status codes.
"""

from typing import Literal


class EntrepotError(Exception):
    """What failed, where (`at`), and what can be done (`hint`).

    `at` names the place in the words of the one who asked: a form field, a key of the configuration, a
    member of an archive, a path. `problems` holds every fault found when several were looked for at once.
    """

    def __init__(
        self, message: str, *, at: str = "", hint: str = "", problems: tuple["EntrepotError", ...] = ()
    ) -> None:
        super().__init__(message)
        self.message = message
        self.at = at
        self.hint = hint
        self.problems = problems

    def __str__(self) -> str:
        where = f"{self.at}: " if self.at else ""
        hint = f" ({self.hint})" if self.hint else ""
        return f"{where}{self.message}{hint}"


class NotFound(EntrepotError):
    """It is not here; another index may have it."""


class Denied(EntrepotError):
    """It is refused to this caller. Never the same as absent: a refusal stops the search."""


class Conflict(EntrepotError):
    """The state of the store forbids it: other bytes under a known filename, or a lost swap."""


class Invalid(EntrepotError):
    """What was sent or written is wrong. `status` is 400, 413 (too large) or 422."""

    def __init__(
        self,
        message: str,
        *,
        at: str = "",
        hint: str = "",
        problems: tuple[EntrepotError, ...] = (),
        status: Literal[400, 413, 422] = 400,
    ) -> None:
        super().__init__(message, at=at, hint=hint, problems=problems)
        self.status = status


class Unavailable(EntrepotError):
    """A store or an upstream could not do its part now. `status` is 502, 503, 504 or 507 (disk full).

    `retry_after` is in seconds.
    """

    def __init__(
        self,
        message: str,
        *,
        at: str = "",
        hint: str = "",
        status: Literal[502, 503, 504, 507] = 503,
        retry_after: int = 5,
    ) -> None:
        super().__init__(message, at=at, hint=hint)
        self.status = status
        self.retry_after = retry_after


def collected(problems: list[EntrepotError], what: str) -> EntrepotError | None:
    """Fold several faults into the one error to raise; None if there are none, itself if it is one.

    The result is as grave as its gravest member: a refusal stays a refusal, a conflict a conflict.
    """
    if len(problems) < 2:
        return problems[0] if problems else None
    message = f"{what} has {len(problems)} problems"
    together = tuple(problems)
    for kind in (Denied, Conflict):
        if any(isinstance(problem, kind) for problem in problems):
            return kind(message, problems=together)
    too_large = any(isinstance(problem, Invalid) and problem.status == 413 for problem in problems)
    return Invalid(message, problems=together, status=413 if too_large else 400)
