"""What the server is told: TOML and defaults become frozen records, or one error that names every fault.

Keys are kebab-case. Any value may be `{ env = "NAME", default = "…" }`. Relative paths are relative to
the file they stand in. This module knows only our own keys; other tools' files are `migrate`'s.
"""

import difflib
import ipaddress
import os
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Struct

from entrepot import units
from entrepot.errors import EntrepotError, Invalid, collected

DEFAULT_FILE = "entrepot.toml"
DEFAULT_STORE = "data"  # the disk under `data`, where no [store.NAME] is named

INDEX_NAME = re.compile(r"[a-z][a-z0-9-]*\Z")
# Words with a meaning of their own in URLs or in a store (design §6).
RESERVED = frozenset(
    {
        *("simple", "files", "legacy", "pypi", "local", "archives", "project", "projects", "packages", "uploadpackage"),
        *("explain", "builds", "refresh", "health", "ready", "metrics", "static", "api", "admin", "blobs", "access"),
        *("locks", "staging", "trash", "gc"),
    }
)


class Server(Struct, frozen=True, kw_only=True, rename="kebab", forbid_unknown_fields=True):
    """`[server]`: how it listens and how much it takes."""

    host: str = "127.0.0.1"
    port: int = 8080
    uds: str | None = None  # a Unix socket instead of host and port
    workers: int = 1
    path: str = ""  # a sub-path such as "/pypi" under which everything but /health and /ready lies
    hosts: tuple[str, ...] = ()  # Host names answered on a loopback bind, beside its own
    trusted_proxies: tuple[str, ...] = ()  # addresses or networks whose Forwarded headers are believed
    max_upload: str | int = "4 GiB"  # per file
    max_uploads: int = 16  # at once, per node
    stall: str | int = "60 s"  # an upload that sends nothing for so long is cut
    page_cache: str | int = "48 MiB"  # rendered pages kept in memory, per worker
    max_age: str | int = "0 s"  # how long clients may use a page without asking again; 0 means no-cache
    grace: str | int = "30 s"  # how long running requests may take to finish on SIGTERM
    log: Literal["auto", "text", "json", "off"] = "auto"  # the access log; auto: text on a terminal, else JSON
    debug: bool = False
    tls_cert: str | None = None
    tls_key: str | None = None


class Access(Struct, frozen=True, kw_only=True, rename="kebab", forbid_unknown_fields=True):
    """`[access]`: who may read and write where nothing else is said."""

    read: Literal["open", "token"] = "open"
    open: bool = False  # writes need no token (what --open sets)
    store: str | None = None  # the [store.NAME] that holds tokens, or "data"; left out: the only store there is


class StoreSettings(Struct, frozen=True, kw_only=True, rename="kebab", forbid_unknown_fields=True):
    """`[store.NAME]`: where bytes and records lie. `url` is file:///… or a path."""

    url: str


class Hosted(Struct, frozen=True, kw_only=True, rename="kebab", forbid_unknown_fields=True, tag="hosted"):
    """`type = "hosted"`: files that were uploaded here."""

    store: str | None = None  # a [store.NAME]; left out, or "data": the disk, under `data`
    read: Literal["open", "token"] | None = None


class Folder(Struct, frozen=True, kw_only=True, rename="kebab", forbid_unknown_fields=True, tag="folder"):
    """`type = "folder"`: distributions in one or several directories, at any depth."""

    path: str | tuple[str, ...]
    read: Literal["open", "token"] | None = None

    @property
    def paths(self) -> tuple[str, ...]:
        return (self.path,) if isinstance(self.path, str) else self.path


class Virtual(Struct, frozen=True, kw_only=True, rename="kebab", forbid_unknown_fields=True, tag="virtual"):
    """`type = "virtual"`: other indexes in order; the first that knows a name owns it."""

    of: tuple[str, ...]
    read: Literal["open", "token"] | None = None


IndexSettings = Hosted | Folder | Virtual


class Config(Struct, frozen=True, kw_only=True, rename="kebab", forbid_unknown_fields=True):
    """The whole configuration, checked, with nothing left to look up."""

    data: str = ""
    default: str = "root"
    server: Server = Server()
    access: Access = Access()
    store: dict[str, StoreSettings] = {}
    index: dict[str, IndexSettings] = {}

    @property
    def store_folder(self) -> Path:
        """The default store: everything that must not be lost."""
        return Path(self.data) / "store"

    @property
    def node_folder(self) -> Path:
        """What only this node needs; may be deleted while it is stopped."""
        return Path(self.data) / "node"


def load(file: Path | None, *, environ: Mapping[str, str] = os.environ) -> Config:
    """The configuration in `file`, or the one without any file. Raises `Invalid` naming every fault found."""
    if file is None:
        return checked(Config())
    try:
        raw = tomllib.loads(file.read_text(encoding="utf-8-sig"))  # Windows' editors begin with a mark
    except OSError as error:
        raise Invalid(f"cannot be read: {error.strerror}", at=str(file), hint="see --config") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Invalid(f"is not TOML: {error}", at=str(file)) from error
    try:
        return checked(_parse(raw, base=file.parent.absolute(), environ=environ))
    except EntrepotError as error:
        problems: list[EntrepotError] = [_within(problem, file) for problem in error.problems or (error,)]
        raise collected(problems, str(file)) or error from error


def _within(problem: EntrepotError, file: Path) -> Invalid:
    return Invalid(problem.message, at=f"{file}: {problem.at}" if problem.at else str(file), hint=problem.hint)


def _parse(raw: dict[str, Any], *, base: Path, environ: Mapping[str, str]) -> Config:
    problems: list[EntrepotError] = []
    resolved = {key: _from_environment(value, environ, key, problems) for key, value in raw.items()}
    problems += _faults(resolved, Config, "")
    if not problems:
        config = _absolute(msgspec.convert(resolved, Config, strict=False), base, problems)
    if problem := collected(problems, "the configuration"):
        raise problem
    return config


def _from_environment(value: Any, environ: Mapping[str, str], at: str, problems: list[EntrepotError]) -> Any:
    """`value` with each `{ env = "NAME", default = … }` in it replaced."""
    if isinstance(value, list):
        return [_from_environment(item, environ, f"{at}[{n}]", problems) for n, item in enumerate(value)]
    if not isinstance(value, dict):
        return value
    name = value.get("env")
    if isinstance(name, str) and set(value) <= {"env", "default"}:
        if name not in environ and "default" not in value:
            hint = 'set it, or add a default: { env = "…", default = "…" }'
            problems.append(Invalid(f"the environment variable {name} is not set", at=at, hint=hint))
            return _UNKNOWN
        return environ.get(name, value.get("default"))
    return {key: _from_environment(item, environ, f"{at}.{key}", problems) for key, item in value.items()}


_UNKNOWN = object()  # in place of a value that the environment does not give: said already


def _faults(value: Any, kind: Any, at: str) -> list[EntrepotError]:
    """Everything that keeps `value` from being of `kind`: unknown keys, missing ones, values of another type."""
    if value is _UNKNOWN:
        return []
    if isinstance(value, dict) and get_origin(kind) is dict:
        inner = get_args(kind)[1]
        return [fault for key, item in value.items() for fault in _faults(item, inner, _inside(at, key))]
    if isinstance(value, dict) and (records := _records(kind)):
        return _faults_of_table(value, records, at)
    words = [word for part in (kind, *get_args(kind)) if get_origin(part) is Literal for word in get_args(part)]
    if words and isinstance(value, str) and value not in words:
        return [_unlike(value, words, "a value here", at)]
    try:
        msgspec.convert(value, kind, strict=False)
    except msgspec.ValidationError as error:
        return [_readable(error, at)]
    return []


def _inside(at: str, key: str) -> str:
    return f"{at}.{key}" if at else key


def _records(kind: Any) -> dict[str, type[Struct]]:
    """The records that a table may be, by their `type`; of a single one that is ""; none if it must be no table."""
    kinds = get_args(kind) if get_origin(kind) in {Union, UnionType} else (kind,)
    found = (part for part in kinds if isinstance(part, type) and issubclass(part, Struct))
    return {str(record.__struct_config__.tag or ""): record for record in found}


def _faults_of_table(table: dict[str, Any], records: dict[str, type[Struct]], at: str) -> list[EntrepotError]:
    if "" not in records:
        given = table.get("type")
        if not isinstance(given, str) or given not in records:
            return [_unlike(given, records, "a kind of index", f"{at}.type")]
        record = records[given]
        table = {key: item for key, item in table.items() if key != "type"}
    else:
        record = records[""]
    hints = get_type_hints(record)
    fields = {field.encode_name: field for field in msgspec.structs.fields(record)}
    problems: list[EntrepotError] = []
    for key, item in table.items():
        if key in fields:
            problems += _faults(item, hints[fields[key].name], _inside(at, key))
        else:
            problems.append(_unlike(key, fields, "a key here", _inside(at, key)))
    missing = (name for name, field in fields.items() if field.required and name not in table)
    problems += [Invalid("is missing", at=_inside(at, name)) for name in missing]
    return problems


# What msgspec calls the types, in TOML's words.
_TYPES = {
    "object": "a table",
    "array": "a list",
    "str": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
}


def _readable(error: msgspec.ValidationError, at: str) -> Invalid:
    message, _, place = str(error).partition(" - at `$")
    words = re.fullmatch("Expected `(.*)`, got `(.*)`", message)
    if words:
        wanted = " or ".join(_TYPES.get(word, word) for word in words[1].split(" | ") if word != "null")
        message = f"must be {wanted}, not {_TYPES.get(words[2], words[2])}"
    return Invalid(message.replace("`", "'"), at=f"{at}{place.rstrip('`')}")


def _unlike(given: object, known: Iterable[str], what: str, at: str) -> Invalid:
    names = sorted(known)
    near = difflib.get_close_matches(str(given), names, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(names) or 'none'}"
    return Invalid(f"{given!r} is not {what}" if given is not None else "is missing", at=at, hint=hint)


def _absolute(config: Config, base: Path, problems: list[EntrepotError]) -> Config:
    """The configuration with its relative paths taken from the folder of its file."""

    def path(text: str, at: str) -> str:
        if not text or "\0" in text:
            problems.append(Invalid(f"{text!r} is not a path", at=at))
            return text
        try:
            return str(base / Path(text).expanduser())
        except RuntimeError:
            problems.append(Invalid(f"{text!r} names a user without a home", at=at))
            return text

    def maybe(text: str | None, at: str) -> str | None:
        return path(text, at) if text is not None else None

    index: dict[str, IndexSettings] = {}
    for name, settings in config.index.items():
        if isinstance(settings, Folder):
            paths = tuple(path(text, f"index.{name}.path") for text in settings.paths)
            index[name] = msgspec.structs.replace(settings, path=paths)
        else:
            index[name] = settings
    store = {
        name: settings if "://" in settings.url else StoreSettings(url=path(settings.url, f"store.{name}.url"))
        for name, settings in config.store.items()
    }
    server = msgspec.structs.replace(
        config.server,
        uds=maybe(config.server.uds, "server.uds"),
        tls_cert=maybe(config.server.tls_cert, "server.tls-cert"),
        tls_key=maybe(config.server.tls_key, "server.tls-key"),
    )
    data = path(config.data, "data") if config.data else ""
    return msgspec.structs.replace(config, data=data, index=index, store=store, server=server)


def checked(config: Config) -> Config:
    """The configuration with its defaults filled in. Raises `Invalid` naming everything that cannot be."""
    if not config.data:
        # Imported here: only a start without --data needs it.
        import platformdirs  # noqa: PLC0415

        config = msgspec.structs.replace(config, data=platformdirs.user_data_dir("entrepot"))
    config = msgspec.structs.replace(config, data=os.path.abspath(config.data))
    if not config.index:
        index: dict[str, IndexSettings] = {"private": Hosted(), "root": Virtual(of=("private",))}
        config = msgspec.structs.replace(config, index=index)
    error = collected([*_index_problems(config), *_server_problems(config)], "the configuration")
    if error is not None:
        raise error
    return config


def _index_problems(config: Config) -> list[EntrepotError]:
    problems: list[EntrepotError] = []
    for name, settings in config.index.items():
        at = f"index.{name}"
        if not INDEX_NAME.match(name):
            problems.append(Invalid("an index name has a-z, 0-9 and - only and starts with a letter", at=at))
        if name in RESERVED:
            problems.append(Invalid(f"{name!r} is a reserved word", at=at, hint="choose another name"))
        if isinstance(settings, Virtual):
            unknown = [member for member in settings.of if member not in config.index]
            problems += [_unlike(member, config.index, "an index", f"{at}.of") for member in unknown]
            if not settings.of:
                problems.append(Invalid("needs at least one index", at=f"{at}.of"))
    if config.default not in config.index:
        problems.append(_unlike(config.default, config.index, "an index", "default"))
    if not problems and (circle := _circle(config)):
        problems.append(Invalid(f"the virtual indexes contain one another: {' → '.join(circle)}", at="index"))
    return problems + _store_problems(config)


def _store_problems(config: Config) -> list[EntrepotError]:
    problems: list[EntrepotError] = []
    if DEFAULT_STORE in config.store:
        hint = "choose another name"
        problems.append(Invalid("this name means the disk under `data`", at=f"store.{DEFAULT_STORE}", hint=hint))
    known = {*config.store, DEFAULT_STORE}
    used = {f"index.{name}.store": index.store for name, index in config.index.items() if isinstance(index, Hosted)}
    for at, store in {**used, "access.store": config.access.store}.items():
        if store is not None and store not in known:
            problems.append(_unlike(store, known, "a [store.NAME]", at))
    stores = known & {*config.store, *(store or DEFAULT_STORE for store in used.values())}
    if config.access.store is None and len(stores) > 1:
        hint = f"name one of: {', '.join(sorted(stores))}"
        problems.append(Invalid("several stores: say which one holds the tokens", at="access.store", hint=hint))
    return problems


def _circle(config: Config) -> list[str]:
    """A path of virtual indexes that comes back to where it began; empty if there is none."""

    def follow(name: str, path: list[str]) -> list[str]:
        if name in path:
            return [*path[path.index(name) :], name]
        settings = config.index[name]
        members = settings.of if isinstance(settings, Virtual) else ()
        return next((found for member in members if (found := follow(member, [*path, name]))), [])

    return next((found for name in config.index if (found := follow(name, []))), [])


def _server_problems(config: Config) -> list[EntrepotError]:
    server, problems = config.server, list[EntrepotError]()

    def check(name: str, reader: Callable[[str | int], float], value: str | int, *, least: int = 0) -> None:
        try:
            if reader(value) < least:
                problems.append(Invalid(f"must be at least {least}", at=f"server.{name}"))
        except Invalid as error:
            problems.append(Invalid(error.message, at=f"server.{name}", hint=error.hint))

    check("max-upload", units.size, server.max_upload, least=1)
    check("page-cache", units.size, server.page_cache)
    check("stall", units.seconds, server.stall, least=1)
    check("max-age", units.seconds, server.max_age)
    check("grace", units.seconds, server.grace)
    if not 0 <= server.port <= 65535:
        problems.append(Invalid(f"{server.port} is not a port", at="server.port"))
    for name, count in (("workers", server.workers), ("max-uploads", server.max_uploads)):
        if count < 1:
            problems.append(Invalid("must be at least 1", at=f"server.{name}"))
    if server.path and not re.fullmatch(r"(/[A-Za-z0-9._~-]+)+", server.path):
        hint = 'for example "/pypi"'
        wanted = "starts with /, does not end with one, and has letters, digits and . _ ~ - between"
        problems.append(Invalid(wanted, at="server.path", hint=hint))
    for text in server.trusted_proxies:
        try:
            ipaddress.ip_network(text, strict=False)
        except ValueError:
            hint = 'for example "10.0.0.0/8"'
            problems.append(Invalid(f"{text!r} is no address or network", at="server.trusted-proxies", hint=hint))
    if bool(server.tls_cert) != bool(server.tls_key):
        problems.append(Invalid("tls-cert and tls-key go together", at="server"))
    return problems
