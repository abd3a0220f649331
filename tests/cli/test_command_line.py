"""The command as a shell sees it: help, exit codes, streams, the environment."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from entrepot import __version__
from entrepot.cli.main import app
from entrepot.sources.hosted import Hosted
from tests.cli.conftest import ENTREPOT, Run, environment
from tests.e2e.servers import PLAIN
from tests.sources.samples import add


def commands(group: object, *words: str) -> Iterator[tuple[str, ...]]:
    """Every command, as its words: also the groups."""
    yield words
    if isinstance(group, TyperGroup):
        for word, command in group.commands.items():
            yield from commands(command, *words, word)


ALL = list(commands(get_command(app)))


def test_these_are_the_commands() -> None:
    assert sorted(" ".join(words) for words in ALL) == [
        "", "archive", "archive delete", "archive init", "archive list", "archive list-versions", "archive promote",
        "archive prune", "archive pull", "archive pull-list", "archive push", "archive verify", "check", "copy", "delete", "explain", "forget", "gc", "import", "list", "mirror", "restore", "serve", "show", "status", "token", "token create",
        "token list", "token revoke", "unyank", "yank",
    ]  # fmt: skip


@pytest.mark.parametrize("words", ALL, ids=" ".join)
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_every_command_has_help_with_an_example(command: Run, words: tuple[str, ...], flag: str) -> None:
    said = command(*words, flag).ok()
    [example] = [line for line in said.splitlines() if line.strip().startswith(("For example: ", "Start with: "))]
    assert " ".join(["entrepot", *words]) in example


def find(words: tuple[str, ...]) -> TyperCommand | TyperGroup:
    found = get_command(app)
    for word in words:
        assert isinstance(found, TyperGroup)
        found = found.commands[word]
    assert isinstance(found, TyperCommand | TyperGroup)
    return found


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_the_same_options_mean_the_same_in_every_command(words: tuple[str, ...]) -> None:
    command = find(words)
    if isinstance(command, TyperGroup):
        return
    options = {name: parameter for parameter in command.params for name in parameter.opts}
    assert {"--data", "--config"} <= set(options)
    assert ("--json" in options) is (words != ("serve",))
    assert options["--data"].envvar == "ENTREPOT_DATA"
    assert options["--config"].envvar == "ENTREPOT_CONFIG"
    assert all(getattr(parameter, "help", None) for parameter in command.params if parameter.name != "help")


HEAVY = ("httptools", "starlette", "aiohttp", "uvloop", "packaging", "rich", "entrepot.web")


def test_help_of_any_command_imports_nothing_heavy() -> None:
    """It must come in less than 0.3 s, also on a slow machine."""
    script = f"""
import sys
from entrepot.__main__ import main
for words in {ALL!r}:
    sys.argv = ["entrepot", *words, "--help"]
    try:
        main()
    except SystemExit as end:
        assert end.code == 0
print("heavy:", [name for name in {HEAVY!r} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment())
    assert done.stdout.splitlines()[-1] == "heavy: []"


def test_a_command_that_does_not_serve_imports_no_server(tmp_path: Path) -> None:
    script = f"""
import sys
sys.argv = ["entrepot", "token", "create", "x", "--can", "read", "--data", {str(tmp_path)!r}]
from entrepot.__main__ import main
try:
    main()
except SystemExit as end:
    assert end.code == 0
print("heavy:", [name for name in ("httptools", "starlette", "aiohttp", "uvloop", "rich") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment())
    assert done.stdout.splitlines()[-1] == "heavy: []"


def test_the_version_is_shown_by_the_command_and_by_the_module(shell: Run) -> None:
    assert shell("--version").ok() == f"entrepot {__version__}\n"
    done = subprocess.run([sys.executable, "-m", "entrepot", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"entrepot {__version__}\n"


def test_the_version_is_that_of_the_project() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    assert project["tool"]["hatch"]["version"]["path"] == "src/entrepot/__init__.py"


# Exit codes and streams


def test_without_a_command_it_says_what_there_is(shell: Run) -> None:
    said = shell()
    assert said.code == 2
    assert "Commands:" in said.out + said.err


def test_what_cannot_be_done_is_one_line_on_stderr_and_exit_code_one(shell: Run, tmp_path: Path) -> None:
    failed = shell("show", "nobody", "--data", tmp_path / "none")
    assert (failed.code, failed.out) == (1, "")
    assert failed.err == f"nothing is kept in {tmp_path}/none yet\nerror: no project nobody\n"


def test_a_wrong_command_line_is_exit_code_two_on_stderr(shell: Run) -> None:
    wrong = shell("list", "--dta", "x")
    assert (wrong.code, wrong.out) == (2, "")
    assert "No such option: --dta" in wrong.err


def test_an_error_of_the_system_is_one_line_too(shell: Run, tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "entrepot.json").mkdir()
    failed = shell("list", "--data", tmp_path)
    assert (failed.code, failed.out) == (1, "")
    assert len(failed.err.splitlines()) == 1
    assert failed.err.startswith("error: ")


def test_a_reader_that_goes_away_is_no_reason_for_a_trace(stocked: Hosted, data: Path) -> None:
    async def many() -> None:
        for number in range(200):
            await add(stocked, f"a{'b' * 200}{number}-1.tar.gz")

    asyncio.run(many())
    with subprocess.Popen(
        [ENTREPOT, "list", "--data", data], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
    ) as listing:
        assert listing.stdout is not None
        assert listing.stderr is not None
        listing.stdout.close()
        assert b"Traceback" not in listing.stderr.read()


def test_an_interrupted_command_ends_with_130_and_no_trace(stocked: Hosted, data: Path, tmp_path: Path) -> None:
    pipe = tmp_path / "entrepot.toml"
    os.mkfifo(pipe)  # the configuration never comes
    with (
        subprocess.Popen(
            [ENTREPOT, "list", "--config", pipe], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
        ) as waiting,
        pipe.open("wb"),
    ):  # opens when it has begun to read
        waiting.send_signal(signal.SIGINT)
        _, err = waiting.communicate(timeout=60)
    assert waiting.returncode == 130
    assert b"Traceback" not in err


# Where it looks


def test_the_data_folder_may_come_from_the_environment(shell: Run, stocked: Hosted, data: Path, tmp_path: Path) -> None:
    assert shell("list", env={"ENTREPOT_DATA": str(data)}).ok() == "demo\nother\n"
    elsewhere = shell("list", "--data", tmp_path / "none", env={"ENTREPOT_DATA": str(data)})
    assert elsewhere.ok() == ""


def test_a_configuration_in_the_current_folder_is_read_and_one_that_is_named_wins(
    shell: Run, stocked: Hosted, data: Path, tmp_path: Path
) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (own / "entrepot.toml").write_text(f'data = "../data"\n{PLAIN}')
    (own / "other.toml").write_text('data = "empty"\n')
    assert shell("list", cwd=own).ok() == "demo\nother\n"
    assert shell("list", "--config", "other.toml", cwd=own).ok() == ""
    assert shell("list", env={"ENTREPOT_CONFIG": "other.toml"}, cwd=own).ok() == ""
    assert shell("list", "--config", "other.toml", "--data", data, cwd=own).ok() == "demo\nother\n"


def test_without_anything_the_data_lie_in_the_users_folder(shell: Run, tmp_path: Path) -> None:
    listed = shell("list", env={"XDG_DATA_HOME": str(tmp_path / "share")})
    assert listed.ok() == ""
    assert listed.err == f"nothing is kept in {tmp_path}/share/entrepot yet\n"


def test_a_fault_of_the_configuration_is_named_with_its_place(command: Run, tmp_path: Path) -> None:
    (tmp_path / "entrepot.toml").write_text("[server]\nprot = 1\nworkers = 'x'\n")
    faults = command("list")
    assert (faults.code, faults.out) == (1, "")
    assert faults.err.splitlines() == [
        "error: entrepot.toml has 2 problems",
        "  - entrepot.toml: server.prot: 'prot' is not a key here (did you mean 'port'?)",
        "  - entrepot.toml: server.workers: must be a whole number, not text",
    ]


def test_all_json_is_json_and_nothing_else_is_on_stdout(command: Run, stocked: Hosted) -> None:
    for words in (
        ("list",), ("show", "demo"), ("yank", "demo==2.0"), ("unyank", "demo==2.0"), ("delete", "other", "--yes"),
        ("restore", "other"), ("status", "demo"), ("status", "demo", "archived"), ("check",), ("gc",),
        ("token", "create", "x", "--can", "read"), ("token", "list"), ("token", "revoke", "x", "--yes"),
    ):  # fmt: skip
        assert json.loads(command(*words, "--json").ok()) is not None
