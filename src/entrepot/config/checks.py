"""What no single key can tell: whether the parts of a configuration fit together."""

import ipaddress
import os
import re
from collections.abc import Callable

import msgspec

from entrepot import rules, units
from entrepot.config.faults import inside, unlike
from entrepot.config.records import (
    DEFAULT_STORE,
    INDEX_NAME,
    RESERVED,
    Config,
    Hosted,
    IndexSettings,
    Mirror,
    Rule,
    Virtual,
)
from entrepot.errors import EntrepotError, Invalid, collected


def checked(config: Config) -> Config:
    """The configuration with its defaults filled in. Raises `Invalid` naming everything that cannot be."""
    if not config.data:
        # Imported here: only a start without --data needs it.
        import platformdirs  # noqa: PLC0415

        config = msgspec.structs.replace(config, data=platformdirs.user_data_dir("entrepot"))
    config = msgspec.structs.replace(config, data=os.path.abspath(config.data))
    if not config.index:
        index: dict[str, IndexSettings] = {
            "private": Hosted(),
            "upstream": Mirror(),
            "root": Virtual(of=("private", "upstream")),
        }
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
        if isinstance(settings, Mirror):
            problems += _mirror_problems(at, settings)
        if isinstance(settings, Virtual):
            unknown = [member for member in settings.of if member not in config.index]
            problems += [unlike(member, config.index, "an index", f"{at}.of") for member in unknown]
            if not settings.of:
                problems.append(Invalid("needs at least one index", at=f"{at}.of"))
            problems += _name_problems(f"{at}.own", settings.own) + _name_problems(f"{at}.merge", settings.merge)
        problems += _rule_problems(at, settings.rules)
    if config.default not in config.index:
        problems.append(unlike(config.default, config.index, "an index", "default"))
    if not problems and (circle := _circle(config)):
        problems.append(Invalid(f"the virtual indexes contain one another: {' → '.join(circle)}", at="index"))
    if not problems:
        problems += _fallback_problems(config)
    return problems + _store_problems(config)


def _rule_problems(at: str, tables: tuple[Rule, ...]) -> list[EntrepotError]:
    problems: list[EntrepotError] = []
    for number, table in enumerate(tables):
        try:
            rules.build(table.said)
        except Invalid as error:
            place = f"{at}.rules[{number}]"
            faults = error.problems or (error,)
            problems += [Invalid(one.message, at=inside(place, one.at).rstrip("."), hint=one.hint) for one in faults]
    return problems


def _name_problems(at: str, patterns: tuple[str, ...]) -> list[EntrepotError]:
    problems: list[EntrepotError] = []
    for number, text in enumerate(patterns):
        try:
            rules.names((text,))
        except Invalid as error:
            problems.append(Invalid(error.message, at=f"{at}[{number}]", hint=error.hint))
    return problems


def _fallback_problems(config: Config) -> list[EntrepotError]:
    """A redirect sends clients past every rule, so it is refused where there are any."""
    problems: list[EntrepotError] = []
    for name, settings in config.index.items():
        if not isinstance(settings, Virtual) or settings.fallback is None:
            continue
        at, behind = f"index.{name}.fallback", closure(config, name)
        if ruled := [member for member in behind if config.index[member].rules]:
            what = f"redirects past the rules of {', '.join(ruled)}"
            problems.append(Invalid(what, at=at, hint="leave out one of the two"))
        if not any(isinstance(config.index[member], Mirror) for member in behind):
            problems.append(Invalid("redirects to a mirror, and none is among the members", at=at))
    return problems


def closure(config: Config, name: str) -> tuple[str, ...]:
    """The index and all its members, in order, each once."""
    settings = config.index[name]
    members = settings.of if isinstance(settings, Virtual) else ()
    found = [name, *(inner for member in members for inner in closure(config, member))]
    return tuple(dict.fromkeys(found))


def _store_problems(config: Config) -> list[EntrepotError]:
    problems: list[EntrepotError] = []
    if DEFAULT_STORE in config.store:
        hint = "choose another name"
        problems.append(Invalid("this name means the disk under `data`", at=f"store.{DEFAULT_STORE}", hint=hint))
    for name, settings in config.store.items():
        problems += _reading_problems(f"store.{name}.revalidate", units.seconds, settings.revalidate, least=0)
        problems += _reading_problems(f"store.{name}.stale-for", units.seconds, settings.stale_for, least=0)
        if settings.cache is not None:
            problems += _reading_problems(f"store.{name}.cache.size", units.size, settings.cache.size, least=1)
    known = {*config.store, DEFAULT_STORE}
    used = {
        f"index.{name}.store": index.store for name, index in config.index.items() if isinstance(index, Hosted | Mirror)
    }
    for at, store in {**used, "access.store": config.access.store}.items():
        if store is not None and store not in known:
            problems.append(unlike(store, known, "a [store.NAME]", at))
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


Reader = Callable[[str | int], float]


def _reading_problems(at: str, reader: Reader, value: str | int, *, least: int) -> list[EntrepotError]:
    """What is wrong with a duration or a size."""
    try:
        too_small = reader(value) < least
    except Invalid as error:
        return [Invalid(error.message, at=at, hint=error.hint)]
    return [Invalid(f"must be at least {least}", at=at)] if too_small else []


def _mirror_problems(at: str, mirror: Mirror) -> list[EntrepotError]:
    problems = _reading_problems(f"{at}.ttl", units.seconds, mirror.ttl, least=0)
    problems += _reading_problems(f"{at}.timeout", units.seconds, mirror.timeout, least=1)
    if mirror.max_size is not None:
        problems += _reading_problems(f"{at}.max-size", units.size, mirror.max_size, least=1)
    if mirror.prefetch < 0:
        problems.append(Invalid("must be at least 0", at=f"{at}.prefetch"))
    if mirror.url not in {"pip", "pypi"} and not _WEB.match(mirror.url):
        hint = '"pip", "pypi", or a URL that begins with https:// or http://'
        problems.append(Invalid(f"{mirror.url!r} is no index", at=f"{at}.url", hint=hint))
    return problems


_WEB = re.compile(r"https?://[^/\s?#]+", re.IGNORECASE)


def _server_problems(config: Config) -> list[EntrepotError]:
    server, problems = config.server, list[EntrepotError]()

    readings: tuple[tuple[str, Reader, str | int, int], ...] = (
        ("max-upload", units.size, server.max_upload, 1),
        ("page-cache", units.size, server.page_cache, 0),
        ("stall", units.seconds, server.stall, 1),
        ("max-age", units.seconds, server.max_age, 0),
        ("grace", units.seconds, server.grace, 0),
    )
    for name, reader, value, least in readings:
        problems += _reading_problems(f"server.{name}", reader, value, least=least)
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
