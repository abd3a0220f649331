"""An upload that is killed between any two steps, and the order of its steps."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from entrepot.errors import Conflict, NotFound
from entrepot.sources.hosted import Hosted
from entrepot.stores.disk import Disk
from tests.sources.crashes import NEW, OLD, SCENARIOS
from tests.sources.samples import add, addition, bytes_of, faults, grave, shown
from tests.stores.test_crash import recorded

HERE = Path(__file__).resolve().parents[2]

# Which files the page may show afterwards, and which it shows if the change was acknowledged.
OUTCOMES: dict[str, tuple[list[list[str]], list[str]]] = {
    "the first upload": ([[], [NEW]], [NEW]),
    "a further upload": ([[OLD], [OLD, NEW]], [OLD, NEW]),
    "an upload of bytes that a cut upload left": ([[OLD], [OLD, NEW]], [OLD, NEW]),
    "a removal": ([[OLD, NEW], [OLD]], [OLD]),
    "a restoration": ([[OLD], [OLD, NEW]], [OLD, NEW]),
}


async def page(hosted: Hosted) -> list[str]:
    try:
        return await shown(hosted)
    except NotFound:
        return []


async def judge(root: Path, scenario: str, *, acknowledged: bool) -> list[str]:
    """What the page shows after the kill; everything that must hold is checked on the way."""
    possible, promised = OUTCOMES[scenario]
    disk = Disk.open(root, create=False)
    hosted = Hosted("main", disk)
    assert await grave(disk) == []
    found = await page(hosted)
    assert found in possible
    assert found == promised or not acknowledged
    for filename in found:
        assert await bytes_of(hosted, filename) == filename.encode()
    if scenario in {"a removal", "a restoration"}:
        with pytest.raises(Conflict):
            await add(hosted, NEW, data=b"other")
    else:
        assert await add(hosted, NEW) is (NEW not in found)
        assert await shown(hosted) == promised
        assert await bytes_of(hosted, NEW) == NEW.encode()
    assert await grave(disk) == []
    return found


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_kill_at_any_step_loses_nothing_acknowledged_and_leaves_a_sound_store(
    scenario: str, tmp_path: Path, unsynced: None
) -> None:
    command = [sys.executable, "-m", "tests.sources.crashes", scenario, str(tmp_path)]
    subprocess.run(command, cwd=HERE, check=True)
    steps = sorted(int(path.name) for path in tmp_path.iterdir() if path.is_dir())
    assert len(steps) > 3
    seen = []
    for step in steps:
        acknowledged = (tmp_path / f"{step}.acknowledged").read_bytes() == b"yes"
        seen.append(asyncio.run(judge(tmp_path / f"{step}", scenario, acknowledged=acknowledged)))
    possible, promised = OUTCOMES[scenario]
    assert acknowledged, "the last one came to its end"
    assert seen[-1] == promised
    assert {tuple(found) for found in seen} == {tuple(found) for found in possible}


async def test_an_upload_is_durable_before_it_is_acknowledged(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    """fsync blob < link < fsync folder < fsync record < rename < fsync folder < answer."""
    hosted = Hosted("main", disk)
    await add(hosted, OLD)
    made = addition(disk.traits.staging, NEW)
    blob = f"main/blobs/{made.staged.sha256[:2]}/{made.staged.sha256}"
    with recorded(monkeypatch, disk.root) as calls:
        assert await hosted.add(made)
        calls.append("answer")
    record = "main/projects/demo.json"
    [named] = [place for place, call in enumerate(calls) if call.endswith(f" {blob}/{NEW}")]
    [metadata] = [place for place, call in enumerate(calls) if call.endswith(f" {blob}/{NEW}.metadata")]
    [swapped] = [place for place, call in enumerate(calls) if call.endswith(f" {record}")]
    folder = calls.index(f"fsync {blob}")
    projects = calls.index("fsync main/projects")
    assert "fsync staging/*" in calls[:named], "the bytes before their name"
    assert max(named, metadata) < folder, "the names before the folder is synced"
    assert folder < swapped, "the blob before the record"
    assert "fsync staging/*" in calls[folder:swapped], "the record's bytes before its name"
    assert calls[swapped] == f"rename staging/* {record}"
    assert swapped < projects < calls.index("answer"), "the record before the answer"


async def test_the_first_name_is_durable_before_the_record_that_it_announces(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So no project is ever missing from the list."""
    hosted = Hosted("main", disk)
    await add(hosted, "other-1.tar.gz")
    with recorded(monkeypatch, disk.root) as calls:
        await add(hosted, NEW)
    [listed] = [place for place, call in enumerate(calls) if call.endswith(" main/names.json")]
    [recorded_] = [place for place, call in enumerate(calls) if call.endswith(" main/projects/demo.json")]
    synced = [place for place, call in enumerate(calls) if call == "fsync main"]
    assert any(listed < place < recorded_ for place in synced)


async def test_new_folders_are_durable_before_anything_lies_in_them(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    hosted = Hosted("main", disk)
    with recorded(monkeypatch, disk.root) as calls:
        await add(hosted, NEW)
    # Two threads may both try to make the first one.
    made = {call.removeprefix("mkdir ") for call in calls if call.startswith("mkdir ")}
    assert len(made) == 5  # the index, projects, blobs and two more
    for folder in made:
        above = os.path.dirname(folder) or str(disk.root)
        inside = [place for place, call in enumerate(calls) if f" {folder}/" in call]
        assert calls.index(f"fsync {above}", calls.index(f"mkdir {folder}")) < min(inside)
    assert await faults(disk) == []
