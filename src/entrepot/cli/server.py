"""Starting to serve: the configuration with its flags, the listeners, the first token, the start lines, the workers."""

import asyncio
import contextlib
import logging
import os
import resource
import socket
import stat
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from entrepot import __version__
from entrepot.access import Tokens
from entrepot.assembly import is_remote, main_store, now, open_stores
from entrepot.cli import worker, workers
from entrepot.cli.apart import apart
from entrepot.cli.console import settings
from entrepot.config import DEFAULT_FILE, Config, Folder, Hosted, IndexSettings, Mirror, Virtual, checked
from entrepot.errors import Invalid, Unavailable

log = logging.getLogger("entrepot")

_BACKLOG = 2048  # clients that may wait to be accepted
_FOLDERS = "folders"  # the index of the directories on the command line


def configured(
    config: Path | None,
    data: Path | None,
    folders: list[Path],
    flags: Mapping[str, Any],
    *,
    open_writes: bool,
    upstream: str | None = None,
) -> tuple[Config, Path | None]:
    """The configuration with the flags in it, and the file it came from. Raises `Invalid`."""
    loaded = settings(config, data)
    server = msgspec.structs.replace(
        loaded.server, **{name: value for name, value in flags.items() if value is not None}
    )
    access = msgspec.structs.replace(loaded.access, open=True) if open_writes else loaded.access
    changed = msgspec.structs.replace(loaded, server=server, access=access, index=_with_folders(loaded, folders))
    if upstream is not None:
        changed = msgspec.structs.replace(changed, index=_with_upstream(changed, upstream))
    file = config or (Path(DEFAULT_FILE) if Path(DEFAULT_FILE).is_file() else None)
    return checked(changed), file


def _with_folders(config: Config, folders: list[Path]) -> dict[str, IndexSettings]:
    """The indexes with one for the directories, among the members of the default index."""
    if not folders:
        return config.index
    default = config.index[config.default]
    if not isinstance(default, Virtual):
        raise Invalid(
            f"the default index {config.default!r} is not virtual, so directories cannot join it",
            hint='give them an [index.NAME] of type = "folder" in the configuration',
        )
    if _FOLDERS in config.index:
        raise Invalid(f"the configuration has an index {_FOLDERS!r} of its own", hint="rename it")
    # In front of the mirrors: what lies here must not be answered from elsewhere.
    place = next((at for at, name in enumerate(default.of) if isinstance(config.index[name], Mirror)), len(default.of))
    members = (*default.of[:place], _FOLDERS, *default.of[place:])
    return {
        **config.index,
        _FOLDERS: Folder(path=tuple(str(folder.absolute()) for folder in folders)),
        config.default: msgspec.structs.replace(default, of=members),
    }


def _with_upstream(config: Config, url: str) -> dict[str, IndexSettings]:
    """The indexes with this one mirrored, where there is one mirror."""
    mirrors = [name for name, settings in config.index.items() if isinstance(settings, Mirror)]
    if len(mirrors) != 1:
        found = f"{len(mirrors)} mirrors ({', '.join(mirrors)})" if mirrors else "no mirror"
        raise Invalid(f"--upstream is for a configuration with one mirror, and this one has {found}")
    words = {"pip", "pypi"}
    whole = url if url in words or url.rstrip("/").endswith("simple") else f"{url.rstrip('/')}/simple/"
    mirror = config.index[mirrors[0]]
    assert isinstance(mirror, Mirror)
    return {**config.index, mirrors[0]: msgspec.structs.replace(mirror, url=whole)}


def serve(config: Config, file: Path | None, *, create: bool = False) -> int:
    """Serve until SIGTERM. Returns the exit code. `create` lets configured stores be made."""
    _check_files(config)
    _raise_file_limit()
    with contextlib.ExitStack() as stack:
        listeners = [stack.enter_context(listener) for listener in _listeners(config)]
        return _serve(config, file, listeners, create=create)


def _serve(config: Config, file: Path | None, listeners: list[socket.socket], *, create: bool) -> int:
    begin = partial(_begin, config, create=create)
    # A bucket's driver has threads, which a fork leaves behind: the workers must be forked without them.
    first = apart(begin) if any(is_remote(config, name) for name in config.store) else begin()
    _announce(config, file, first)
    return workers.supervise(config, listeners)


def _begin(config: Config, *, create: bool) -> str | None:
    """Open every store, or make it; returns the first token if there was none."""
    stores = open_stores(config, create=create)
    return asyncio.run(_first_token(config, Tokens(main_store(config, stores))))


def _check_files(config: Config) -> None:
    """Name a certificate that is missing or none here, not once in every worker."""
    for name in (config.server.tls_cert, config.server.tls_key):
        if name is not None and not os.access(name, os.R_OK):
            raise Invalid("cannot be read", at=name, hint="see --tls-cert and --tls-key")
    worker.tls(config)


def _listeners(config: Config) -> list[socket.socket]:
    """A bound socket for each worker. Raises `Unavailable` for an address that is taken.

    Each has one of its own, so that the kernel spreads the clients evenly (SO_REUSEPORT); of a Unix socket there can
    be one only, which they share.
    """
    count = config.server.workers
    if config.server.uds is not None:
        _check_socket(config.server.uds)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(config.server.uds)
        listener.listen(_BACKLOG)
        return [listener] + [listener.dup() for _ in range(count - 1)]
    try:
        family, *_, address = socket.getaddrinfo(
            config.server.host, config.server.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        # The first without sharing: a second server would be let in otherwise, and get half of the clients.
        with _bound(family, address, shared=False) as probe:
            if count == 1:
                return [_listening(probe.dup())]
        return [_listening(_bound(family, address, shared=True)) for _ in range(count)]
    except OSError as error:
        where = f"{config.server.host}:{config.server.port}"
        hint = "another server may be running; choose another --port"
        raise Unavailable(f"cannot listen: {error.strerror}", at=where, hint=hint) from error


def _bound(family: int, address: Any, *, shared: bool) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        made.bind(address)
    except OSError:
        made.close()
        raise
    return made


def _listening(made: socket.socket) -> socket.socket:
    made.listen(_BACKLOG)
    return made


def _check_socket(path: str) -> None:
    """Take away a socket that a killed server left, and nothing else; name one that another server has."""
    try:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.connect(path)
    except FileNotFoundError:
        if not os.path.isdir(os.path.dirname(path)):
            raise Invalid("its folder does not exist", at=path, hint="see --uds") from None
    except ConnectionRefusedError:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            raise Invalid("is there and is no socket", at=path, hint="see --uds") from None
        os.unlink(path)
    except OSError as error:
        raise Unavailable(f"cannot listen: {error.strerror or error}", at=path, hint="see --uds") from error
    else:
        raise Unavailable("another server listens here", at=path, hint="choose another --uds")


def _raise_file_limit() -> None:
    """Every connection and every download is a descriptor; the usual soft limit of 1,024 is soon reached."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = min(hard, 65_536) if hard != resource.RLIM_INFINITY else 65_536
    if soft < wanted:
        with contextlib.suppress(ValueError, OSError):  # some sandboxes forbid it; fewer clients then
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


async def _first_token(config: Config, tokens: Tokens) -> str | None:
    """A token for whoever starts this for the first time, so that the next command can be an upload."""
    takes_uploads = any(isinstance(settings, Hosted) for settings in config.index.values())
    if config.access.open or not takes_uploads:
        return None
    return await tokens.create_first(now=now())


def _announce(config: Config, file: Path | None, first: str | None) -> None:
    url = _url(config)
    say = partial(print, file=sys.stderr)
    say(f"entrepot {__version__} at {url}")
    say(f"  configuration  {file or 'none (no ./entrepot.toml, no --config)'}")
    say(f"  data           {config.data}")
    say(f"  indexes        {', '.join(config.index)} (default: {config.default})")
    if config.access.open:
        say("  uploads        open to everybody who can reach it (--open)")
    if first is None:
        return
    if sys.stderr.isatty():
        say(f"\nThe first token, shown this once; it ends in 24 hours unless it is used:\n\n  {first}\n")
        say(f"  twine upload --repository-url {url}legacy/ -u __token__ -p {first} dist/*")
        say(f"  pip install --index-url {url}simple/ NAME\n")
        return
    place = Path(config.data) / "first-token"
    place.parent.mkdir(parents=True, exist_ok=True)  # with stores elsewhere nothing has made it yet
    fd = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(fd, "w") as out:
        os.fchmod(fd, 0o600)
        out.write(first + "\n")
    say(f"  first token    in {place} (ends in 24 hours unless it is used)")


def _url(config: Config) -> str:
    server = config.server
    if server.uds:
        return f"unix:{server.uds}{server.path}/"
    host = f"[{server.host}]" if ":" in server.host else server.host
    return f"{'https' if server.tls_cert else 'http'}://{host}:{server.port}{server.path}/"
