"""What all commands share: their options, how they run, and how they say what went wrong.

Exit codes: 0 done, 1 it could not be done (the message says why), 2 the command line is wrong, 130 interrupted.
"""

import asyncio
import getpass
import sys
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

if TYPE_CHECKING:
    from entrepot.assembly import Assembled, Missing
    from entrepot.config import Config

T = TypeVar("T")

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", envvar="ENTREPOT_CONFIG", metavar="F", help="The file to read; else ./entrepot.toml."),
]
DataOption = Annotated[
    Path | None,
    typer.Option("--data", envvar="ENTREPOT_DATA", metavar="DIR", help="Where everything is kept."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Answer in JSON, for programs.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
IndexOption = Annotated[str | None, typer.Option("--index", metavar="NAME", help="The index; else the default one.")]


def run(work: Callable[[], T]) -> T:
    """The result of `work`; an error of ours or of the system becomes a message and exit code 1."""
    from entrepot.errors import EntrepotError, Unavailable

    try:
        return work()
    except EntrepotError as error:
        raise fail(error) from error
    except BrokenPipeError:
        raise  # whoever read our output has gone: typer ends quietly
    except OSError as error:
        raise fail(Unavailable(error.strerror or repr(error), at=str(error.filename or ""))) from error
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def fail(error: Exception) -> typer.Exit:
    problems = getattr(error, "problems", ())
    typer.echo(f"error: {error}", err=True)
    for problem in problems:
        typer.echo(f"  - {problem}", err=True)
    return typer.Exit(1)


def settings(config: Path | None, data: Path | None) -> "Config":
    """The configuration that a command works with: the file's, with `--data` in it."""
    import msgspec

    from entrepot.config import DEFAULT_FILE, load

    file = config
    if file is None and Path(DEFAULT_FILE).is_file():
        file = Path(DEFAULT_FILE)
    loaded = load(file)
    return msgspec.structs.replace(loaded, data=str(data.absolute())) if data is not None else loaded


def with_catalog(
    config: Path | None,
    data: Path | None,
    work: "Callable[[Assembled], Coroutine[Any, Any, T]]",
    *,
    missing: "Missing" = "refuse",
) -> T:
    """Run `work` on the catalog, beside a running server or without one. `missing`: where nothing was kept yet."""

    async def within(ready: "Config") -> T:
        from entrepot.assembly import opened

        async with opened(ready, missing) as assembled:
            return await work(assembled)

    return run(lambda: asyncio.run(within(settings(config, data))))


def show_json(value: object) -> None:
    import msgspec

    typer.echo(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def busy(what: str) -> AbstractContextManager[object]:
    """A sign of life on a terminal, for what may take minutes."""
    if not sys.stderr.isatty():
        return nullcontext()
    from rich.console import Console

    return Console(stderr=True).status(what)


def confirm(question: str, *, yes: bool) -> None:
    """Ask, unless `--yes`. Where nobody can answer, refuse and say how to go on."""
    if yes:
        return
    if not sys.stdin.isatty():
        typer.echo(f"error: {question} Nobody is here to ask: add --yes", err=True)
        raise typer.Exit(1)
    typer.confirm(question, abort=True, err=True)


def who() -> str:
    """For the record: changes by a command are signed with the user of this machine."""
    try:
        return f"cli:{getpass.getuser()}"
    except (KeyError, OSError):
        return "cli"
