"""Writes docs/cli.md from the commands themselves. `make docs` runs it; a test compares the result."""

from collections.abc import Iterator
from pathlib import Path

from typer.core import TyperArgument, TyperGroup, TyperOption
from typer.main import get_command

from entrepot.cli.main import app

PAGE = Path(__file__).resolve().parents[1] / "docs" / "cli.md"

_HEAD = """\
# Commands

<!-- Written by tools/write_cli_reference.py from the commands themselves: change those, then run `make docs`. -->

`entrepot` and `python -m entrepot` are the same. Every command has `--help` (or `-h`).

Options that mean the same in every command:

- `--data DIR` says where everything is kept, and `--config F` which file to read. Without `--config`, the file
  `entrepot.toml` in the current folder is read if there is one. See [configuration.md](configuration.md).
- `--json` answers in JSON on stdout. Messages for people go to stderr.
- `--yes` answers the question that a command asks before it destroys something. Where nobody can answer, because
  stdin is no terminal, the command refuses without it.

Exit codes: 0 done; 1 it could not be done, and the message says why; 2 the command line is wrong; 130 interrupted.

Commands work beside a running server: they change the same store by the same compare-and-swap, and every server
that uses the store sees the change with its next request. Run them as the user who owns the data, or as root
([backup.md](backup.md#file-ownership)).
"""


def render() -> str:
    """The page: one section for each command, in the order of `entrepot --help`."""
    root = get_command(app)
    assert isinstance(root, TyperGroup)
    return "\n".join([_HEAD, *_sections(root, "entrepot")])


def _sections(group: TyperGroup, name: str) -> Iterator[str]:
    for word, command in group.commands.items():
        full = f"{name} {word}"
        if isinstance(command, TyperGroup):
            yield from _sections(command, full)
            continue
        arguments = [parameter for parameter in command.params if isinstance(parameter, TyperArgument)]
        options = [parameter for parameter in command.params if isinstance(parameter, TyperOption)]
        usage = " ".join([full, *map(_placeholder, arguments), "[OPTIONS]"])
        yield f"## {full}\n\n```text\n{usage}\n```\n\n{(command.help or '').strip()}\n"
        rows = [*map(_argument_row, arguments), *map(_option_row, options)]
        yield "| | |\n|---|---|\n" + "\n".join(rows) + "\n"
        if command.epilog:
            yield f"```sh\n{command.epilog.removeprefix('For example: ')}\n```\n"


def _placeholder(argument: TyperArgument) -> str:
    name = argument.metavar or (argument.name or "").upper()
    placeholder = name if argument.required else f"[{name}]"
    return f"{placeholder}..." if argument.nargs == -1 else placeholder


def _argument_row(argument: TyperArgument) -> str:
    return f"| `{_placeholder(argument)}` | {argument.help or ''} |"


def _option_row(option: TyperOption) -> str:
    spelled = ", ".join(option.opts)
    value = "" if option.is_flag else f" {option.metavar}"
    notes = [option.help or ""]
    if option.required:
        notes.append("Required.")
    if option.envvar:
        notes.append(f"Environment: `{option.envvar}`.")
    return f"| `{spelled}{value}` | {' '.join(notes)} |"


def main() -> None:
    PAGE.write_text(render(), encoding="utf-8")
    print(f"{PAGE.name} is written")


if __name__ == "__main__":
    main()
