"""Numbers and names that nobody else comes upon, without asking the system for randomness each time.

What a process draws once is its own, and it counts up from there.
"""

import itertools
import os
import secrets


def number() -> int:
    """Below 2**63; never twice the same, in this process or, as good as certainly, in any other."""
    return next(_numbers)


def name() -> str:
    """Of letters and digits; never twice the same, here or elsewhere."""
    return f"{_own}{next(_numbers):x}"


def _begin() -> None:
    """At first, and in the child of a fork, which must not go on with its parent's numbers."""
    global _own, _numbers  # noqa: PLW0603 - one of each for the process
    _own = secrets.token_hex(16)
    _numbers = itertools.count(secrets.randbits(62))


_own: str
_numbers: "itertools.count[int]"
_begin()
os.register_at_fork(after_in_child=_begin)
