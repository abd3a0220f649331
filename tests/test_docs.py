"""The docs tell all that there is, and nothing that there is not."""

import re
import shlex
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import get_args

import msgspec
import pytest
from msgspec import Struct
from packaging.requirements import Requirement
from starlette.routing import Route
from typer.core import TyperGroup, TyperOption
from typer.main import get_command

from entrepot.access import Token, Tokens
from entrepot.archives import record, tycho
from entrepot.archives.claims import Claim
from entrepot.cli.main import app
from entrepot.config import RESERVED, Access, Archives, Config, IndexSettings, Server, StoreSettings
from entrepot.index import Catalog
from entrepot.model import File, Removed, Status
from entrepot.sources.record import Record
from entrepot.stores.collecting import Mark
from entrepot.stores.identity import FOLDERS, Identity
from entrepot.stores.memory import Memory
from entrepot.web import Site
from entrepot.web.app import behind
from entrepot.web.cache import ReadyCache
from entrepot.web.problems import STATUS
from tools import write_cli_reference

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = (ROOT / "README.md", *sorted(DOCS.rglob("*.md")))


def read(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def keys(record: type[Struct]) -> list[str]:
    return [field.encode_name for field in msgspec.structs.fields(record)]


def shell_lines() -> list[tuple[str, str]]:
    """Every line of a shell example, with the page that it stands on."""
    blocks = [
        (page.name, block) for page in PAGES for block in re.findall(r"```sh\n(.*?)```", page.read_text(), re.DOTALL)
    ]
    return [(page, line) for page, block in blocks for line in block.splitlines()]


def commands() -> list[tuple[str, list[str]]]:
    """Every call of our own command in an example, without the name of the program."""
    found = []
    for page, line in shell_lines():
        words = shlex.split(line, comments=True)
        if words[:1] == ["sudo"]:
            words = words[3:]  # sudo -u USER
        if words and Path(words[0]).name == "entrepot":
            found.append((page, words[1:]))
    return found


# The command reference.


def test_the_command_reference_is_that_of_the_commands() -> None:
    assert read("cli.md") == write_cli_reference.render(), "run `make docs`"


def test_the_examples_are_many() -> None:
    assert len(commands()) > 15


@pytest.mark.parametrize(("page", "words"), commands(), ids=lambda value: value if isinstance(value, str) else value[0])
def test_an_example_calls_a_command_with_options_that_it_has(page: str, words: list[str]) -> None:
    command = get_command(app)
    while isinstance(command, TyperGroup):
        command = command.commands[words.pop(0)]
    known = {spelling for option in command.params if isinstance(option, TyperOption) for spelling in option.opts}
    unknown = [word for word in words if word.startswith("-") and word not in known]
    assert not unknown, f"{page}: {command.name} has no {unknown}"


# Configuration.


@pytest.mark.parametrize("record", [Config, Server, Access, Archives, StoreSettings, *get_args(IndexSettings)])
def test_every_key_of_the_configuration_is_described(record: type[Struct]) -> None:
    text = read("configuration.md")
    inner = {"server", "access", "archives", "store", "index"} if record is Config else set()
    assert [key for key in keys(record) if key not in inner and f"| `{key}` |" not in text] == []


def test_defaults_are_those_of_the_code() -> None:
    server = re.search(r"## \[server\]\n(.*?)\n## ", read("configuration.md"), re.DOTALL)
    assert server is not None
    told = dict(re.findall(r"^\| `([a-z-]+)` \| (?:`(.*?)`)? *\|", server[1], re.MULTILINE))
    for field in msgspec.structs.fields(Server):
        written = told[field.encode_name]
        default = list(field.default) if isinstance(field.default, tuple) else field.default
        assert (tomllib.loads(f"x = {written}")["x"] if written else None) == default, field.encode_name


def test_reserved_words_and_variables_are_named() -> None:
    text = read("configuration.md")
    assert [word for word in sorted(RESERVED) if not re.search(rf"\b{word}[,.]", text)] == []
    serve = get_command(app)
    assert isinstance(serve, TyperGroup)
    variables = {option.envvar for option in serve.commands["serve"].params if isinstance(option, TyperOption)}
    assert set(re.findall(r"ENTREPOT_[A-Z_]+", text)) == {name for name in variables if name}


# The layout.


@pytest.mark.parametrize(
    "record",
    [
        Record,
        File,
        Removed,
        Status,
        Token,
        Mark,
        Identity,
        record.Record,
        record.Kept,
        record.Gone,
        Claim,
        tycho.Ours,
        tycho.Facts,
    ],
)
def test_every_key_of_what_is_stored_is_described(record: type[Struct]) -> None:
    text = read("layout.md")
    assert [key for key in keys(record) if f"`{key}`" not in text] == []


def test_the_folders_of_a_store_are_described() -> None:
    assert [folder for folder in FOLDERS if f"`{folder}/`" not in read("layout.md")] == []


# URLs.


def test_every_url_is_described() -> None:
    site = Site(
        catalog=Catalog(default="root", indexes={}, sources={}, stores={}),
        tokens=Tokens(Memory()),
        clock=lambda: datetime.now(UTC),
    )
    paths = {route.path for route in behind(site, ReadyCache(0)).routes if isinstance(route, Route)}
    text = read("http.md")
    ours = {path.removeprefix("/{index}").replace("json/", "json").replace(":path}", "}") for path in paths}
    bare = {path for path in ours if f"{path}/" in ours}  # redirected to the same with a slash, or the same
    assert [path for path in sorted(ours - bare) if f"`{path}`" not in text] == []


def test_every_kind_of_error_is_described() -> None:
    text = read("http.md")
    assert [status for status in STATUS.values() if f"| {status} |" not in text] == []


# Dependencies.


def described() -> list[str]:
    rows = re.findall(r"^\| ([a-z][a-z0-9.-]+) \| \w", read("dependencies.md"), re.MULTILINE)
    return [name for name in rows if name != "package"]  # the head of the table


def test_every_dependency_has_its_line_and_every_line_its_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = [line.partition("#")[0].strip() for line in (ROOT / "requirements" / "dev.in").read_text().splitlines()]
    needed = [Requirement(text).name for text in [*project["dependencies"], *filter(None, lines)]]
    assert sorted(described()) == sorted(needed)
