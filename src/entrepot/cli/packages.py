"""`list`, `show`, `yank`, `unyank`, `delete`, `restore`, `status`: what an index holds, and changing it."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer
from msgspec.structs import replace

from entrepot.cli import selection
from entrepot.cli.console import (
    ConfigOption,
    DataOption,
    IndexOption,
    JsonOption,
    YesOption,
    confirm,
    show_json,
    who,
    with_catalog,
)
from entrepot.cli.selection import ProjectArgument, Selection, SelectionArgument
from entrepot.errors import NotFound
from entrepot.model import File, Status

if TYPE_CHECKING:
    from entrepot.assembly import Assembled
    from entrepot.index import Sink

_STATUSES = ("active", "archived", "deprecated", "quarantined")


def register(app: typer.Typer) -> None:
    app.command("list", epilog="For example: entrepot list --json")(list_)
    app.command(epilog="For example: entrepot show acme-tools")(show)
    app.command(epilog="For example: entrepot yank acme-tools==1.2 --reason 'loses data'")(yank)
    app.command(epilog="For example: entrepot unyank acme-tools==1.2")(unyank)
    app.command(epilog="For example: entrepot delete acme-tools==1.2")(delete)
    app.command(epilog="For example: entrepot restore acme-tools==1.2")(restore)
    app.command(epilog="For example: entrepot status acme-tools archived --reason 'use acme-kit'")(status)


def list_(
    index: IndexOption = None, config: ConfigOption = None, data: DataOption = None, as_json: JsonOption = False
) -> None:
    """List the projects of an index."""

    async def work(assembled: "Assembled") -> None:
        names = [name async for name in selection.mounted(assembled, index).index.projects()]
        if as_json:
            show_json(names)
        else:
            for name in names:
                typer.echo(name)

    with_catalog(config, data, work, missing="ignore")


def show(
    project: ProjectArgument,
    index: IndexOption = None,
    config: ConfigOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show a project: its status, its files, and the files that were deleted."""

    async def work(assembled: "Assembled") -> None:
        wanted = selection.parse(project).project
        found = selection.mounted(assembled, index)
        page = await found.index.project(wanted)
        removed = await found.sink.removed(wanted) if found.sink is not None else ()
        if as_json:
            show_json({"project": page, "removed": removed})
            return
        reason = f" ({page.status.reason})" if page.status.reason else ""
        typer.echo(f"{page.name}: {page.status.status}{reason}, {_files_of(len(page.files))} in {found.name}")
        for file in page.files:
            typer.echo(f"  {_line(file)}")
        for held in page.withheld:
            typer.echo(f"  withheld: {held.file.filename}: {held.why}")
        for gone in removed:
            typer.echo(f"  deleted {gone.at:%Y-%m-%d} by {gone.by}: {gone.file.filename}")

    with_catalog(config, data, work, missing="ignore")


def yank(
    what: SelectionArgument,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; installers show it.")] = "",
    index: IndexOption = None,
    config: ConfigOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Mark files as yanked: installers pass them over unless that very version is asked for (PEP 592)."""
    _amend(what, index, config, data, as_json, yanked=reason, verb="yanked")


def unyank(
    what: SelectionArgument,
    index: IndexOption = None,
    config: ConfigOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take the mark of `yank` away."""
    _amend(what, index, config, data, as_json, yanked=None, verb="no longer yanked")


def _amend(
    what: str,
    index: str | None,
    config: ConfigOption,
    data: DataOption,
    as_json: bool,
    *,
    yanked: str | None,
    verb: str,
) -> None:
    async def work(assembled: "Assembled") -> None:
        wanted = selection.parse(what)
        sink = selection.sink(assembled, index)
        meant = wanted.among(await _files(sink, wanted))

        def change(file: File) -> File:
            return replace(file, yanked=yanked) if file.filename in meant else file

        changed = await sink.amend(wanted.project, change)
        _report([file.filename for file in changed], verb, as_json=as_json)

    with_catalog(config, data, work)


def delete(
    what: SelectionArgument,
    index: IndexOption = None,
    config: ConfigOption = None,
    data: DataOption = None,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Delete files. `restore` brings them back for seven days; their names are never used for other bytes."""

    async def work(assembled: "Assembled") -> None:
        wanted = selection.parse(what)
        sink = selection.sink(assembled, index)
        meant = wanted.among(await _files(sink, wanted))
        confirm(f"Delete {_files_of(len(meant))} of {wanted.project}?", yes=yes)
        await sink.remove(wanted.project, meant, by=who(), now=datetime.now(UTC))
        _report(sorted(meant), "deleted", as_json=as_json)

    with_catalog(config, data, work)


def restore(
    what: SelectionArgument,
    index: IndexOption = None,
    config: ConfigOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Bring deleted files back."""

    async def work(assembled: "Assembled") -> None:
        wanted = selection.parse(what)
        sink = selection.sink(assembled, index)
        gone = tuple(removed.file for removed in await sink.removed(wanted.project))
        meant = _deleted(wanted, gone)
        await sink.restore(wanted.project, meant)
        _report(sorted(meant), "restored", as_json=as_json)

    with_catalog(config, data, work)


def status(
    project: ProjectArgument,
    marker: Annotated[str | None, typer.Argument(metavar="STATUS", help=f"One of {', '.join(_STATUSES)}.")] = None,
    reason: Annotated[str | None, typer.Option("--reason", metavar="TEXT", help="Why; clients show it.")] = None,
    index: IndexOption = None,
    config: ConfigOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show or set a project's status (PEP 792).

    archived: no new files. deprecated: clients warn. quarantined: no new files, and the existing ones are not
    offered. active: as usual.
    """
    if marker is None and reason is not None:
        raise typer.BadParameter("a reason belongs to a STATUS", param_hint="--reason")
    wanted = _status(marker, reason) if marker is not None else None

    async def work(assembled: "Assembled") -> None:
        name = selection.parse(project).project
        if wanted is None:
            found = (await selection.mounted(assembled, index).index.project(name)).status
        else:
            found = wanted
            await selection.sink(assembled, index).mark(name, found)
        if as_json:
            show_json({"project": name, "status": found.status, "reason": found.reason})
        else:
            typer.echo(f"{name}: {found.status}{f' ({found.reason})' if found.reason else ''}")

    with_catalog(config, data, work, missing="ignore" if wanted is None else "refuse")


def _status(marker: str, reason: str | None) -> Status:
    for known in _STATUSES:
        if marker == known:
            return Status(status=known, reason=reason)  # type: ignore[arg-type]
    raise typer.BadParameter(f"{marker!r} is no status; use {', '.join(_STATUSES)}", param_hint="STATUS")


def _files_of(count: int) -> str:
    return "1 file" if count == 1 else f"{count} files"


async def _files(sink: "Sink", wanted: Selection) -> tuple[File, ...]:
    """Every file of the project, also of a quarantined one, whose page shows none."""
    return await sink.files(wanted.project)


def _deleted(wanted: Selection, gone: tuple[File, ...]) -> frozenset[str]:
    try:
        return wanted.among(gone)
    except NotFound:
        raise NotFound(f"{wanted} was not deleted", hint=f"see `entrepot show {wanted.project}`") from None


def _report(filenames: list[str], verb: str, *, as_json: bool) -> None:
    if as_json:
        show_json(filenames)
        return
    for filename in filenames:
        typer.echo(f"{verb}: {filename}")
    if not filenames:
        typer.echo("nothing to change")


def _line(file: File) -> str:
    from entrepot.units import in_words

    parts = [file.filename]
    if file.size is not None:
        parts.append(in_words(file.size))
    if file.uploaded is not None:
        parts.append(f"{file.uploaded:%Y-%m-%d %H:%M}")
    if file.by:
        parts.append(f"by {file.by}")
    if file.yanked is not None:
        parts.append(f"YANKED {file.yanked}".rstrip())
    if file.legacy:
        parts.append(f"legacy: {file.legacy}")
    return "  ".join(parts)
