"""A bucket as obstore opens it, and the `entrepot.json` that makes a store of it."""

import re
import uuid
from contextlib import suppress
from datetime import timedelta
from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

import msgspec
import obstore
from msgspec import Struct
from obstore.store import from_url

from entrepot.errors import Conflict, Invalid, NotFound, Unavailable
from entrepot.index import Etag, Expect
from entrepot.stores import refusals
from entrepot.stores.identity import NAME, NOT_HERE, SCHEMA, Identity
from entrepot.stores.keys import RESERVED
from entrepot.stores.remote import Remote

if TYPE_CHECKING:
    from collections.abc import Callable

    from obstore.store import ObjectStore

# A server's clients wait: obstore's own three minutes of trying are too long for them.
_QUICK: dict[str, Any] = {"connect_timeout": timedelta(seconds=3), "timeout": timedelta(seconds=8)}
# A download may last as long as its client takes; only a silence ends it.
_BULK: dict[str, Any] = {
    "connect_timeout": timedelta(seconds=3), "read_timeout": timedelta(seconds=20), "timeout": timedelta(days=1),
}  # fmt: skip
_RETRIES: dict[str, Any] = {
    "max_retries": 4, "retry_timeout": timedelta(seconds=8),
    "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=2), "base": 2},
}  # fmt: skip
_ONCE: dict[str, Any] = {"max_retries": 0}

# What is no address makes obstore panic.
_ADDRESS = re.compile(r"https?://[\w.\[\]:-]+(/[\w./~%-]*)?")

_PROVIDERS = {
    "boto3": "obstore.auth.boto3:Boto3CredentialProvider",
    "google": "obstore.auth.google:GoogleCredentialProvider",
    "azure": "obstore.auth.azure:AzureCredentialProvider",
}


class Bucket(Struct, frozen=True, kw_only=True):
    """One bucket and prefix, opened in three tempers."""

    url: str
    taken: int  # bytes of every key that the prefix takes
    quick: "ObjectStore"  # small requests, tried again
    once: "ObjectStore"  # small requests, never tried again behind our back
    bulk: "ObjectStore"  # bytes that take their time
    by_version: bool = False  # Google's: conditions name generations
    bare: bool = False  # another tool's, in which no `entrepot.json` has to be

    def etag(self, tag: str | None, version: str | None) -> Etag:
        """Quotes come and go between the answers of one server, so ours have none."""
        bare = (tag or "").strip('"')
        return Etag(f"{bare}@{version}" if self.by_version and version else bare)


def in_form_of(expect: Expect, present: Etag | None) -> Etag | None:
    """`present` as a listing tells it, if `expect` came from one: Google's listings know no generations."""
    return Etag(present.partition("@")[0]) if present is not None and "@" not in str(expect) else present


def open_bucket(url: str, remote: Remote) -> Bucket:
    """Raises `Invalid` for options that obstore does not know. Asks nobody."""
    options = {key: value for key, value in remote.options.items() if key not in {"client_options", "retry_config"}}
    client = dict(remote.options.get("client_options", {}))
    if any("endpoint" in key and str(text).startswith("http://") for key, text in options.items()):
        client.setdefault("allow_http", True)
    for key, text in options.items():
        if "endpoint" in key and not _ADDRESS.fullmatch(str(text)):
            raise Invalid("is no address", at=f"store.{remote.name}.options.{key}", hint="as in https://host:9000")
    more: dict[str, Any] = {}
    if remote.credentials is not None:
        more["credential_provider"] = _provider(remote)

    def opened(patience: dict[str, Any], retries: dict[str, Any]) -> "ObjectStore":
        retry = {**retries, **remote.options.get("retry_config", {})} if retries is not _ONCE else retries
        # Which options there are goes by the scheme, which mypy cannot know.
        made = cast("Callable[..., ObjectStore]", from_url)
        return made(url, config=_texts(options), client_options={**patience, **client}, retry_config=retry, **more)

    try:
        return Bucket(
            url=url,
            taken=_taken(url),
            quick=opened(_QUICK, _RETRIES),
            once=opened(_QUICK, _ONCE),
            bulk=opened(_BULK, _RETRIES),
            by_version=url.startswith("gs:"),
            bare=remote.bare,
        )
    except refusals.RAISED as error:
        # The message names the key and, of a flag, its value; never a secret, which may be any text.
        said = str(error).partition("Debug source:")[0].strip()
        hint = "options have obstore's own names, such as endpoint, region, access_key_id"
        raise Invalid(said, at=f"store.{remote.name}.options", hint=hint) from error


def _texts(options: dict[str, Any]) -> dict[str, Any]:
    return {key: value if isinstance(value, bool) else str(value) for key, value in options.items()}


def _taken(url: str) -> int:
    prefix = url.partition("://")[2].partition("/")[2].strip("/")
    return len(prefix.encode()) + 1 if prefix else 0


def _provider(remote: Remote) -> object:
    at = f"store.{remote.name}.credentials"
    if remote.credentials not in _PROVIDERS:
        raise Invalid(
            f"{remote.credentials!r} is no provider of credentials", at=at, hint=f"known: {', '.join(_PROVIDERS)}"
        )
    module, _, name = _PROVIDERS[remote.credentials].partition(":")
    try:
        made: Callable[[], object] = getattr(import_module(module), name)
    except ImportError as error:
        raise Invalid(f"{remote.credentials} needs a package that is missing: {error.name}", at=at) from error
    return made()


def identified(bucket: Bucket, *, create: bool) -> str:
    """The store's id. Blocking. Raises `Unavailable` for a bucket without a store unless `create`, which makes one.

    A store is begun in an empty place only: `Invalid` where something else lies.
    """
    if bucket.bare:
        _first(bucket)  # asked for what it says of the bucket and of us
        return str(uuid.uuid5(uuid.NAMESPACE_URL, bucket.url))
    try:
        return _read(bucket)
    except NotFound:
        if not create:
            hint = (
                "is the url right? A store that begins with this bucket or prefix is made once, "
                "by `entrepot serve --create`"
            )
            raise Unavailable(NOT_HERE, at=bucket.url, hint=hint) from None
    if (other := _first(bucket)) is not None and other.partition("/")[0] not in RESERVED:
        what = f"holds {other!r} and is no store: a store is begun in an empty bucket, or below an unused prefix"
        raise Invalid(what, at=bucket.url, hint="name another prefix")
    identity = Identity(id=str(uuid.uuid4()), schema=SCHEMA)
    text = msgspec.json.format(msgspec.json.encode(identity), indent=2) + b"\n"
    with suppress(Conflict):  # another node made it meanwhile
        _create(bucket, text)
    return _read(bucket)


def _first(bucket: Bucket) -> str | None:
    """The key of the first object that is there."""
    try:
        return next((str(entry["path"]) for chunk in obstore.list(bucket.quick, chunk_size=1) for entry in chunk), None)
    except refusals.RAISED as error:
        raise refusals.meant(error, "", bucket.url) from error


def _create(bucket: Bucket, text: bytes) -> None:
    try:
        obstore.put(bucket.once, NAME, text, mode="create")
    except refusals.RAISED as error:
        if not refusals.is_unsupported(error):
            raise refusals.meant(error, NAME, bucket.url) from error
        try:
            obstore.put(bucket.once, NAME, text)
        except refusals.RAISED as again:
            raise refusals.meant(again, NAME, bucket.url) from again


def _read(bucket: Bucket) -> str:
    try:
        content = obstore.get(bucket.quick, NAME).bytes()
    except refusals.RAISED as error:
        raise refusals.meant(error, NAME, bucket.url) from error
    try:
        identity = msgspec.json.decode(bytes(content), type=Identity)
    except msgspec.DecodeError as error:
        raise Unavailable(f"this does not describe a store: {error}", at=f"{bucket.url}/{NAME}") from error
    if identity.schema > SCHEMA:
        words = f"the store has schema {identity.schema}, and this entrepot knows schemas up to {SCHEMA}"
        raise Unavailable(words, at=bucket.url, hint="run a newer entrepot")
    return identity.id
