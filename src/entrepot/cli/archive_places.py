"""Where `entrepot archive` works: the store of an index, any other store, or a running server."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from msgspec import Struct
from msgspec.structs import replace

from entrepot import assembly, config, migrate
from entrepot.archives import Archives, HostedArchives, TychoArchives
from entrepot.cli.console import settings
from entrepot.errors import Invalid
from entrepot.threads import finished

if TYPE_CHECKING:
    from entrepot.assembly import Missing

_INDEX = "private"  # whose archives a store has that --to names


class Where(Struct, frozen=True, kw_only=True):
    """What the command line says of it."""

    to: str | None = None
    index: str | None = None
    layout: str | None = None
    token: str | None = None
    outdir: Path | None = None
    config: Path | None = None
    data: Path | None = None
    create: bool = False


class Place(Struct, frozen=True, kw_only=True):
    """The archives, and the folder to which `pull` writes."""

    archives: Archives
    outdir: Path


@asynccontextmanager
async def opened(where: Where, *, missing: "Missing" = "refuse") -> AsyncIterator[Place]:
    """The place, for the block. `missing`: what to do where nothing was ever kept under `data`."""
    loaded, found = _found(where)
    outdir = where.outdir or Path(found.outdir)
    if found.url is None:
        async with assembly.opened(loaded, missing) as assembled:
            yield Place(archives=_of_index(assembled, where.index), outdir=outdir)
    elif found.url.startswith(("http://", "https://")):
        # Imported here: only who works on a server needs it.
        from entrepot.archives.remote import connected

        async with connected(found.url, found.token) as remote:
            yield Place(archives=remote, outdir=outdir)
    else:
        url = found.url if "://" in found.url else _as_url(found.url)
        tycho = found.layout == "tycho"
        # A bucket of tycho's was never ours, and stays as it is. Anything else becomes a store only if that is said:
        # a disk may not be mounted, a name mistyped.
        store = await finished(assembly.archive_store, url, found.options, create=where.create, bare=tycho)
        yield Place(
            archives=TychoArchives(store) if tycho else HostedArchives(store, where.index or _INDEX), outdir=outdir
        )


def _as_url(folder: str) -> str:
    return Path(folder).absolute().as_uri()


def _of_index(assembled: assembly.Assembled, index: str | None) -> Archives:
    from entrepot.cli import selection

    sink = selection.mounted(assembled, index).sink
    if sink is None or sink.name not in assembled.archives:
        raise Invalid("this index keeps no archives", at="--index", hint="name a hosted one, or a store with --to")
    return assembled.archives[sink.name]


def _found(where: Where) -> tuple[config.Config, config.Archives]:
    """The configuration, and the place that it or the command line names."""
    if where.to is not None:
        named = settings(where.config if not _is_tychoreg(where.config) else None, where.data)
        found = config.Archives(url=where.to, outdir=named.archives.outdir, token=named.archives.token)
        return named, _overridden(found, where)
    # Who names data or an index means these, whatever a file says.
    local = where.data is not None or where.index is not None
    beside = Path(migrate.TYCHOREG_FILE)
    if _is_tychoreg(where.config):
        beside = where.config or beside
    elif where.config is not None or local or not beside.is_file():
        return _ours(where, local=local)
    migrated = migrate.tychoreg(beside)
    for warning in migrated.warnings:
        typer.echo(f"warning: {beside}: {warning}", err=True)
    return config.checked(config.Config()), _overridden(migrated.archives, where)


def _ours(where: Where, *, local: bool) -> tuple[config.Config, config.Archives]:
    loaded = settings(where.config, where.data)
    found = replace(loaded.archives, url=None) if local else loaded.archives
    return loaded, _overridden(found, where)


def _overridden(found: config.Archives, where: Where) -> config.Archives:
    if where.layout is not None:
        if where.layout not in {"entrepot", "tycho"}:
            raise Invalid(f"{where.layout!r} is no layout", at="--layout", hint="entrepot or tycho")
        found = replace(found, layout="tycho" if where.layout == "tycho" else "entrepot")
    if found.url is None and found.layout == "tycho":
        raise Invalid("the store of an index has our own layout", at="--layout", hint="name another store with --to")
    return replace(found, token=where.token or found.token)


def _is_tychoreg(file: Path | None) -> bool:
    """Whether the file is JSON, and so none of ours."""
    if file is None:
        return False
    try:
        with file.open("rb") as opened_file:
            return opened_file.read(4096).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{")
    except OSError:
        return file.suffix == ".json"
