"""Several processes change one project at once, as workers and commands do: nothing is lost."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from entrepot.index import Sink
from entrepot.sources.hosted import Hosted
from entrepot.stores.disk import Disk
from tests.sources.samples import DEMO, NOON, add, bytes_of, faults

HERE = Path(__file__).resolve().parents[2]
ENTREPOT = Path(sys.executable).parent / "entrepot"


@contextmanager
def adding(disk: Disk, first: int, count: int, by: str) -> Iterator[subprocess.Popen[str]]:
    """A process that will add these files to project demo as soon as it is told to."""
    command: list[str | Path] = [sys.executable, "-m", "tests.sources.adding", disk.root, str(first), str(count), by]
    with subprocess.Popen(command, cwd=HERE, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
        assert process.wait(timeout=60) == 0


def start(processes: Sequence[subprocess.Popen[str]]) -> None:
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()


@pytest.fixture
def sink(disk: Disk) -> Sink:
    return Hosted("main", disk)


async def test_of_files_added_by_three_processes_and_this_one_none_is_lost(disk: Disk, sink: Sink) -> None:
    with ExitStack() as stack:
        start([stack.enter_context(adding(disk, first, 10, f"worker {first}")) for first in (0, 10, 20)])
        for number in range(30, 40):
            assert await add(sink, f"demo-{number}.tar.gz", by="here")
    files = await sink.files(DEMO)
    assert [file.filename for file in files] == [f"demo-{number}.tar.gz" for number in range(40)]
    assert [file.by for file in files[::10]] == ["worker 0", "worker 10", "worker 20", "here"]
    hosted = Hosted("main", disk)
    for file in files:
        assert await bytes_of(hosted, file.filename) == file.filename.encode()
    assert await faults(disk) == []


async def test_two_workers_and_the_command_line_at_once_lose_nothing(tmp_path: Path) -> None:
    disk = Disk.open(tmp_path / "data" / "store", create=True)
    private = Hosted("main", disk)
    for number in range(6):
        await add(private, f"demo-{number}.tar.gz")
    await private.remove(DEMO, frozenset({"demo-5.tar.gz"}), by="before", now=NOON)
    config = tmp_path / "entrepot.toml"
    config.write_text('data = "data"\ndefault = "main"\n[index.main]\ntype = "hosted"\n')
    commands = (
        ("yank", "demo==0", "--reason", "old"),
        ("delete", "demo==1", "--yes"),
        ("status", "demo", "deprecated"),
        ("restore", "demo==5"),
    )
    with ExitStack() as stack:
        start([stack.enter_context(adding(disk, first, 15, f"worker {first}")) for first in (10, 30)])
        running = [await asyncio.create_subprocess_exec(ENTREPOT, *words, "--config", config) for words in commands]
        assert [await process.wait() for process in running] == [0, 0, 0, 0]
    page = await private.project(DEMO)
    assert {int(file.version) for file in page.files} == {0, 2, 3, 4, 5, *range(10, 25), *range(30, 45)}
    assert [file.version for file in page.files if file.yanked == "old"] == ["0"]
    assert [removed.file.version for removed in await private.removed(DEMO)] == ["1"]
    assert page.status.status == "deprecated"
    assert await faults(disk) == []
