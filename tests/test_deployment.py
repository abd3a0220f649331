"""The Containerfile and the systemd unit name only paths, flags and variables that there are."""

import ast
import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from typer.core import TyperGroup, TyperOption
from typer.main import get_command

from entrepot import units
from entrepot.cli.main import app
from entrepot.config import Server

ROOT = Path(__file__).resolve().parents[1]
CONTAINERFILE = ROOT / "Containerfile"
UNIT = ROOT / "deploy" / "entrepot.service"


def instructions() -> list[tuple[str, str]]:
    """The Containerfile as (instruction, arguments), continued lines joined."""
    text = re.sub(r"^#.*\n", "", CONTAINERFILE.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    pairs = (line.split(maxsplit=1) for line in text.splitlines() if line.strip())
    return [(word, rest) for word, rest in pairs]


def arguments(instruction: str) -> list[str]:
    return [rest for word, rest in instructions() if word == instruction]


def directives() -> list[tuple[str, str]]:
    """The unit as (key, value); a key may come again."""
    lines = UNIT.read_text().splitlines()
    return [(key, value) for key, equals, value in (line.partition("=") for line in lines if line[:1] != "#") if equals]


def directive(key: str) -> str:
    [value] = [value for name, value in directives() if name == key]
    return value


def options(command: str) -> dict[str, TyperOption]:
    """The options of a command of ours, by how they are spelled."""
    root = get_command(app)
    assert isinstance(root, TyperGroup)
    found = (option for option in root.commands[command].params if isinstance(option, TyperOption))
    return {spelling: option for option in found for spelling in option.opts}


def given(words: list[str]) -> dict[str, str]:
    """The flags of a `serve` command line with their values. Fails for a flag that `serve` does not have."""
    command, *rest = words
    assert command == "serve"
    known, flags = options("serve"), {}
    while rest:
        flag = rest.pop(0)
        assert flag in known, f"serve has no {flag}"
        flags[flag] = "" if known[flag].is_flag else rest.pop(0)
    return flags


def served_by_the_container() -> dict[str, str]:
    [entrypoint], [command] = arguments("ENTRYPOINT"), arguments("CMD")
    assert json.loads(entrypoint) == ["entrepot"]
    return given(json.loads(command))


def served_by_the_unit() -> dict[str, str]:
    return given(shlex.split(directive("ExecStart"))[1:])


# The container.


def test_the_container_serves_with_flags_that_there_are_from_its_volume() -> None:
    [volume] = arguments("VOLUME")
    assert served_by_the_container() == {"--host": "0.0.0.0", "--data": volume}


def test_the_container_copies_what_is_in_the_repository() -> None:
    copied = [rest.split()[:-1] for rest in arguments("COPY") if not rest.startswith("--from=")]
    missing = [source for sources in copied for source in sources if not (ROOT / source).exists()]
    assert copied
    assert not missing


def test_the_container_copies_all_that_a_build_of_the_package_reads() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    copied = {source for rest in arguments("COPY") for source in rest.split()[:-1]}
    assert {"pyproject.toml", project["readme"], *project["license-files"], "src"} <= copied


def test_the_container_installs_by_the_hashes_of_the_lock() -> None:
    installs = [rest for rest in arguments("RUN") if "pip install" in rest]
    assert len(installs) == 2
    assert "--require-hashes -r run.lock" in installs[0]
    assert "--no-deps --no-build-isolation ." in installs[1]


def test_the_container_runs_the_python_that_the_lock_was_resolved_for() -> None:
    [version] = set(re.findall(r"run\.in .*?--python-version ([0-9.]+)|--python-version ([0-9.]+)", makefile_lock()))
    assert {base.split()[0] for base in arguments("FROM")} == {f"python:{''.join(version)}-slim"}


def makefile_lock() -> str:
    [line] = [line for line in (ROOT / "Makefile").read_text().splitlines() if line.endswith("-o run.lock")]
    return line


def test_the_container_listens_at_the_default_port_and_not_as_root() -> None:
    assert arguments("EXPOSE") == [str(Server().port)]
    [user] = arguments("USER")
    assert int(user.split(":")[0]) > 0
    assert "--port" not in served_by_the_container()


def test_the_container_sets_variables_that_the_commands_read() -> None:
    names = {name for rest in arguments("ENV") for name in re.findall(r"\b(ENTREPOT_\w+)=", rest)}
    assert names <= {option.envvar for option in options("serve").values()}
    assert names


def test_the_container_is_checked_with_python_and_is_healthy_only_while_it_answers() -> None:
    [check] = arguments("HEALTHCHECK")
    program, flag, code = json.loads(check.partition("CMD ")[2])
    assert (program, flag) == ("python", "-c")
    ast.parse(code)
    assert "'/health'" in code
    nobody = {"ENTREPOT_PORT": "1"}  # no server listens at this one
    assert subprocess.run([sys.executable, "-c", code], env=nobody, capture_output=True, check=False).returncode == 1


# The unit.


def test_the_unit_serves_with_flags_that_there_are_from_its_state_directory() -> None:
    flags = served_by_the_unit()
    assert flags["--data"] == f"/var/lib/{directive('StateDirectory')}"
    assert set(flags) == {"--data", "--grace"}


def test_the_unit_runs_the_console_script_where_the_guide_installs_it() -> None:
    program = Path(shlex.split(directive("ExecStart"))[0])
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert program.name in scripts
    assert f"{program.parent}/pip install" in (ROOT / "docs" / "operations.md").read_text()


def test_the_unit_reads_the_file_that_the_guide_names() -> None:
    assert directive("WorkingDirectory") == f"/etc/{directive('ConfigurationDirectory')}"
    assert f"{directive('WorkingDirectory')}/entrepot.toml" in (ROOT / "docs" / "operations.md").read_text()


def test_the_unit_lets_running_requests_finish() -> None:
    grace = units.seconds(served_by_the_unit()["--grace"])
    assert units.seconds(directive("TimeoutStopSec")) > grace
    assert directive("KillMode") == "mixed"


@pytest.mark.parametrize(
    ("key", "value"),
    [("NoNewPrivileges", "yes"), ("ProtectSystem", "strict"), ("User", "entrepot"), ("Restart", "on-failure")],
)
def test_the_unit_is_hardened(key: str, value: str) -> None:
    assert directive(key) == value


def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    program = shlex.split(directive("ExecStart"))[0]
    copy = tmp_path / UNIT.name
    copy.write_text(UNIT.read_text().replace(program, "/bin/true"))  # it looks whether the program is there
    verified = subprocess.run(["systemd-analyze", "verify", copy], capture_output=True, text=True, check=False)
    said = [line for line in verified.stderr.splitlines() if UNIT.name in line]  # it may speak of other units too
    assert (verified.returncode, said) == (0, [])
