"""Who is asking, once their credentials were read."""

import base64
import binascii

from msgspec import Struct

from entrepot.access.grants import Permission, Token


class Caller(Struct, frozen=True, kw_only=True):
    """A request's origin: a token, or nobody. `everything` is for `--open`, where nobody may write as well."""

    token: Token | None = None
    everything: bool = False

    @property
    def id(self) -> str:
        """For the access log: the token's public id, "" for nobody."""
        return self.token.id if self.token else ""

    @property
    def name(self) -> str:
        """For the record of what was published."""
        return self.token.name if self.token else "anonymous"

    def may(self, permission: Permission, *, indexes: tuple[str, ...], project: str | None = None) -> bool:
        """Whether this is granted on any of `indexes`."""
        if self.everything:
            return True
        return self.token is not None and self.token.grants(permission, indexes=indexes, project=project)

    def is_for(self, project: str) -> bool:
        """Whether the token names this project, and not only a pattern that it matches."""
        return self.token is not None and project in self.token.projects

    def may_read(self, guarded: tuple[str, ...], project: str | None = None) -> bool:
        """Whether every guarded index on the way is open to this caller."""
        return all(self.may("read", indexes=(index,), project=project) for index in guarded)


ANONYMOUS = Caller()
OPEN = Caller(everything=True)


def secret_of(authorization: bytes) -> str | None:
    """The token in an Authorization header: a Basic password with any user, or Bearer. None if there is none.

    Bytes that are not of either form are no credentials, and no error: RFC 9110 lets a server ignore
    schemes that it does not know.
    """
    scheme, _, value = authorization.strip().partition(b" ")
    value = value.strip()
    if scheme.lower() == b"bearer":
        return value.decode("ascii", "replace") or None
    if scheme.lower() != b"basic":
        return None
    try:
        _, colon, password = base64.b64decode(value, validate=True).partition(b":")
    except binascii.Error:
        return None
    return password.decode("utf-8", "replace") if colon and password else None
