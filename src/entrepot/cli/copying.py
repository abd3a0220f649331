"""What `entrepot copy` does, and how it tells of it."""

import asyncio
import sys

import typer
from msgspec import Struct

from entrepot.cli import places
from entrepot.cli.bars import by_bytes
from entrepot.cli.console import show_json
from entrepot.cli.places import Place
from entrepot.config import Config
from entrepot.errors import Invalid
from entrepot.index import Store
from entrepot.moving import copying
from entrepot.moving.objects import Options, Tally
from entrepot.threads import finished
from entrepot.units import in_words


class Order(Struct, frozen=True, kw_only=True):
    """What the command line says."""

    config: Config
    source: str
    target: str
    options: Options


def copy(order: Order, *, as_json: bool) -> bool:
    """Whether the destination has all of it now. Raises `Invalid`, `Unavailable` for places that cannot be used."""
    source, target = places.place(order.config, order.source), places.place(order.config, order.target)
    if source.is_same(target):
        raise Invalid("source and destination are the same store", at=target.url)
    begun, tally = asyncio.run(_copied(order, source, target))
    if as_json:
        show_json(_as_json(order, tally, source.url, target.url, begun=begun))
    else:
        _show(order, tally, target.url, begun=begun)
    return not tally.troubles


async def _copied(order: Order, source: Place, target: Place) -> tuple[bool, Tally]:
    there = await finished(places.source, order.config, source)
    here, begun = await finished(places.destination, order.config, target, dry_run=order.options.dry_run)
    if begun:
        await _require_empty(here, target.url)
    with by_bytes("copying") as bar:
        expecting = asyncio.create_task(_size(there, order.options))
        expecting.add_done_callback(
            lambda done: None if done.cancelled() or done.exception() else bar.expect(done.result())
        )
        try:
            tally = await copying.copy(there, here, order.options, bar.advance)
        finally:
            expecting.cancel()
            await asyncio.gather(expecting, return_exceptions=True)
    return begun, tally


async def _require_empty(store: Store, url: str) -> None:
    """A bucket tells only now whether it is."""
    async for entry in store.list(""):
        what = f"holds {entry.key!r} and was no store: a store is begun in an empty place only"
        raise Invalid(what, at=url, hint="take away the entrepot.json that was begun there, and name another place")


async def _size(store: Store, options: Options) -> int:
    """What the bar is to reach. Nobody looks at it where there is no terminal."""
    return await copying.size(store, options) if sys.stderr.isatty() else 0


def _as_json(order: Order, tally: Tally, source: str, target: str, *, begun: bool) -> dict[str, object]:
    return {
        "source": source,
        "destination": target,
        "begun": begun,
        "dry_run": order.options.dry_run,
        "copied": {"objects": tally.copied, "bytes": tally.copied_size, "repaired": tally.repaired},
        "documents": tally.changed,
        "present": tally.present,
        "troubles": tally.troubles,
    }


def _show(order: Order, tally: Tally, target: str, *, begun: bool) -> None:
    would = "would be " if order.options.dry_run else ""
    if begun:
        typer.echo(f"a new store {would}begun: {target}")
    for one in tally.troubles:
        typer.echo(f"{one.kind}: {one.at}: {one.why}", err=True)
    objects = "1 object" if tally.copied == 1 else f"{tally.copied} objects"
    documents = "1 document" if tally.changed == 1 else f"{tally.changed} documents"
    repaired = f", {tally.repaired} of them in place of wrong bytes" if tally.repaired else ""
    typer.echo(
        f"{objects} ({in_words(tally.copied_size)}){repaired} and {documents} {would}copied, {tally.present} were there"
    )
    if tally.troubles:
        typer.echo(f"{len(tally.troubles)} could not be copied, see above", err=True)
