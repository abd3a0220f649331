"""`check` and `gc` on the command line."""

import asyncio
from pathlib import Path

import pytest

from entrepot.index import ANY
from entrepot.sources.hosted import Hosted, blob_key
from entrepot.sources.upkeep import collect
from entrepot.stores.disk import Disk
from tests.cli.conftest import Run
from tests.sources.samples import DEMO, NOON, addition

WHEEL = "demo-1.0-py3-none-any.whl"


@pytest.fixture
def disk(data: Path, stocked: Hosted) -> Disk:
    return Disk.open(data / "store", create=False)


def blob(data: Path, filename: str = WHEEL) -> Path:
    [path] = (data / "store").glob(f"private/blobs/*/*/{filename}")
    return path


def test_a_sound_store_is_called_sound(command: Run, stocked: Hosted) -> None:
    assert command("check").ok() == "sound\n"
    assert command("check", "--json").json() == {"sound": True, "faults": []}


def test_each_fault_is_a_line_and_the_exit_code_is_one(command: Run, data: Path, stocked: Hosted) -> None:
    blob(data).write_bytes(b"x")
    blob(data, "demo-2.0.tar.gz").unlink()
    (data / "store/access").mkdir()
    (data / "store/access/tokens.json").write_bytes(b"{}x")
    checked = command("check")
    assert checked.code == 1
    lines = checked.out.splitlines()
    assert [line.partition("private/")[0] for line in lines[1:]] == ["fault: data: "] * 2
    assert lines[0].startswith("fault: data: access/tokens.json: cannot be read: ")
    assert sum(": has 1 bytes, its record says 25" in line for line in lines) == 1
    assert sum(": is missing, but its record lists it" in line for line in lines) == 1
    in_json = command("check", "--json")
    assert in_json.code == 1
    assert '"sound": false' in in_json.out
    assert in_json.out.count('"grave": true') == 3


def test_bytes_that_nothing_names_are_a_note_and_no_fault(command: Run, disk: Disk) -> None:
    made = addition(disk.traits.staging, "late-1.0.tar.gz")
    key = blob_key("private", made.staged.sha256, "late-1.0.tar.gz")
    asyncio.run(disk.write(key, made.staged, expect=ANY))
    assert command("check").ok() == f"note: data: {key}: no record names it; `entrepot gc` removes it in time\nsound\n"
    assert [fault["grave"] for fault in command("check", "--json").json()["faults"]] == [False]


def test_all_stores_are_checked_and_collected(command: Run, tmp_path: Path, data: Path, stocked: Hosted) -> None:
    other = Disk.open(tmp_path / "other", create=True)
    asyncio.run(other.write("former/blobs/00/00/x", b"x", expect=ANY))
    config = tmp_path / "two.toml"
    config.write_text(
        'data = "data"\n[access]\nstore = "data"\n[store.other]\nurl = "other"\n[index.root]\ntype = "hosted"\n'
    )
    checked = command("check", "--config", config)
    assert checked.code == 1
    assert checked.out.startswith("fault: other: former/blobs/00/00/x: no record names it, and its bytes have")
    assert len(command("gc", "--config", config, "--json").json()) == 2


def test_gc_tells_what_it_did_and_what_it_would_do(command: Run, data: Path, disk: Disk) -> None:
    made = addition(disk.traits.staging, "late-1.0.tar.gz")
    key = blob_key("private", made.staged.sha256, "late-1.0.tar.gz")
    asyncio.run(disk.write(key, made.staged, expect=ANY))
    would = "data: 0 objects (0 B) would be deleted, 1 (15 B) would be marked for a later run\n"
    assert command("gc", "--dry-run").ok() == would
    assert not (data / "store/gc").exists()
    assert command("gc").ok() == "data: 0 objects (0 B) deleted, 1 (15 B) marked for a later run\n"
    (data / "store/gc/marks.json").unlink()
    asyncio.run(collect(disk, now=NOON.replace(year=2020)))  # marked long ago
    done = command("gc", "--yes").ok().splitlines()
    assert done == [
        f"deleted: data: {key}",
        "data: 1 object (15 B) deleted, 0 (0 B) marked for a later run",
    ]
    told = command("gc", "--json").json()["data"]
    assert told == {"deleted": [], "deleted_size": 0, "marked": [], "marked_size": 0}


def test_gc_refuses_where_it_cannot_know(command: Run, data: Path, stocked: Hosted) -> None:
    (data / f"store/private/projects/{DEMO}.json").write_bytes(b"")
    message = command("gc").failed()
    assert message.startswith("private/projects/demo.json: the record cannot be read: ")
    assert message.endswith("so nothing is collected (`entrepot check` tells all that is wrong)")


def test_a_store_of_a_later_program_is_left_alone(command: Run, data: Path, stocked: Hosted) -> None:
    identity = data / "store/entrepot.json"
    identity.write_text(identity.read_text().replace('"schema": 1', '"schema": 2'))
    for words in (("check",), ("gc",), ("list",), ("yank", "demo")):
        assert (
            "the store has schema 2, and this entrepot knows schemas up to 1 (run a newer" in command(*words).failed()
        )
