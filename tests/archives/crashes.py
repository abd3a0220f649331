"""Kill a push before every single change it makes: `python -m tests.archives.crashes LAYOUT SCENARIO FOLDER`.

As tests/sources/crashes.py does it with uploads: for n = 1, 2, … a store is copied to FOLDER/n, and a child process
changes it that kills itself at its n-th change of the file system; until a child reaches its end.
"""

import asyncio
import os
import shutil
import sys
from collections.abc import Awaitable, Callable
from itertools import count
from pathlib import Path

from entrepot.archives import LATEST, Archives, HostedArchives, TychoArchives
from entrepot.stores.disk import Disk
from tests.archives.making import NOON, push
from tests.stores.crashes import die_at

Change = Callable[[Archives], Awaitable[object]]


async def nothing(_: Archives) -> None:
    pass


async def first(archives: Archives) -> None:
    await push(archives, "1.0", channel=LATEST)


async def second(archives: Archives) -> None:
    await push(archives, "2.0", channel=LATEST)


async def both(archives: Archives) -> None:
    await first(archives)
    await second(archives)


async def remove_first(archives: Archives) -> None:
    await archives.remove("model", "1.0", by="x", now=NOON)


async def promote_first(archives: Archives) -> None:
    await archives.promote("model", LATEST, "1.0")


# What is there before, and what is cut.
SCENARIOS: dict[str, tuple[Change, Change]] = {
    "the first push": (nothing, first),
    "a further push": (first, second),
    "a removal": (both, remove_first),
    "a promotion": (both, promote_first),
}


def opened(layout: str, root: Path) -> Archives:
    disk = Disk.open(root, create=False)
    return TychoArchives(disk) if layout == "tycho" else HostedArchives(disk, "private")


def main(layout: str, scenario: str, folder: Path) -> None:
    before, change = SCENARIOS[scenario]
    template = folder / "template"
    Disk.open(template, create=True)
    asyncio.run(wait(before(opened(layout, template))))
    for step in count(1):
        root = folder / f"{step}"
        shutil.copytree(template, root)
        child = os.fork()
        if child == 0:
            die_at(step)
            asyncio.run(wait(change(opened(layout, root))))
            os._exit(0)
        if os.waitpid(child, 0)[1] == 0:
            break
    shutil.rmtree(template)


async def wait(change: Awaitable[object]) -> None:
    await change


if __name__ == "__main__":

    def no_fsync(fd: object) -> None:
        """A kill loses nothing that was written, only a machine that stops does."""

    os.fsync = no_fsync
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
