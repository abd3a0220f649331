"""`explain` and `forget`: which index answers a name, and why."""

from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, cast

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
    with_catalog,
)
from entrepot.cli.selection import ProjectArgument, Selection, SelectionArgument
from entrepot.errors import Conflict, EntrepotError, NotFound

if TYPE_CHECKING:
    from entrepot.assembly import Assembled
    from entrepot.explain import Explanation, Step
    from entrepot.index import Catalog, Layer, Mounted, Remembering
    from entrepot.model import ProjectName


def register(app: typer.Typer) -> None:
    app.command(epilog="For example: entrepot explain 'requests==2.33' --index root")(explain)
    app.command(epilog="For example: entrepot forget acme-tools --index wheels")(forget)


def explain(
    what: SelectionArgument,
    index: IndexOption = None,
    config: ConfigOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say which index answers a name, and why each file is shown or withheld.

    Every index on the way is shown with its answer, and every file with the rule that withholds it.
    """

    async def work(assembled: "Assembled") -> None:
        from entrepot.explain import explain as explanation_of

        wanted = selection.parse(what)
        found = await explanation_of(selection.mounted(assembled, index), wanted.project)
        asked = replace(found, files=tuple(file for file in found.files if wanted.means(file)))
        if as_json:
            show_json(asked)
            return
        for line in _lines(asked, wanted):
            typer.echo(line)

    with_catalog(config, data, work, missing="ignore")


def _lines(found: "Explanation", wanted: Selection) -> Iterator[str]:
    yield from _steps(found.step, "")
    for file in found.files:
        by = f" ({file.by})" if file.by else ""
        yield f"{'shown   ' if file.shown else 'withheld'}  {file.filename}  of {file.origin}: {file.why}{by}"
    if not found.files and (wanted.version is not None or wanted.filename is not None):
        yield f"no file is {wanted}"
    if found.valid_until is not None:
        yield f"this may change at {found.valid_until}"


def _steps(step: "Step", indent: str) -> Iterator[str]:
    yield f"{indent}{step.index} ({step.type}): {step.says.replace('-', ' ')}: {step.why}"
    for member in step.members:
        yield from _steps(member, f"{indent}  ")


def forget(
    project: ProjectArgument,
    index: IndexOption = None,
    config: ConfigOption = None,
    data: DataOption = None,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Release a name that an index remembers though it has no files of it any more.

    A folder that once served a name keeps it, so that no public project can take its place. After this, the next
    index that knows the name may answer it. A hosted index never releases a name: its deleted files keep theirs.
    """

    async def work(assembled: "Assembled") -> None:
        name = selection.parse(project).project
        found = selection.mounted(assembled, index)
        confirm(f"Release the name {name}, so that other indexes may answer it?", yes=yes)
        released = [source async for source in _forgetting(assembled.catalog, found, name)]
        if not released:
            raise await _why_not(found, name)
        if as_json:
            show_json({"project": name, "indexes": released})
        else:
            typer.echo(f"{', '.join(released)}: {name} is forgotten")

    with_catalog(config, data, work)


async def _forgetting(catalog: "Catalog", mounted: "Mounted", name: "ProjectName") -> AsyncIterator[str]:
    """The sources behind the index that remembered the name."""
    for source in _sources(mounted.layer):
        remembering = catalog.sources[source]
        if not hasattr(remembering, "forget"):
            continue
        try:
            await cast("Remembering", remembering).forget(name)
        except NotFound:
            continue
        yield source


def _sources(layer: "Layer | None") -> Iterator[str]:
    if layer is not None and not layer.members:
        yield layer.name
    for member in layer.members if layer is not None else ():
        yield from _sources(member)


async def _why_not(mounted: "Mounted", name: "ProjectName") -> EntrepotError:
    try:
        if mounted.sink is not None:
            await mounted.sink.files(name)
            hint = f'`merge = ["{name}"]` in the virtual index lets other indexes answer beside it'
            return Conflict(f"hosted index {mounted.sink.name} keeps {name}: it never releases a name", hint=hint)
    except NotFound:
        pass
    return NotFound(f"no index behind {mounted.name} remembers {name}")
