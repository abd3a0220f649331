"""`entrepot mirror`: fill the cache of a mirror before anybody asks."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from entrepot.cli.console import ConfigOption, DataOption, JsonOption, run, settings
from entrepot.errors import Invalid, NotFound
from entrepot.model import is_valid_name, normalise

if TYPE_CHECKING:
    from entrepot.wire.requirements import Asked


def register(app: typer.Typer) -> None:
    app.command(epilog="For example: entrepot mirror requirements.txt --python 3.12 --platform linux")(mirror)


def mirror(
    files: Annotated[
        list[Path] | None, typer.Argument(metavar="FILE", help="requirements.txt, pylock.toml or uv.lock.")
    ] = None,
    all_of: Annotated[
        list[str] | None, typer.Option("--all-of", metavar="NAME", help="Every version of this project; repeats.")
    ] = None,
    index: Annotated[
        str | None,
        typer.Option("--index", metavar="NAME", help="The index; else the default one, or the first mirror."),
    ] = None,
    python: Annotated[
        list[str] | None, typer.Option("--python", metavar="X.Y", help="Only what this Python installs; repeats.")
    ] = None,
    platform: Annotated[
        list[str] | None,
        typer.Option("--platform", metavar="TAG", help="Only what this platform installs: linux, win_amd64…; repeats."),
    ] = None,
    with_dependencies: Annotated[
        bool, typer.Option("--with-dependencies", help="Also what the requirements need; uv resolves it.")
    ] = False,
    pre: Annotated[bool, typer.Option("--pre", help="Pre-releases are as good as releases.")] = False,
    jobs: Annotated[int, typer.Option("--jobs", "-j", metavar="N", min=1, help="How many files at once; else 8.")] = 8,
    config: ConfigOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Keep here what requirements name, before anybody asks for it.

    Of each requirement the newest version that fits is fetched, with every wheel and sdist of it; of a lock
    the very files that it names, and these are never evicted. With --python or --platform, only the wheels that
    fit, and the sdist where none does. Hashes are checked. Options of pip that name indexes are passed over.

    Exits with 1 if anything could not be had.
    """
    if not files and not all_of:
        raise typer.BadParameter("name a file, or --all-of a project", param_hint="FILE")

    def work() -> bool:
        from entrepot.cli import filling
        from entrepot.wire import targets

        order = filling.Order(
            config=settings(config, data),
            asked=_asked(files or [], all_of or []),
            index=index,
            targets=targets.parse(python or (), platform or ()),
            prereleases=pre,
            with_dependencies=with_dependencies,
            jobs=jobs,
        )
        return filling.fill(order, as_json=as_json)

    if not run(work):
        raise typer.Exit(1)


def _asked(files: list[Path], names: list[str]) -> "list[Asked]":
    from entrepot.wire.requirements import Asked, Wanted, parse_file

    found = [parse_file(str(file), _read, environ=os.environ) for file in files]
    whole: list[Wanted] = []
    for name in names:
        if not is_valid_name(name):
            raise Invalid(f"{name!r} is no project name", at="--all-of")
        whole.append(Wanted(name=normalise(name), text=name, every=True))
    return [*found, Asked(wanted=tuple(whole))]


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise NotFound(f"cannot be read: {error.strerror}", at=path) from error
