"""What `entrepot archive` does, and how it tells it: in tycho's words where tycho has some."""

import asyncio
import sys
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import typer
from msgspec.structs import replace

from entrepot.archives import LATEST, Archive, Archives, Offer, operations
from entrepot.archives.local import nothing, offered
from entrepot.archives.model import check_channel, check_localname, check_name, check_version, exists
from entrepot.cli import console
from entrepot.cli.archive_places import Where, opened
from entrepot.cli.console import busy, confirm, show_json, who
from entrepot.errors import EntrepotError, NotFound
from entrepot.units import in_words

T = TypeVar("T")

# Faults that scripts know by their first words.
_KNOWN = ("Already Exists: ", "Already Initialized: ", "Does Not Exist: ", "Nothing to Pull: ")


def run(work: Coroutine[Any, Any, T]) -> T:
    """The result of the work; what went wrong in tycho's words or ours, and exit code 1."""

    def within() -> T:
        try:
            return asyncio.run(work)
        except EntrepotError as error:
            raise told(error) from error

    return console.run(within)


def told(error: EntrepotError) -> typer.Exit:
    """Say what went wrong on stderr."""
    if not error.message.startswith(_KNOWN):
        return console.fail(error)
    typer.echo(shown(error.message), err=True)
    if error.hint:
        typer.echo(f"  {shown(error.hint)}", err=True)
    return typer.Exit(1)


def shown(text: str) -> str:
    """Text that somebody else wrote, without what could move the cursor of a terminal or begin another line."""
    return text if text.isprintable() else "".join(sign if sign.isprintable() else "�" for sign in text)


def say(line: str) -> None:
    typer.echo(shown(line))


async def init(where: Where, name: str, filename: str, *, dry_run: bool, as_json: bool) -> None:
    check_name(name)
    check_localname(filename)
    if dry_run:
        _tell({"name": name, "localname": filename}, f"Would initialize: {name}", as_json=as_json)
        return
    async with opened(where, missing="create") as place:
        made = await place.archives.init(name, filename)
    words = "Initialized" if made else "Already Initialized"
    _tell({"name": name, "localname": filename, "initialized": made}, f"{words}: {name}", as_json=as_json)


async def push(
    where: Where, name: str, version: str, file: Path, *, latest: bool, dry_run: bool, as_json: bool
) -> None:  # fmt: skip
    check_name(name)
    check_version(version)
    with _sending(file) as progress:
        offer = await offered(file, filename=None, by=who(), now=datetime.now(UTC), progress=progress)
        about = {"name": name, "version": version, "size": offer.size, "sha256": offer.sha256}
        async with opened(where, missing="ignore" if dry_run else "create") as place:
            if dry_run:
                await _refuse_other_bytes(place.archives, name, version, offer)
                size = in_words(offer.size)
                _tell(about, f"Would push: {name} {version} ({size}, sha256 {offer.sha256})", as_json=as_json)
                return
            # Now and not before: to hash it may have taken long, and a claim holds from its beginning.
            offer = replace(offer, now=datetime.now(UTC))
            added = await place.archives.push(name, version, offer, channel=LATEST if latest else None)
    if as_json:
        show_json({**about, "pushed": added, "promoted": latest})
    elif not added:
        say(f"Already Exists: {name}, Version {version} (with the same bytes)")
    elif sys.stdout.isatty():  # tycho says nothing, and scripts may rely on it
        say(f"Pushed: {name} {version}")


async def _refuse_other_bytes(archives: Archives, name: str, version: str, offer: Offer) -> None:
    """Raises `Conflict` if the push would."""
    try:
        known = (await archives.archive(name)).version(version)
    except NotFound:
        return
    if known.sha256 not in {None, offer.sha256} or known.size != offer.size:
        raise exists(name, version)


async def promote(where: Where, name: str, version: str, channel: str, *, dry_run: bool, as_json: bool) -> None:
    check_channel(channel)
    about = {"name": name, "channel": channel, "version": version}
    async with opened(where) as place:
        if dry_run:
            (await place.archives.archive(name)).version(version)
            _tell(about, f"Would promote: {name} {version} to {channel}", as_json=as_json)
            return
        await place.archives.promote(name, channel, version)
    if as_json:
        show_json(about)
    elif sys.stdout.isatty():
        say(f"Promoted: {name} {version} to {channel}")


async def show_list(where: Where, *, as_json: bool) -> None:
    async with opened(where, missing="ignore") as place:
        if as_json:
            show_json([summary async for summary in place.archives.summaries()])
            return
        async for summary in place.archives.summaries():
            say(f"{summary.name} -- Latest Version: {summary.latest}")


async def show_versions(where: Where, name: str, *, as_json: bool) -> None:
    async with opened(where, missing="ignore") as place:
        archive = await place.archives.archive(name)
    if as_json:
        show_json(archive)
        return
    say(f"{archive.name} Versions")
    for version in archive.versions:
        say(f"  - {version.version}")


async def delete(
    where: Where, name: str, versions: Sequence[str], *, yes: bool, dry_run: bool, as_json: bool
) -> None:  # fmt: skip
    async with opened(where) as place:
        archive = await place.archives.archive(name)
        for version in versions:
            if version not in archive.channels:
                archive.version(version)
        await _remove(place.archives, {name: list(versions)}, yes=yes, dry_run=dry_run, as_json=as_json)


async def prune(
    where: Where, patterns: Sequence[str], keep: int, *, yes: bool, dry_run: bool, as_json: bool
) -> None:  # fmt: skip
    async with opened(where) as place:
        doomed = {}
        for name in await operations.names(place.archives, patterns):
            found = operations.prunable(await place.archives.archive(name), keep)
            doomed[name] = [version.version for version in found]
        await _remove(place.archives, doomed, yes=yes, dry_run=dry_run, as_json=as_json)


async def _remove(
    archives: Archives, doomed: dict[str, list[str]], *, yes: bool, dry_run: bool, as_json: bool
) -> None:  # fmt: skip
    """Remove the versions of each archive, and say so."""
    count = sum(map(len, doomed.values()))
    if count and not dry_run:
        what = ", ".join(f"{name} {version}" for name, versions in doomed.items() for version in versions[:5])
        confirm(f"Delete {count} of {len(doomed)} archives ({shown(what)}{' …' if count > 5 else ''})?", yes=yes)
    for name, versions in doomed.items():
        for version in versions:
            if not dry_run:
                await archives.remove(name, version, by=who(), now=datetime.now(UTC))
            if not as_json:
                say(f"{'Would delete' if dry_run else 'Deleted'}: {name} {version}")
    if as_json:
        show_json(doomed)
    elif not count:
        say("nothing to delete")


async def verify(
    where: Where, patterns: Sequence[str], *, version: str | None, local: bool, as_json: bool
) -> None:  # fmt: skip
    found: list[operations.Verified] = []
    with busy("reading"):
        async with opened(where, missing="ignore") as place:
            for name in await operations.names(place.archives, patterns):
                archive = await place.archives.archive(name)
                if local:
                    one = await operations.verify_local(archive, place.outdir)
                    found += [one] if one is not None else []
                else:
                    found += [one async for one in _stored(place.archives, archive, version)]
    if as_json:
        show_json(found)
    else:
        for one in found:
            _show_verified(one)
    if any(one.fault is not None for one in found):
        raise typer.Exit(1)


async def _stored(archives: Archives, archive: Archive, version: str | None) -> "Any":
    versions = archive.versions if version is None else (operations.wanted(archive, version),)
    async for one in operations.verify_stored(archives, archive, versions):
        yield one


def _show_verified(one: operations.Verified) -> None:
    what = f"{one.name} {one.version}".rstrip() + (f" -> {one.path}" if one.path else "")
    if one.fault is not None:
        say(f"Fault: {what}: {one.fault}")
    elif one.known:
        say(f"OK: {what}")
    else:
        say(f"Unknown: {what}: it can be read, but nobody recorded its sha256, which is {one.sha256}")


def _tell(value: object, line: str, *, as_json: bool) -> None:
    if as_json:
        show_json(value)
    else:
        say(line)


@contextmanager
def _sending(file: Path) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal."""
    if not sys.stderr.isatty() or not file.is_file():
        yield nothing
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(shown(file.name)[:40], total=file.stat().st_size)
        yield lambda amount: bar.advance(task, amount)
