"""What was found wrong with an archive, in two kinds, and the path rules that both formats share."""

import re
from typing import Final

from entrepot.errors import Invalid

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_DRIVE: Final = re.compile(r"[A-Za-z]:")
# Longer paths cannot be created on macOS; and every folder above a member costs memory to remember.
_LONGEST: Final = 1024
_DEEPEST: Final = 200
# An archive of a hundred thousand bad names must not make an error of ten megabytes.
_MOST: Final = 20


class Findings:
    """*safety* would harm whoever unpacks it: refused always. *form*: refused on upload, kept in old ones."""

    def __init__(self) -> None:
        self.safety: list[Invalid] = []
        self.form: list[Invalid] = []

    def unsafe(self, message: str, *, at: str = "content", hint: str = "") -> None:
        self._note(self.safety, Invalid(message, at=at, hint=hint))

    def malformed(self, message: str, *, at: str = "content", hint: str = "") -> None:
        self._note(self.form, Invalid(message, at=at, hint=hint))

    def add_form(self, problems: tuple[Invalid, ...]) -> None:
        for problem in problems:
            self._note(self.form, problem)

    def _note(self, kind: list[Invalid], problem: Invalid) -> None:
        if len(kind) < _MOST:
            kind.append(problem)
        elif len(kind) == _MOST:
            kind.append(Invalid("there are further problems of this kind", at="content"))


def path_fault(name: str) -> str | None:
    """Why unpacking a member of this name could write where it must not; None if it could not."""
    if not name:
        return "is empty"
    if len(name) > _LONGEST or name.count("/") > _DEEPEST:
        return f"is longer than {_LONGEST} characters or has more than {_DEEPEST} folders"
    if _CONTROL.search(name):
        return "holds control characters"
    if "\\" in name:
        return 'holds "\\", which separates folders on Windows'
    if name.startswith("/") or _DRIVE.match(name):
        return "is an absolute path"
    if ".." in name and ".." in name.split("/"):
        return 'leaves its folder by ".."'
    return None


def is_plain(name: str) -> bool:
    """Whether no folder in it is empty or ".": else two names could mean one file."""
    segments = name.removesuffix("/").split("/")
    return "" not in segments and "." not in segments


def shown(name: str) -> str:
    """A member's name, fit for a message whatever it holds."""
    return ascii(name if len(name) <= 120 else name[:120] + "...")[1:-1]
