"""`entrepot archive …`: versioned files that are no Python packages, in tycho's words."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from entrepot.cli.console import ConfigOption, DataOption, JsonOption, YesOption

if TYPE_CHECKING:
    from entrepot.cli.archive_places import Where

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The archive.")]
NamesArgument = Annotated[list[str], typer.Argument(metavar="NAME", help="Archives, or patterns such as 'data-*'.")]
VersionArgument = Annotated[str, typer.Argument(metavar="VERSION", help="The version: any text.")]
ToOption = Annotated[
    str | None,
    typer.Option("--to", metavar="URL", help="A store, or https://HOST/INDEX/archives/ of a server; else the index's."),
]
IndexOption = Annotated[
    str | None, typer.Option("--index", metavar="NAME", help="The index whose archives they are; else the default one.")
]
LayoutOption = Annotated[
    str | None, typer.Option("--layout", metavar="NAME", help="Of the store: entrepot, or tycho for buckets of tycho.")
]
TokenOption = Annotated[
    str | None, typer.Option("--token", envvar="ENTREPOT_TOKEN", metavar="TOKEN", help="For a server.")
]
OutdirOption = Annotated[
    Path | None, typer.Option("--outdir", metavar="DIR", help="Where files are written; else tycho_packages.")
]
CreateOption = Annotated[bool, typer.Option("--create", help="Make a store of a place that is none yet.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")]
ForceOption = Annotated[bool, typer.Option("--force", help="Fetch it also if it is here.")]
JobsOption = Annotated[int, typer.Option("--jobs", "-j", metavar="N", min=1, help="How many at once; else 4.")]
LockOption = Annotated[bool, typer.Option("--lock", help="Write what was pulled to archives.lock.")]
LockedOption = Annotated[bool, typer.Option("--locked", help="Pull the versions, with the sha256, of archives.lock.")]

app = typer.Typer(
    help="Keep and pull versioned files that are no Python packages.",
    no_args_is_help=True,
    rich_markup_mode=None,
    epilog="For example: entrepot archive push model 1.0 model.tar.gz --promote-latest",
)


def _where(
    to: str | None, index: str | None, layout: str | None, token: str | None, config: Path | None, data: Path | None,
    *, outdir: Path | None = None, create: bool = False,
) -> "Where":  # fmt: skip
    from entrepot.cli.archive_places import Where

    return Where(to=to, index=index, layout=layout, token=token, config=config, data=data, outdir=outdir, create=create)


@app.command(epilog="For example: entrepot archive init model model.tar.gz")
def init(
    name: NameArgument,
    filename: Annotated[str, typer.Argument(metavar="FILENAME", help="What pull calls the file.")],
    create: CreateOption = False,
    dry_run: DryRunOption = False,
    to: ToOption = None,
    index: IndexOption = None,
    layout: LayoutOption = None,
    token: TokenOption = None,
    config: ConfigOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Begin an archive, and say what its file is called locally.

    Not needed: the first push of an unknown archive takes the name of the pushed file.
    """
    from entrepot.cli import archiving

    where = _where(to, index, layout, token, config, data, create=create)
    archiving.run(archiving.init(where, name, filename, dry_run=dry_run, as_json=as_json))


@app.command(epilog="For example: entrepot archive push model 1.0 model.tar.gz --promote-latest")
def push(
    name: NameArgument,
    version: VersionArgument,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The local file.")],
    promote_latest: Annotated[bool, typer.Option("--promote-latest", help="Let latest point to it.")] = False,
    create: CreateOption = False,
    dry_run: DryRunOption = False,
    to: ToOption = None,
    index: IndexOption = None,
    layout: LayoutOption = None,
    token: TokenOption = None,
    config: ConfigOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Keep a file as a version of an archive.

    A version never changes: other bytes under it are refused with exit code 1. The same bytes again are fine.
    """
    from entrepot.cli import archiving

    where = _where(to, index, layout, token, config, data, create=create)
    archiving.run(archiving.push(where, name, version, file, latest=promote_latest, dry_run=dry_run, as_json=as_json))


@app.command(epilog="For example: entrepot archive promote model 1.0 --channel stable")
def promote(
    name: NameArgument,
    version: VersionArgument,
    channel: Annotated[str, typer.Option("--channel", metavar="NAME", help="Which one; else latest.")] = "latest",
    dry_run: DryRunOption = False,
    to: ToOption = None,
    index: IndexOption = None,
    layout: LayoutOption = None,
    token: TokenOption = None,
    config: ConfigOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let a channel point to a version: `latest`, or any other name."""
    from entrepot.cli import archiving

    where = _where(to, index, layout, token, config, data)
    archiving.run(archiving.promote(where, name, version, channel, dry_run=dry_run, as_json=as_json))


@app.command(epilog="For example: entrepot archive pull model --version '>=1.2,<2'")
def pull(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The archive, or a pattern such as 'data-*'.")],
    version: Annotated[
        str, typer.Option("--version", metavar="V", help="A version, a channel or a range; else latest.")
    ] = "latest",
    force: ForceOption = False,
    outfile: Annotated[Path | None, typer.Option("--outfile", metavar="F", help="Write to this very path.")] = None,
    outdir: OutdirOption = None,
    jobs: JobsOption = 4,
    lock: LockOption = False,
    locked: LockedOption = False,
    dry_run: DryRunOption = False,
    to: ToOption = None,
    index: IndexOption = None,
    layout: LayoutOption = None,
    token: TokenOption = None,
    config: ConfigOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Fetch a version to the folder for archives, unless it is there.

    The file appears when it is complete and its sha256 is right. A pull that was cut goes on where it was.
    """
    from entrepot.cli import archive_pulling as pulling

    order = pulling.Order(
        names=[name], version=version, force=force, outfile=outfile, jobs=jobs, lock=lock, locked=locked,
        dry_run=dry_run, as_json=as_json,
    )  # fmt: skip
    pulling.run(_where(to, index, layout, token, config, data, outdir=outdir), order)


@app.command("pull-list", epilog="For example: entrepot archive pull-list model 'data-*' -j 8")
def pull_list(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME", help="Archives or patterns; with --locked none means all of the lock."),
    ] = None,
    force: ForceOption = False,
    outdir: OutdirOption = None,
    jobs: JobsOption = 4,
    lock: LockOption = False,
    locked: LockedOption = False,
    dry_run: DryRunOption = False,
    to: ToOption = None,
    index: IndexOption = None,
    layout: LayoutOption = None,
    token: TokenOption = None,
    config: ConfigOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Fetch the latest version of several archives, some at once.

    One that cannot be had does not keep the others back; the exit code is 1 then.
    """
    if not names and not locked:
        raise typer.BadParameter("name an archive", param_hint="NAME")
    from entrepot.cli import archive_pulling as pulling

    order = pulling.Order(
        names=names or [], force=force, jobs=jobs, lock=lock, locked=locked, dry_run=dry_run, as_json=as_json
    )
    pulling.run(_where(to, index, layout, token, config, data, outdir=outdir), order)


@app.command("list", epilog="For example: entrepot archive list --json")
def list_(
    to: ToOption = None,
    index: IndexOption = None,
    layout: LayoutOption = None,
    token: TokenOption = None,
    config: ConfigOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the archives, each with its latest version."""
    from entrepot.cli import archiving

    archiving.run(archiving.show_list(_where(to, index, layout, token, config, data), as_json=as_json))


@app.command("list-versions", epilog="For example: entrepot archive list-versions model")
def list_versions(
    name: NameArgument,
    to: ToOption = None,
    index: IndexOption = None,
    layout: LayoutOption = None,
    token: TokenOption = None,
    config: ConfigOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the versions of an archive, oldest first: in the order of PEP 440, others before in natural order."""
    from entrepot.cli import archiving

    archiving.run(archiving.show_versions(_where(to, index, layout, token, config, data), name, as_json=as_json))


@app.command(epilog="For example: entrepot archive delete model 0.9")
def delete(
    name: NameArgument,
    versions: Annotated[list[str], typer.Argument(metavar="VERSION", help="Versions, or channels.")],
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    to: ToOption = None,
    index: IndexOption = None,
    layout: LayoutOption = None,
    token: TokenOption = None,
    config: ConfigOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Delete versions, or channels by their names.

    A version to which a channel points is not deleted. In our own layout other bytes never take its name.
    """
    from entrepot.cli import archiving

    where = _where(to, index, layout, token, config, data)
    archiving.run(archiving.delete(where, name, versions, yes=yes, dry_run=dry_run, as_json=as_json))


@app.command(epilog="For example: entrepot archive verify 'data-*' --local")
def verify(
    names: Annotated[list[str] | None, typer.Argument(metavar="NAME", help="Archives or patterns; else all.")] = None,
    version: Annotated[
        str | None, typer.Option("--version", metavar="V", help="Only this one: a version, a channel or a range.")
    ] = None,
    local: Annotated[
        bool, typer.Option("--local", help="The files that were pulled here, not what is stored.")
    ] = False,
    outdir: OutdirOption = None,
    to: ToOption = None,
    index: IndexOption = None,
    layout: LayoutOption = None,
    token: TokenOption = None,
    config: ConfigOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Read what is stored, or what was pulled here, and compare its sha256 with what is recorded.

    Exits with 1 if anything is not as it must be.
    """
    from entrepot.cli import archiving

    where = _where(to, index, layout, token, config, data, outdir=outdir)
    archiving.run(archiving.verify(where, names or [], version=version, local=local, as_json=as_json))


@app.command(epilog="For example: entrepot archive prune model --keep 5 --dry-run")
def prune(
    names: NamesArgument,
    keep: Annotated[int, typer.Option("--keep", metavar="N", min=1, help="How many of the newest versions stay.")],
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    to: ToOption = None,
    index: IndexOption = None,
    layout: LayoutOption = None,
    token: TokenOption = None,
    config: ConfigOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Delete old versions, but none to which a channel points."""
    from entrepot.cli import archiving

    where = _where(to, index, layout, token, config, data)
    archiving.run(archiving.prune(where, names, keep, yes=yes, dry_run=dry_run, as_json=as_json))
