"""The composition root: configuration in, catalog out. Read from top to bottom."""

import asyncio
import contextlib
import ipaddress
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

from msgspec import Struct
from msgspec.structs import replace

from entrepot import units
from entrepot.access import Tokens
from entrepot.combine import Remembered
from entrepot.composition import Composition
from entrepot.config import (
    DEFAULT_STORE,
    Config,
    Folder,
    Hosted,
    IndexSettings,
    Mirror,
    StoreSettings,
    Virtual,
    closure,
)
from entrepot.errors import EntrepotError, Invalid, Unavailable
from entrepot.index import Catalog, Mounted, Sink, Source, Store
from entrepot.sources.names import Names
from entrepot.stores import Remote, failures, is_local, open_store
from entrepot.stores.ownership import make_folder
from entrepot.stores.remote import nameless
from entrepot.threads import finished

if TYPE_CHECKING:
    from entrepot.archives import Archives
    from entrepot.sources.mirror import Mirror as MirrorSource
    from entrepot.stores.nearby import Nearby

log = logging.getLogger(__name__)

_SWEEP_EVERY = 300.0  # seconds


class Assembled(Struct, frozen=True, kw_only=True):
    """Everything that a server or a command works with."""

    catalog: Catalog
    tokens: Tokens
    instance: str  # see `instance`
    archives: "Mapping[str, Archives]" = {}  # of each hosted index, by its name


def now() -> datetime:
    """The one clock."""
    return datetime.now(UTC)


# What is done where nothing was ever kept under `data`: the store is made, the command refused, or run as over an
# empty store that is forgotten.
Missing = Literal["create", "refuse", "ignore"]


def open_stores(config: Config, missing: Missing = "create", *, create: bool = False) -> dict[str, Store]:
    """The stores that the configuration needs, by name. `missing` is about the one under `data`, `create` about others.

    Blocking. Raises `Unavailable` for a configured store that does not exist, unless `create`: that comes from the
    command line alone, or one line in a file would let an unmounted disk look like a first start for ever.
    """
    stores = {
        name: open_store(settings.url, _remote(config, name, settings), create=create)
        for name, settings in config.store.items()
    }
    hosted = {settings.store for settings in config.index.values() if isinstance(settings, Hosted | Mirror)}
    if not stores or not hosted.isdisjoint({None, DEFAULT_STORE}) or config.access.store == DEFAULT_STORE:
        stores[DEFAULT_STORE] = _default_store(config, missing)
    return stores


def archive_store(url: str, options: Mapping[str, object], *, create: bool, bare: bool) -> Store:
    """The store that `[archives]`, `--to` or `.tychoreg.json` names, with options for its driver. Blocking.

    `bare`: it is another tool's, which needs to be no store of ours. Raises `Unavailable` if there is none and
    `create` is false, `Invalid` for a URL or options that no driver knows.
    """
    if not is_local(url):
        return open_store(url, replace(nameless(url), options=options, bare=bare), create=create)
    if options:
        raise Invalid("options are for stores such as s3://…", at=url)
    return open_store(url, create=create)


def named_store(config: Config, name: str, *, create: bool) -> Store:
    """A store of the configuration. Blocking. Raises `Unavailable` if there is none and `create` is false."""
    settings = config.store[name]
    return open_store(settings.url, _remote(config, name, settings), create=create)


def _remote(config: Config, name: str, settings: StoreSettings) -> Remote:
    folder = config.node_folder / "stores" / name
    if not is_local(settings.url):
        # As all in it, it belongs to whom `data` belongs, whoever runs the first command.
        with failures.translated(failures.while_writing, "", config.data):
            Path(config.data).mkdir(parents=True, exist_ok=True)
            make_folder(str(folder), config.data)
    return Remote(
        folder=folder, name=name, options=settings.options or {}, credentials=settings.credentials,
        writer=settings.writer,
    )  # fmt: skip


async def _remembered(config: Config, stores: dict[str, Store]) -> dict[str, Store]:
    """The stores for a server: those elsewhere are asked no more often than their freshness needs."""
    return {
        name: await _fresh(config, name, config.store[name], store) if is_remote(config, name) else store
        for name, store in stores.items()
    }


def is_remote(config: Config, name: str) -> bool:
    return name in config.store and not is_local(config.store[name].url)


async def _fresh(config: Config, name: str, settings: StoreSettings, store: Store) -> Store:
    from entrepot.stores.fresh import Fresh  # noqa: PLC0415 - for servers with buckets

    fresh = Fresh(
        store, config.node_folder / "stores" / name,
        revalidate=units.seconds(settings.revalidate), stale_for=units.seconds(settings.stale_for),
    )  # fmt: skip
    try:
        await fresh.prepare()
    except Unavailable as error:
        # It serves what can be read; the first write asks again, and says what is wrong.
        log.warning("store %s takes no writes: %s", name, error)
    return fresh


def _default_store(config: Config, missing: Missing) -> Store:
    folder = config.store_folder
    for path in (folder.parent, folder):
        if path.exists() and not path.is_dir():
            raise Invalid("is not a folder", at=str(path), hint="see --data")
    # A folder that is there and holds no store is left to the driver: its disk may not be mounted.
    if missing == "create" or folder.exists():
        return open_store(folder, create=missing == "create")
    if missing == "ignore":
        log.warning("nothing is kept in %s yet", config.data)
        return open_store("memory://", create=True)
    raise Unavailable("nothing is kept here", at=config.data, hint="see --data; `entrepot serve` begins a new store")


def main_store(config: Config, stores: dict[str, Store]) -> Store:
    """The one that holds the tokens, and what has no store of its own."""
    return stores[config.access.store or next(iter(config.store), DEFAULT_STORE)]


@asynccontextmanager
async def opened(config: Config, missing: Missing = "refuse") -> AsyncIterator[Assembled]:
    """The catalog and the tokens for as long as the block runs, without background work: for commands."""
    stores = await finished(open_stores, config, missing)
    assembled = _assemble(config, stores)[0]
    try:
        yield assembled
    finally:
        for source in assembled.catalog.sources.values():
            if hasattr(source, "close"):
                await source.close()


@asynccontextmanager
async def running(config: Config) -> AsyncIterator[Assembled]:
    """The same with what must run beside it: folders are watched, stores are swept. For the server."""
    stores = await _remembered(config, await finished(open_stores, config))
    assembled, tasks = _assemble(config, stores)
    async with AsyncExitStack() as stack:
        for task in tasks:
            await stack.enter_async_context(task())
        sweeping = asyncio.create_task(_sweep(stores))
        try:
            yield assembled
        finally:
            sweeping.cancel()
            await asyncio.gather(sweeping, return_exceptions=True)
            for store in stores.values():
                if (close := getattr(store, "close", None)) is not None:
                    await close()


Task = Callable[[], contextlib.AbstractAsyncContextManager[None]]


def _assemble(config: Config, stores: dict[str, Store]) -> tuple[Assembled, list[Task]]:
    sources: dict[str, Source] = {}
    sinks: dict[str, Sink] = {}
    archives: dict[str, Archives] = {}
    tasks: list[Task] = []
    main = main_store(config, stores)
    for name, settings in config.index.items():
        match settings:
            case Hosted(store=store):
                # Imported where used: a server without folders needs none of their code.
                from entrepot.archives import HostedArchives  # noqa: PLC0415
                from entrepot.sources.hosted import Hosted as HostedSource  # noqa: PLC0415

                used = store if store is not None else DEFAULT_STORE
                nearby = _nearby(config, used, stores[used])
                hosted = HostedSource(name, stores[used], redirects=_redirects(config, used), nearby=nearby)
                archives[name] = HostedArchives(stores[used], name)
                sources[name] = sinks[name] = hosted
            case Folder(paths=paths):
                from entrepot.sources.folder import Folder as FolderSource  # noqa: PLC0415

                learned = config.node_folder / "learned" / name
                folder = FolderSource(name, tuple(map(Path, paths)), learned=learned, names=Names(main, name))
                sources[name] = folder
                tasks.append(folder.running)
            case Mirror():
                mirror = _mirror(config, name, settings, stores)
                sources[name] = mirror
                tasks.append(mirror.running)
            case Virtual():
                pass  # made of the others, below
    catalog = cataloged(config, sources, sinks, stores)
    assembled = Assembled(catalog=catalog, tokens=Tokens(main), instance=instance(main), archives=archives)
    return assembled, tasks


def _mirror(config: Config, name: str, settings: Mirror, stores: dict[str, Store]) -> "MirrorSource":
    from entrepot.sources.mirror import Mirror as MirrorSource  # noqa: PLC0415
    from entrepot.sources.mirror import Settings  # noqa: PLC0415
    from entrepot.sources.mirror.address import resolve  # noqa: PLC0415

    made = Settings(
        address=resolve(settings.url, credentials=settings.credentials, flat=settings.layout == "flat"),
        flat=settings.layout == "flat",
        ttl=units.seconds(settings.ttl),
        timeout=units.seconds(settings.timeout),
        private=settings.private_addresses,
        offline=config.server.offline,
        prefetch=settings.prefetch,
        max_size=units.size(settings.max_size) if settings.max_size is not None else None,
        via=instance(main_store(config, stores)),
        locks=config.node_folder / "locks",
    )
    return MirrorSource(name, stores[settings.store or DEFAULT_STORE], made, clock=now)


def _nearby(config: Config, name: str, store: Store) -> "Nearby | None":
    cache = config.store[name].cache if is_remote(config, name) else None
    if cache is None:
        return None
    from entrepot.stores.nearby import Nearby  # noqa: PLC0415 - for servers with buckets

    return Nearby(store, config.node_folder / "stores" / name / "cache", units.size(cache.size))


def _redirects(config: Config, store: str) -> bool:
    return is_remote(config, store) and config.store[store].deliver == "redirect"


def instance(store: Store) -> str:
    """What our requests upstream say of us in `Via`, so that we know them if they come back to us."""
    return f"entrepot-{store.traits.id}"


def cataloged(
    config: Config, sources: Mapping[str, Source], sinks: Mapping[str, Sink], stores: Mapping[str, Store], *,
    clock: Callable[[], datetime] = now,
) -> Catalog:  # fmt: skip
    """Every index of the configuration, made of these sources."""
    composition = Composition(config, sources, clock=clock)
    indexes = {name: _mounted(config, composition, name, sinks, stores) for name in config.index}
    return Catalog(default=config.default, indexes=indexes, sources=sources, stores=stores)


def _mounted(
    config: Config, composition: Composition, name: str, sinks: Mapping[str, Sink], stores: Mapping[str, Store]
) -> Mounted:
    sources = composition.sources_of(name)
    sink = next((sinks[source.name] for source in sources if source.name in sinks), None)
    layer, local, fallback = composition.layer(name), composition.local(name), composition.fallback(name)
    return Mounted(
        name=name,
        index=Remembered(layer.index, clock=composition.clock),
        sink=sink,
        guarded=tuple(member for member in closure(config, name) if _is_guarded(config, config.index[member])),
        pulse=_pulse(sources, stores),
        believed=min((getattr(store, "believed", 0.5) for store in stores.values()), default=0.5),
        layer=layer,
        local=Remembered(local, clock=composition.clock) if local is not None else None,
        rivals=composition.rivals(sink.name) if sink is not None else lambda _: (),
        everything=composition.everything(name, layer.index),
        fallback=fallback.page_url if fallback is not None else None,
    )


def _pulse(sources: Sequence[Source], stores: Mapping[str, Store]) -> Callable[[], object] | None:
    """What changes whenever a revision of these sources may have; None if that cannot be told of all stores."""
    of_stores = [getattr(store, "pulse", None) for store in stores.values()]
    if not all(of_stores):
        return None
    beats = [*of_stores, *(source.pulse for source in sources if hasattr(source, "pulse"))]
    if len(beats) == 1:
        return cast("Callable[[], object]", beats[0])
    return lambda: [beat() for beat in beats]


def _is_guarded(config: Config, settings: IndexSettings) -> bool:
    return (settings.read or config.access.read) == "token"


async def _sweep(stores: dict[str, Store]) -> None:
    """Empty the trash and remove what dead writers left, now and then. Several workers may do so at once."""
    while True:
        for name, store in stores.items():
            sweep = getattr(store, "sweep", None)
            if sweep is None:
                continue
            try:
                await sweep(time.time())
            except EntrepotError as error:
                log.warning("store %s cannot be swept: %s", name, error)
        await asyncio.sleep(_SWEEP_EVERY)


def is_loopback(config: Config) -> bool:
    """Whether only this machine can reach the server by TCP, so that Host names must be checked."""
    if config.server.uds is not None:
        return False
    if config.server.host == "localhost":
        return True
    try:
        return ipaddress.ip_address(config.server.host).is_loopback
    except ValueError:
        return False
