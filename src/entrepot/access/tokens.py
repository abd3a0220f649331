"""The tokens of a store: `access/tokens.json`, changed only by compare-and-swap."""

import hashlib
import hmac
import re
import secrets
from datetime import datetime, timedelta

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from entrepot.access.callers import ANONYMOUS, Caller, secret_of
from entrepot.access.grants import Permission, Token
from entrepot.errors import Denied, Invalid, NotFound, Unavailable
from entrepot.index import Store
from entrepot.stores.documents import Documents

KEY = "access/tokens.json"
PREFIX = "entrepot"

# One line of text: a name with a line break could forge lines of a log.
_NAME = re.compile(r"[^\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]{1,100}\Z")


def is_name(text: str) -> bool:
    """Whether it may stand in records and logs as who did something."""
    return _NAME.match(text) is not None


class Held(Struct, frozen=True, kw_only=True):
    """The file: a schema number and the tokens, newest last."""

    schema: int = 1
    tokens: tuple[Token, ...] = ()

    def by_id(self) -> dict[str, Token]:
        return {token.id: token for token in self.tokens}


class Tokens:
    """Creates, lists, revokes and recognises tokens. What was read is kept until the file changes."""

    def __init__(self, store: Store) -> None:
        self._documents = Documents[Held](store, encode=_encode, decode=decode)
        self._held: Held | None = None
        self._by_id: dict[str, Token] = {}

    async def create(
        self,
        name: str,
        *,
        can: tuple[Permission, ...],
        now: datetime,
        indexes: tuple[str, ...] = ("*",),
        projects: tuple[str, ...] = ("*",),
        lifetime: timedelta | None = None,
    ) -> tuple[str, Token]:
        """A new token: its secret, which is shown this once, and what is kept of it. `Invalid` for a bad name."""
        if not is_name(name):
            hint = "1 to 100 characters, none of them control characters; it stands in records and logs"
            raise Invalid(f"{name!a} is no name for a token", hint=hint)
        secret, identity = _secret()
        token = Token(
            id=identity,
            name=name,
            sha256=_digest(secret),
            can=can,
            indexes=indexes,
            projects=projects,
            created=now,
            expires=now + lifetime if lifetime is not None else None,
        )

        def added(held: Held | None) -> Held:
            before = held.tokens if held else ()
            return held if held and token in before else Held(tokens=(*before, token))

        await self._documents.change(KEY, added)
        return secret, token

    async def create_first(self, *, now: datetime) -> str | None:
        """The token of a first start: holds `manage`, for 24 hours unless used. None if there were tokens already."""
        secret, identity = _secret()
        first = Token(
            id=identity,
            name="first",
            sha256=_digest(secret),
            can=("manage",),
            created=now,
            expires=now + timedelta(hours=24),
            provisional=True,
        )
        held = await self._documents.change(KEY, lambda held: held or Held(tokens=(first,)))
        return secret if held.tokens == (first,) else None

    async def list(self) -> tuple[Token, ...]:
        """All tokens, oldest first, also expired ones."""
        held = await self._documents.load(KEY)
        return held.tokens if held else ()

    async def revoke(self, name_or_id: str) -> tuple[Token, ...]:
        """Remove the tokens of that name or id, at once for every node. Raises `NotFound` if there is none."""
        revoked = tuple(token for token in await self.list() if name_or_id in {token.id, token.name})
        if not revoked:
            raise NotFound(f"no token {name_or_id!r}", hint="see `entrepot token list`")
        gone = {token.id for token in revoked}  # by id: a first use may change a token meanwhile

        def without(held: Held | None) -> Held:
            before = held or Held()
            kept = tuple(token for token in before.tokens if token.id not in gone)
            return Held(tokens=kept) if len(kept) < len(before.tokens) else before

        await self._documents.change(KEY, without)
        return revoked

    @staticmethod
    def may_be_ours(authorization: bytes) -> bool:
        """Whether the credentials have the form of a token, and not of a name and password made up for a client."""
        return (secret_of(authorization) or "").startswith(f"{PREFIX}_")

    async def caller(self, authorization: bytes | None, *, now: datetime) -> Caller:
        """Who holds these credentials. Raises `Denied` saying whether they are unknown or expired.

        Costs one stat of the file, and a SHA-256 of the token.
        """
        secret = secret_of(authorization) if authorization is not None else None
        if secret is None:
            return ANONYMOUS
        token = (await self._tokens()).get(_identity(secret))
        if token is None or not hmac.compare_digest(token.sha256.encode(), _digest(secret).encode()):
            raise Denied("the token is not known here", hint="`entrepot token list` shows the ones that are")
        if token.expires is not None and token.expires <= now:
            raise Denied(f"the token expired at {token.expires:%Y-%m-%d %H:%M} UTC", hint="ask for a new one")
        if token.provisional:
            await self._keep(token)
        return Caller(token=token)

    async def _tokens(self) -> dict[str, Token]:
        held = await self._documents.load(KEY)
        if held is not self._held:
            self._held, self._by_id = held, held.by_id() if held else {}
        return self._by_id

    async def _keep(self, used: Token) -> None:
        kept = replace(used, provisional=False, expires=None)

        def with_kept(held: Held | None) -> Held:
            before = held or Held()
            if used not in before.tokens:
                return before
            return Held(tokens=tuple(kept if token == used else token for token in before.tokens))

        await self._documents.change(KEY, with_kept)


def _secret() -> tuple[str, str]:
    """A fresh token and its public id."""
    identity = secrets.token_hex(6)
    return f"{PREFIX}_{identity}_{secrets.token_urlsafe(32)}", identity


def _identity(secret: str) -> str:
    parts = secret.split("_", 2)
    return parts[1] if len(parts) == 3 and parts[0] == PREFIX else ""


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


class _Schema(Struct):
    schema: int = 1


def _encode(held: Held) -> bytes:
    return msgspec.json.format(msgspec.json.encode(held), indent=1) + b"\n"


def decode(data: bytes, key: str) -> Held:
    """Raises `Unavailable`: tokens that cannot be read are a broken store, not an open one."""
    try:
        schema = msgspec.json.decode(data, type=_Schema).schema  # first: a later one may look different
        if schema != 1:
            words = f"has schema {schema}, and this entrepot knows schema 1"
            raise Unavailable(words, at=key, hint="run a newer entrepot")
        return msgspec.json.decode(data, type=Held)
    except msgspec.MsgspecError as error:
        raise Unavailable(f"cannot be read: {error}", at=key, hint="bring it back from a backup") from error
