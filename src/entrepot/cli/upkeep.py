"""`check` and `gc`: looking after stores."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from entrepot.cli.console import ConfigOption, DataOption, JsonOption, YesOption, busy, show_json, with_catalog
from entrepot.errors import EntrepotError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from entrepot.assembly import Assembled
    from entrepot.index import Store
    from entrepot.stores.collecting import Fault


def register(app: typer.Typer) -> None:
    app.command(epilog="For example: entrepot check --data /srv/packages")(check)
    app.command(epilog="For example: entrepot gc --dry-run")(gc)


def check(config: ConfigOption = None, data: DataOption = None, as_json: JsonOption = False) -> None:
    """Verify every record and every byte of all stores.

    Exits with 0 when all is sound, else with 1 and a line for each fault. Bytes that nothing names are noted, and
    are no fault: an upload that was cut leaves them.
    """

    async def work(assembled: "Assembled") -> bool:
        found = []
        with busy("checking"):
            for name, store in assembled.catalog.stores.items():
                async for fault in _faults(store):
                    found.append((name, fault))
                    if not as_json:
                        typer.echo(f"{'fault' if fault.grave else 'note'}: {name}: {fault.key}: {fault.what}")
        grave = any(fault.grave for _, fault in found)
        if as_json:
            lines = [{"store": name, "key": f.key, "what": f.what, "grave": f.grave} for name, f in found]
            show_json({"sound": not grave, "faults": lines})
        elif not grave:
            typer.echo("sound")
        return grave

    if with_catalog(config, data, work):
        raise typer.Exit(1)


async def _faults(store: "Store") -> "AsyncIterator[Fault]":
    from entrepot.access.tokens import KEY, Tokens
    from entrepot.archives import upkeep as archives
    from entrepot.sources import upkeep as packages
    from entrepot.stores.collecting import Fault

    try:
        await Tokens(store).list()
    except EntrepotError as error:
        yield Fault(key=KEY, what=f"{error.message} ({error.hint})")
    for check_all in (packages.check, archives.check):
        async for fault in check_all(store):
            yield fault


def gc(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    config: ConfigOption = None,
    data: DataOption = None,
    yes: YesOption = False,  # noqa: ARG001 - nothing is asked; accepted as by every command
    as_json: JsonOption = False,
) -> None:
    """Remove bytes that no record names: left by cut uploads, or of files deleted more than seven days ago.

    Takes two runs: the first marks, one at least a day later deletes what is still unused and unchanged. Run it
    once a day; it is safe beside running servers.
    """

    async def work(assembled: "Assembled") -> None:
        from entrepot.archives import upkeep as archives
        from entrepot.sources import upkeep as packages
        from entrepot.units import in_words

        results = {}
        with busy("collecting"):
            for name, store in assembled.catalog.stores.items():
                now = datetime.now(UTC)
                collected = await packages.collect(store, now=now, dry_run=dry_run)
                results[name] = collected + await archives.collect(store, now=now, dry_run=dry_run)
        if as_json:
            show_json(results)
            return
        would = "would be " if dry_run else ""
        for name, done in results.items():
            for key in done.deleted:
                typer.echo(f"{would}deleted: {name}: {key}")
            objects = "1 object" if len(done.deleted) == 1 else f"{len(done.deleted)} objects"
            typer.echo(
                f"{name}: {objects} ({in_words(done.deleted_size)}) {would}deleted, "
                f"{len(done.marked)} ({in_words(done.marked_size)}) {would}marked for a later run"
            )

    with_catalog(config, data, work)
