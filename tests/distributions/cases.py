"""What a hostile or broken file is, and what must be said of it: the rows of the tables beside this file."""

from dataclasses import dataclass
from typing import Literal

from entrepot.distributions import DEFAULT, Limits

# How a problem shows: raised, because there is nothing more to say; or in one of the two lists.
Outcome = Literal["raised", "safety", "form"]

WHEEL = "demo-1.0-py3-none-any.whl"
SDIST = "demo-1.0.tar.gz"


@dataclass(frozen=True, kw_only=True)
class Case:
    what: str
    data: bytes
    message: str
    outcome: Outcome = "form"
    filename: str = WHEEL
    limits: Limits = DEFAULT
