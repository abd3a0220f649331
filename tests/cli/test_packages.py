"""`list`, `show`, `yank`, `unyank`, `delete`, `restore`, `status`: what an index holds, and changing it."""

import asyncio
import json
import os
import subprocess
from pathlib import Path

import pytest

from entrepot.sources.hosted import Hosted
from tests.cli.conftest import ENTREPOT, Run
from tests.distributions import build
from tests.sources.samples import DEMO, bytes_of, shown

WHEEL, SDIST, LATER = "demo-1.0-py3-none-any.whl", "demo-1.0.tar.gz", "demo-2.0.tar.gz"


# list, show


def test_list_shows_the_names(command: Run, stocked: Hosted) -> None:
    assert command("list").ok() == "demo\nother\n"
    assert command("list", "--json").json() == ["demo", "other"]
    assert command("list", "--index", "private").ok() == "demo\nother\n"


def test_list_of_nothing_shows_nothing(command: Run, data: Path) -> None:
    nothing = command("list")
    assert nothing.ok() == ""
    assert command("list", "--json").json() == []
    assert not data.exists()


def test_show_tells_all_of_a_project(command: Run, stocked: Hosted) -> None:
    command("yank", SDIST, "--reason", "loses data").ok()
    command("delete", LATER, "--yes").ok()
    command("status", "demo", "deprecated", "--reason", "use other").ok()
    lines = command("show", "demo").ok().splitlines()
    assert lines[:3] == [
        "demo: deprecated (use other), 2 files in root",
        f"  {WHEEL}  25 B  2026-11-20 12:00  by alice",
        f"  {SDIST}  15 B  2026-11-20 12:00  by alice  YANKED loses data",
    ]
    assert lines[3].startswith("  deleted 20")
    assert lines[3].endswith(f": {LATER}")
    assert " by cli:" in lines[3]
    assert len(lines) == 4


def test_show_of_one_file_says_one_file(command: Run, stocked: Hosted) -> None:
    assert command("show", "other").ok().startswith("other: active, 1 file in root\n")


def test_show_in_json_has_the_page_and_the_tombstones(command: Run, stocked: Hosted) -> None:
    command("delete", LATER, "--yes").ok()
    told = command("show", "demo", "--json").json()
    assert told["project"]["name"] == "demo"
    assert [file["filename"] for file in told["project"]["files"]] == [WHEEL, SDIST]
    assert [gone["file"]["filename"] for gone in told["removed"]] == [LATER]


@pytest.mark.parametrize("name", ["demo", "DEMO", "De.Mo".replace(".", ""), "demo==1.0", SDIST])
def test_a_project_may_be_named_in_any_way(command: Run, stocked: Hosted, name: str) -> None:
    assert command("show", name).ok().startswith("demo: ")


def test_show_of_a_folder_index_tells_what_is_withheld(command: Run, tmp_path: Path) -> None:
    dist = tmp_path / "dist"
    dist.mkdir()
    build.make_wheel(dist)
    (dist / SDIST).write_bytes(b"no archive")
    (tmp_path / "entrepot.toml").write_text('data = "data"\n[index.root]\ntype = "folder"\npath = "dist"\n')
    assert command("list", "--config", "entrepot.toml").ok() == "demo\n"
    first, kept, withheld = command("show", "demo", "--config", "entrepot.toml").ok().splitlines()
    assert first == "demo: active, 1 file in root"
    assert kept.startswith(f"  {WHEEL}  ")
    assert withheld.startswith(f"  withheld: {SDIST}: ")
    assert not (tmp_path / "data").exists()


# yank, unyank


@pytest.mark.parametrize(
    ("what", "meant"),
    [
        ("demo", [WHEEL, SDIST, LATER]),
        ("demo==1.0", [WHEEL, SDIST]),
        ("Demo == 1", [WHEEL, SDIST]),
        ("demo==1.0.0", [WHEEL, SDIST]),
        (WHEEL, [WHEEL]),
        (LATER, [LATER]),
    ],
)
def test_a_selection_means_a_project_a_version_or_a_file(
    command: Run, stocked: Hosted, what: str, meant: list[str]
) -> None:
    assert command("yank", what).ok() == "".join(f"yanked: {name}\n" for name in meant)
    assert command("yank", what).ok() == "nothing to change\n"
    assert command("unyank", what, "--json").json() == meant


def test_a_yank_has_a_reason_that_can_be_changed(command: Run, stocked: Hosted) -> None:
    command("yank", SDIST, "--reason", "one").ok()
    assert command("yank", SDIST, "--reason", "two").ok() == f"yanked: {SDIST}\n"
    [file] = [file for file in command("show", "demo", "--json").json()["project"]["files"] if "yanked" in file]
    assert file["yanked"] == "two"
    assert command("unyank", SDIST).ok() == f"no longer yanked: {SDIST}\n"


# delete, restore


def test_what_was_deleted_can_be_restored(command: Run, stocked: Hosted) -> None:
    assert command("delete", "demo==1.0", "--yes").ok() == f"deleted: {WHEEL}\ndeleted: {SDIST}\n"
    assert asyncio.run(shown(stocked)) == [LATER]
    assert command("restore", WHEEL).ok() == f"restored: {WHEEL}\n"
    assert command("restore", "demo", "--json").json() == [SDIST]
    assert asyncio.run(shown(stocked)) == [WHEEL, SDIST, LATER]
    assert asyncio.run(bytes_of(stocked, WHEEL)) == WHEEL.encode()


def test_files_of_a_quarantined_project_can_be_yanked_and_deleted(command: Run, stocked: Hosted) -> None:
    command("status", "demo", "quarantined").ok()
    assert command("yank", WHEEL).ok() == f"yanked: {WHEEL}\n"
    assert command("delete", "demo", "--yes").ok().count("deleted: ") == 3


@pytest.mark.parametrize("words", [("delete", "demo"), ("token", "revoke", "ci")])
def test_what_destroys_asks_and_where_nobody_can_answer_says_how_to_go_on(
    command: Run, stocked: Hosted, words: tuple[str, ...]
) -> None:
    command("token", "create", "ci", "--can", "read").ok()
    asked = command(*words)
    question = {"delete": "Delete 3 files of demo?", "token": "Revoke ci?"}[words[0]]
    assert asked.failed() == f"{question} Nobody is here to ask: add --yes"
    assert len(asyncio.run(shown(stocked))) == 3
    assert len(command("token", "list", "--json").json()) == 1
    command(*words, "--yes").ok()
    assert len(command("token", "list", "--json").json()) == (0 if words[0] == "token" else 1)


@pytest.mark.parametrize(("answer", "code", "left"), [("n", 1, [WHEEL, SDIST, LATER]), ("y", 0, [WHEEL, SDIST])])
def test_on_a_terminal_it_asks_and_the_answer_counts(
    stocked: Hosted, data: Path, answer: str, code: int, left: list[str]
) -> None:
    terminal, theirs = os.openpty()
    try:
        command: list[str | Path] = [ENTREPOT, "delete", LATER, "--json", "--data", data]
        with subprocess.Popen(
            command, stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as asked:
            os.write(terminal, f"{answer}\n".encode())
            out, err = asked.communicate(timeout=60)
    finally:
        os.close(terminal)
        os.close(theirs)
    assert asked.returncode == code
    assert err.startswith("Delete 1 file of demo? [y/N]:")
    assert json.loads(out.strip() or "[]") == ([LATER] if answer == "y" else [])
    assert asyncio.run(shown(stocked)) == left


# status


def test_a_status_is_shown_and_set(command: Run, stocked: Hosted) -> None:
    assert command("status", "demo").ok() == "demo: active\n"
    assert command("status", "demo", "archived", "--reason", "old").ok() == "demo: archived (old)\n"
    assert command("status", "demo", "--json").json() == {"project": "demo", "status": "archived", "reason": "old"}
    assert command("status", "demo", "active").ok() == "demo: active\n"


# What goes wrong


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("show", "nobody"), "no project nobody"),
        (("status", "nobody"), "no project nobody"),
        (("status", "nobody", "archived"), "no project nobody"),
        (("yank", "nobody"), "no project nobody"),
        (("delete", "nobody", "--yes"), "no project nobody"),
        (("yank", "demo==3"), "demo==3 is not here (`entrepot show demo` lists what is)"),
        (("yank", "demo=="), "demo== is not here (`entrepot show demo` lists what is)"),
        (("yank", "demo-3.0.tar.gz"), "demo-3.0.tar.gz is not here (`entrepot show demo` lists what is)"),
        (("restore", "demo"), "demo was not deleted (see `entrepot show demo`)"),
        (("restore", "nobody"), "nobody was not deleted (see `entrepot show nobody`)"),
        (("yank", "demo>=1"), "'demo>=1' is not NAME, NAME==VERSION or a filename"),
        (("show", ""), "'' is not NAME, NAME==VERSION or a filename"),
        (("show", "../demo"), "'../demo' is not NAME, NAME==VERSION or a filename"),
        (("show", "demo.zip"), "demo.zip: the filename has no version (name-version.tar.gz)"),
        (("list", "--index", "nix"), "--index: no index 'nix' (known: private, root)"),
        (("yank", "demo", "--index", "nix"), "--index: no index 'nix' (known: private, root)"),
    ],
)
def test_an_error_is_one_line_that_says_what_and_what_to_do(
    command: Run, stocked: Hosted, words: tuple[str, ...], message: str
) -> None:
    assert command(*words).failed() == message


def test_an_index_that_takes_no_files_cannot_be_changed(command: Run, tmp_path: Path) -> None:
    (tmp_path / "entrepot.toml").write_text('data = "data"\n[index.root]\ntype = "folder"\npath = "dist"\n')
    command("token", "create", "x", "--can", "read", "--config", "entrepot.toml").ok()
    changed = command("yank", "demo", "--config", "entrepot.toml")
    assert changed.failed() == "--index: index 'root' cannot be changed (name a hosted one)"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("status", "demo", "gone"), "'gone' is no status; use active, archived, deprecated, quarantined"),
        (("status", "demo", "--reason", "why"), "a reason belongs to a STATUS"),
        (("yank",), "Missing argument 'WHAT'"),
        (("show", "demo", "more"), "unexpected extra argument"),
        (("list", "--no-such-option"), "No such option: --no-such-option"),
        (("lst",), "No such command 'lst'"),
        (("delete", "demo", "--reason"), "No such option: --reason"),
    ],
)
def test_a_wrong_command_line_is_told_from_what_could_not_be_done(
    command: Run, stocked: Hosted, words: tuple[str, ...], message: str
) -> None:
    assert message in command(*words).misused()


@pytest.mark.parametrize(
    "words",
    [
        ("yank", "demo"),
        ("unyank", "demo"),
        ("delete", "demo", "--yes"),
        ("restore", "demo"),
        ("status", "demo", "active"),
        ("check",),
        ("gc",),
        ("token", "revoke", "ci", "--yes"),
    ],
)
def test_what_changes_or_verifies_a_store_does_not_begin_one_at_a_wrong_place(
    command: Run, data: Path, words: tuple[str, ...]
) -> None:
    """Else `check` would call a mistyped folder sound."""
    message = f"{data}: nothing is kept here (see --data; `entrepot serve` begins a new store)"
    assert command(*words).failed() == message
    assert not data.exists()


@pytest.mark.parametrize("words", [("list",), ("show", "demo"), ("status", "demo"), ("token", "list")])
def test_what_only_reads_leaves_nothing_at_a_wrong_place(command: Run, data: Path, words: tuple[str, ...]) -> None:
    command(*words)
    assert not data.exists()


def test_a_file_instead_of_a_data_folder_is_named(command: Run, data: Path) -> None:
    data.write_bytes(b"")
    assert command("list").failed() == f"{data}: is not a folder (see --data)"


def test_a_store_whose_disk_is_not_mounted_is_no_empty_store(command: Run, data: Path) -> None:
    (data / "store").mkdir(parents=True)
    for words in (("list",), ("check",)):
        assert command(*words).failed().startswith(f"{data}/store: there is no store here (is its disk mounted?")


def test_a_damaged_record_is_said_to_be_one(command: Run, data: Path, stocked: Hosted) -> None:
    (data / "store" / "private" / "projects" / f"{DEMO}.json").write_bytes(b"{")
    message = command("show", "demo", "--index", "private").failed()
    assert message.startswith("private/projects/demo.json: the record cannot be read: ")
    assert message.endswith("(bring it back from a backup)")
