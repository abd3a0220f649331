"""`copy` and `import`: packages from elsewhere."""

from typing import Annotated

import typer

from entrepot.cli.console import ConfigOption, DataOption, JsonOption, YesOption, run, settings, who

JobsOption = Annotated[int, typer.Option("--jobs", "-j", metavar="N", min=1, help="How many files at once; else 8.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")]


def register(app: typer.Typer) -> None:
    app.command(epilog="For example: entrepot copy data /mnt/backup/packages")(copy)
    app.command("import", epilog="For example: entrepot import https://old.example.org/simple/ --to private")(import_)


def copy(
    source: Annotated[
        str, typer.Argument(metavar="SRC", help="A store: its name in the configuration, its URL, or a data folder.")
    ],
    target: Annotated[str, typer.Argument(metavar="DST", help="The same. An empty place becomes a new store.")],
    index: Annotated[
        list[str] | None,
        typer.Option("--index", metavar="NAME", help="Only this index, and no tokens; repeats."),
    ] = None,
    verify: Annotated[bool, typer.Option("--verify", help="Also hash what is there, and replace wrong bytes.")] = False,
    jobs: JobsOption = 8,
    dry_run: DryRunOption = False,
    config: ConfigOption = None,
    data: DataOption = None,
    yes: YesOption = False,  # noqa: ARG001 - nothing is asked; accepted as by every command
    as_json: JsonOption = False,
) -> None:
    """Copy a store into another one: a backup, a restore, or a move. Both may be in use meanwhile.

    What is there already is passed over, so that the command may be cut and run again. Every byte is hashed on its
    way. Nothing is removed from the destination: where it has what the source has not, that is told and left alone.
    The default store of --data is called "data".

    Exits with 1 if anything could not be copied.
    """

    def work() -> bool:
        from entrepot.cli import copying
        from entrepot.moving.objects import Options

        options = Options(indexes=frozenset(index or ()), jobs=jobs, verify=verify, dry_run=dry_run)
        order = copying.Order(config=settings(config, data), source=source, target=target, options=options)
        return copying.copy(order, as_json=as_json)

    if not run(work):
        raise typer.Exit(1)


def import_(
    origin: Annotated[str, typer.Argument(metavar="FROM", help="A folder, or the URL of an index: a Simple API.")],
    to: Annotated[
        str | None, typer.Option("--to", metavar="INDEX", help="Into this index; else the default one.")
    ] = None,
    project: Annotated[
        list[str] | None, typer.Option("--project", metavar="PATTERN", help="Only projects like this; repeats.")
    ] = None,
    by: Annotated[
        str | None, typer.Option("--by", metavar="NAME", help="Who uploaded the files, for the record; else you.")
    ] = None,
    jobs: JobsOption = 8,
    dry_run: DryRunOption = False,
    config: ConfigOption = None,
    data: DataOption = None,
    yes: YesOption = False,  # noqa: ARG001 - nothing is asked; accepted as by every command
    as_json: JsonOption = False,
) -> None:
    """Bring files from a folder, from pypiserver, devpi or any other index into a hosted one.

    Upload times are kept: those of the pages, else of the files. Hashes are checked, also yanks come along. Old files
    that would be refused as uploads only for their form are kept and marked as legacy. What is there already is not
    fetched again, so that the command may be cut and run again. Credentials stand in the URL, or in netrc or keyring.

    Exits with 1 if anything could not be imported.
    """

    def work() -> bool:
        from entrepot.cli import importing

        order = importing.Order(
            config=settings(config, data),
            origin=origin,
            to=to,
            projects=tuple(project or ()),
            by=by if by is not None else who(),
            jobs=jobs,
            dry_run=dry_run,
        )
        return importing.import_all(order, as_json=as_json)

    if not run(work):
        raise typer.Exit(1)
