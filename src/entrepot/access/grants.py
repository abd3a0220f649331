"""What a token may do: a permission, on indexes and projects that match patterns, until it expires."""

from datetime import datetime
from fnmatch import fnmatchcase
from typing import Literal, get_args

from msgspec import Struct

Permission = Literal["read", "upload", "manage", "build"]
PERMISSIONS: tuple[Permission, ...] = get_args(Permission)

# Who may publish must be able to look whether it arrived; who manages may do everything.
_IMPLIED: dict[Permission, frozenset[Permission]] = {
    "read": frozenset({"read"}),
    "upload": frozenset({"upload", "read"}),
    "build": frozenset({"build", "read"}),
    "manage": frozenset(PERMISSIONS),
}


class Token(Struct, frozen=True, kw_only=True, omit_defaults=True, rename="kebab"):
    """A token as the store keeps it: never the secret, only the SHA-256 of the whole token."""

    id: str  # public: stands in the access log
    name: str  # who it is for: stands in the records of what it published
    sha256: str
    can: tuple[Permission, ...]
    indexes: tuple[str, ...] = ("*",)  # patterns of index names
    projects: tuple[str, ...] = ("*",)  # patterns of normalised project names
    created: datetime
    expires: datetime | None = None
    # The token of a first start: its expiry falls away when it is first used.
    provisional: bool = False

    def grants(self, permission: Permission, *, indexes: tuple[str, ...], project: str | None) -> bool:
        """Whether it allows this on any of the indexes; `project` None asks about the index itself."""
        if not any(permission in _IMPLIED[held] for held in self.can):
            return False
        if not any(fnmatchcase(index, pattern) for index in indexes for pattern in self.indexes):
            return False
        return project is None or any(fnmatchcase(project, pattern) for pattern in self.projects)
