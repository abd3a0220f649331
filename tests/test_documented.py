"""Every setting is documented at its place, with the default that it has, and no other is.

That docs/cli.md has every option is tested in test_docs.py: the page is made from the commands.
"""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import FieldInfo

from entrepot.config import Access, Archives, Config, Folder, Hosted, Rule, Server, StoreSettings, Virtual

DOCS = Path(__file__).parents[1] / "docs"
# The heading under which each record is described.
RECORDS: dict[str, type[msgspec.Struct]] = {
    "## At the top": Config,
    "## [server]": Server,
    "## [access]": Access,
    "## [archives]": Archives,
    "## [store.NAME]": StoreSettings,
    '### type = "hosted"': Hosted,
    '### type = "folder"': Folder,
    '### type = "virtual"': Virtual,
    "## Rules": Rule,
}
# Those of the top whose value is a table, with a heading of its own.
TABLES = {"server", "access", "archives", "store", "index"}


def page(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def section(text: str, heading: str) -> str:
    """What stands between this heading and the next one of any level."""
    found = re.search(rf"^{re.escape(heading)}$\n(.*?)(?=^#|\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, f"there is no heading {heading!r}"
    return found[1]


def fields() -> Iterator[tuple[str, FieldInfo]]:
    for heading, record in RECORDS.items():
        for field in msgspec.structs.fields(record):
            if not (record is Config and field.encode_name in TABLES):
                yield heading, field


FIELDS = [pytest.param(heading, field, id=f"{heading} {field.encode_name}") for heading, field in fields()]


@pytest.mark.parametrize(("heading", "field"), FIELDS)
def test_every_setting_stands_in_the_table_of_its_place(heading: str, field: FieldInfo) -> None:
    rows = [line for line in section(page("configuration.md"), heading).splitlines() if line.startswith("| `")]
    assert [row for row in rows if row.startswith(f"| `{field.encode_name}` |")]


@pytest.mark.parametrize(("heading", "field"), FIELDS)
def test_every_default_that_is_a_plain_value_is_the_one_that_is_told(heading: str, field: FieldInfo) -> None:
    if field.required or field.default in (None, "", msgspec.NODEFAULT):
        return  # told in words, if at all
    rows = section(page("configuration.md"), heading).splitlines()
    [row] = [row for row in rows if row.startswith(f"| `{field.encode_name}` |")]
    default = list(field.default) if isinstance(field.default, tuple) else field.default
    assert tomllib.loads(f"default = {row.split('|')[2].strip(' `')}") == {"default": default}


def test_no_setting_is_described_that_there_is_not() -> None:
    for heading, record in RECORDS.items():
        known = {field.encode_name for field in msgspec.structs.fields(record)}
        described = re.findall(r"^\| `([a-z-]+)` \|", section(page("configuration.md"), heading), re.MULTILINE)
        assert set(described) <= known


def test_every_table_of_the_top_has_a_heading() -> None:
    headings = re.findall(r"^## \[(\w+)(?:\.NAME)?\]$", page("configuration.md"), re.MULTILINE)
    assert set(headings) == TABLES
