"""A file of TOML becomes a configuration: values from the environment, relative paths, and every fault at once."""

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from entrepot.config.checks import checked
from entrepot.config.faults import UNKNOWN, faults
from entrepot.config.records import Config, Folder, IndexSettings, StoreSettings
from entrepot.errors import EntrepotError, Invalid, collected


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
    base = file.parent.absolute()
    try:
        return checked(_parse(raw, base=base, environ=_with_dotenv(raw.get("dotenv"), base, environ)))
    except EntrepotError as error:
        problems: list[EntrepotError] = [_within(problem, file) for problem in error.problems or (error,)]
        raise collected(problems, str(file)) or error from error


def _within(problem: EntrepotError, file: Path) -> Invalid:
    return Invalid(problem.message, at=f"{file}: {problem.at}" if problem.at else str(file), hint=problem.hint)


def _parse(raw: dict[str, Any], *, base: Path, environ: Mapping[str, str]) -> Config:
    problems: list[EntrepotError] = []
    resolved = {key: _from_environment(value, environ, key, problems) for key, value in raw.items()}
    problems += faults(resolved, Config, "")
    if not problems:
        config = _absolute(msgspec.convert(resolved, Config, strict=False), base, problems)
    if problem := collected(problems, "the configuration"):
        raise problem
    return config


def _with_dotenv(name: Any, base: Path, environ: Mapping[str, str]) -> Mapping[str, str]:
    """The environment and, behind it, the variables of the file. Raises `Invalid` for one that cannot be read."""
    if not isinstance(name, str):
        return environ
    from dotenv import dotenv_values  # noqa: PLC0415 - few need it

    path = base / name
    try:
        with path.open(encoding="utf-8") as stream:
            found = dotenv_values(stream=stream)
    except (OSError, UnicodeDecodeError) as error:
        raise Invalid(f"{path} cannot be read: {error}", at="dotenv") from error
    return {**{key: value for key, value in found.items() if value is not None}, **environ}


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
            return UNKNOWN
        return environ.get(name, value.get("default"))
    return {key: _from_environment(item, environ, f"{at}.{key}", problems) for key, item in value.items()}


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
    archives = config.archives
    if archives.url is not None and "://" not in archives.url:
        archives = msgspec.structs.replace(archives, url=path(archives.url, "archives.url"))
    server = msgspec.structs.replace(
        config.server,
        uds=maybe(config.server.uds, "server.uds"),
        tls_cert=maybe(config.server.tls_cert, "server.tls-cert"),
        tls_key=maybe(config.server.tls_key, "server.tls-key"),
    )
    data = path(config.data, "data") if config.data else ""
    return msgspec.structs.replace(config, data=data, index=index, store=store, server=server, archives=archives)
