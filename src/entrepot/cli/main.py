"""The table of commands."""

from typing import Annotated

import typer

from entrepot import __version__
from entrepot.cli import archive, mirror, moving, names, packages, serve, tokens, upkeep

app = typer.Typer(
    name="entrepot",
    help="One Python package index over everything a team keeps packages in.",
    epilog="Start with: entrepot serve",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"entrepot {__version__}")
        raise typer.Exit


@app.callback()
def entrepot(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show it.")] = False,
) -> None:
    pass


serve.register(app)
packages.register(app)
names.register(app)
mirror.register(app)
moving.register(app)
upkeep.register(app)
app.add_typer(tokens.app, name="token")
app.add_typer(archive.app, name="archive")


def run() -> None:
    """The console script."""
    app()
