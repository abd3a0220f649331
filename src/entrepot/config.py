"""What the server is told: TOML and defaults become frozen records, or one error that names every fault.

Keys are kebab-case. Any value may be `{ env = "NAME", default = "…" }`. Relative paths are relative to
the file they stand in. This module knows only our own keys; other tools' files are `migrate`'s.
"""

import difflib
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Struct

from entrepot import units
from entrepot.errors import EntrepotError, Invalid, collected

DEFAULT_FILE = "entrepot.toml"

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
    max_upload: str = "4 GiB"  # per file
    max_uploads: int = 16  # at once, per node
    stall: str = "60 s"  # an upload that sends nothing for so long is cut
    page_cache: str = "48 MiB"  # rendered pages kept in memory, per worker
    max_age: str = "0 s"  # how long clients may use a page without asking again; 0 means no-cache
    grace: str = "30 s"  # how long running requests may take to finish on SIGTERM
    log: Literal["auto", "text", "json", "off"] = "auto"  # the access log; auto: text on a terminal, else JSON
    debug: bool = False
    tls_cert: str | None = None
    tls_key: str | None = None


class Access(Struct, frozen=True, kw_only=True, rename="kebab", forbid_unknown_fields=True):
    """`[access]`: who may read and write where nothing else is said."""

    read: Literal["open", "token"] = "open"
    open: bool = False  # writes need no token (what --open sets)
    store: str | None = None  # the [store.NAME] that holds tokens; left out: the only store there is


class StoreSettings(Struct, frozen=True, kw_only=True, rename="kebab", forbid_unknown_fields=True):
    """`[store.NAME]`: where bytes and records lie. `url` is file:///… or a path."""

    url: str


class Hosted(Struct, frozen=True, kw_only=True, rename="kebab", forbid_unknown_fields=True, tag="hosted"):
    """`type = "hosted"`: files that were uploaded here."""

    store: str | None = None  # left out: the disk, under `data`
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
    # Set by `serve --create`: a configured store that does not exist yet may be made.
    create: bool = False

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
        raw = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise Invalid(f"cannot be read: {error.strerror}", at=str(file), hint="see --config") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Invalid(f"is not TOML: {error}", at=str(file)) from error
    return checked(_parse(raw, file=file, environ=environ))


def _parse(raw: dict[str, Any], *, file: Path, environ: Mapping[str, str]) -> Config:
    problems: list[EntrepotError] = []
    resolved = _from_environment(raw, environ, "", problems)
    problems += _unknown_keys(resolved, Config, "")
    if not problems:
        try:
            return _absolute(msgspec.convert(resolved, Config, strict=False), file.parent.absolute())
        except msgspec.ValidationError as error:
            problems.append(_readable(error))
    fault = collected([_within(problem, file) for problem in problems], str(file))
    assert fault is not None
    raise fault


def _within(problem: EntrepotError, file: Path) -> EntrepotError:
    return Invalid(problem.message, at=f"{file}: {problem.at}" if problem.at else str(file), hint=problem.hint)


def _readable(error: msgspec.ValidationError) -> Invalid:
    message, _, place = str(error).partition(" - at `$.")
    return Invalid(message.replace("`", "'"), at=_dotted(place.rstrip("`")))


def _dotted(place: str) -> str:
    return place.replace("[...]", ".*")


def _from_environment(value: Any, environ: Mapping[str, str], at: str, problems: list[EntrepotError]) -> Any:
    """`value` with each `{ env = "NAME", default = … }` in it replaced."""
    if isinstance(value, list):
        return [_from_environment(item, environ, f"{at}[{n}]", problems) for n, item in enumerate(value)]
    if not isinstance(value, dict):
        return value
    if "env" in value and set(value) <= {"env", "default"}:
        name = str(value["env"])
        if name not in environ and "default" not in value:
            hint = 'set it, or add a default: { env = "…", default = "…" }'
            problems.append(Invalid(f"the environment variable {name} is not set", at=at, hint=hint))
        return environ.get(name, value.get("default"))
    return {key: _from_environment(item, environ, f"{at}.{key}".lstrip("."), problems) for key, item in value.items()}


def _unknown_keys(value: Any, kind: Any, at: str) -> list[EntrepotError]:
    """An error for each key that `kind` does not have, naming the nearest one that it has."""
    if not isinstance(value, dict):
        return []
    if get_origin(kind) is dict:
        inner = get_args(kind)[1]
        return [p for key, item in value.items() for p in _unknown_keys(item, inner, f"{at}.{key}".lstrip("."))]
    if get_origin(kind) in {Union, UnionType}:
        tagged = {struct.__struct_config__.tag: struct for struct in get_args(kind)}
        if value.get("type") not in tagged:
            given = value.get("type")
            return [_unlike(given, tagged, "a kind of index", f"{at}.type")]
        kind, extra = tagged[value["type"]], {"type"}
    else:
        extra = set()
    if not (isinstance(kind, type) and issubclass(kind, Struct)):
        return []
    hints = get_type_hints(kind)
    known = {field.encode_name: hints[field.name] for field in msgspec.structs.fields(kind)}
    problems: list[EntrepotError] = []
    for key, item in value.items():
        place = f"{at}.{key}".lstrip(".")
        if key in known:
            problems += _unknown_keys(item, known[key], place)
        elif key not in extra:
            problems.append(_unlike(key, known, "a key here", place))
    return problems


def _unlike(given: object, known: Mapping[Any, Any], what: str, at: str) -> Invalid:
    names = sorted(map(str, known))
    near = difflib.get_close_matches(str(given), names, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(names)}"
    return Invalid(f"{given!r} is not {what}" if given is not None else f"missing; {what}", at=at, hint=hint)


def _absolute(config: Config, base: Path) -> Config:
    """The configuration with its relative paths taken from the folder of its file."""

    def path(text: str) -> str:
        return str(base / Path(text).expanduser())

    index: dict[str, IndexSettings] = {}
    for name, settings in config.index.items():
        if isinstance(settings, Folder):
            index[name] = msgspec.structs.replace(settings, path=tuple(path(p) for p in settings.paths))
        else:
            index[name] = settings
    store = {
        name: settings if "://" in settings.url else StoreSettings(url=path(settings.url))
        for name, settings in config.store.items()
    }
    server = msgspec.structs.replace(
        config.server,
        uds=config.server.uds and path(config.server.uds),
        tls_cert=config.server.tls_cert and path(config.server.tls_cert),
        tls_key=config.server.tls_key and path(config.server.tls_key),
    )
    data = path(config.data) if config.data else ""
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
        if isinstance(settings, Hosted) and settings.store is not None and settings.store not in config.store:
            problems.append(_unlike(settings.store, config.store, "a [store.NAME]", f"{at}.store"))
    if config.default not in config.index:
        problems.append(_unlike(config.default, config.index, "an index", "default"))
    if not problems and (circle := _circle(config)):
        problems.append(Invalid(f"the virtual indexes contain one another: {' → '.join(circle)}", at="index"))
    if config.access.store is not None and config.access.store not in config.store:
        problems.append(_unlike(config.access.store, config.store, "a [store.NAME]", "access.store"))
    if config.access.store is None and len(config.store) > 1:
        hint = f"name one of: {', '.join(sorted(config.store))}"
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

    def check(name: str, reader: Any, value: str) -> None:
        try:
            reader(value)
        except Invalid as error:
            problems.append(Invalid(error.message, at=f"server.{name}", hint=error.hint))

    check("max-upload", units.size, server.max_upload)
    check("page-cache", units.size, server.page_cache)
    for name in ("stall", "max-age", "grace"):
        check(name, units.seconds, getattr(server, name.replace("-", "_")))
    if not 0 <= server.port <= 65535:
        problems.append(Invalid(f"{server.port} is not a port", at="server.port"))
    for name, count in (("workers", server.workers), ("max-uploads", server.max_uploads)):
        if count < 1:
            problems.append(Invalid("must be at least 1", at=f"server.{name}"))
    if server.path and not re.fullmatch(r"(/[A-Za-z0-9._~-]+)+", server.path):
        hint = 'for example "/pypi"'
        problems.append(Invalid("starts with / and does not end with one", at="server.path", hint=hint))
    if bool(server.tls_cert) != bool(server.tls_key):
        problems.append(Invalid("tls-cert and tls-key go together", at="server"))
    return problems
