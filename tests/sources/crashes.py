"""Kill an upload before every single change it makes: `python -m tests.sources.crashes SCENARIO FOLDER`.

For n = 1, 2, … a store is copied to FOLDER/n, and a child process changes it that kills itself at its n-th change
of the file system; until a child reaches its end. What was acknowledged before it died is told by a file. Run by
test_crash.py.
"""

import asyncio
import os
import shutil
import sys
from collections.abc import Awaitable, Callable
from itertools import count
from pathlib import Path

from entrepot.index import ANY
from entrepot.sources.hosted import Hosted, record_key
from entrepot.stores.disk import Disk
from tests.sources.samples import DEMO, NOON, add
from tests.stores.crashes import die_at

OLD, NEW = "demo-1.0-py3-none-any.whl", "demo-2.0-py3-none-any.whl"

Change = Callable[[Hosted], Awaitable[object]]


async def nothing(_: Hosted) -> None:
    pass


async def add_old(hosted: Hosted) -> None:
    await add(hosted, OLD)


async def add_new(hosted: Hosted) -> None:
    await add(hosted, NEW)


async def add_new_and_lose_its_record(hosted: Hosted) -> None:
    await add(hosted, NEW)
    await Disk.open(hosted.staging.parent, create=False).delete(record_key("main", DEMO), expect=ANY)
    await add(hosted, OLD)


async def add_and_remove_new(hosted: Hosted) -> None:
    await add_old(hosted)
    await add_new(hosted)
    await remove_new(hosted)


async def remove_new(hosted: Hosted) -> None:
    await hosted.remove(DEMO, frozenset({NEW}), by="x", now=NOON)


async def add_both(hosted: Hosted) -> None:
    await add_old(hosted)
    await add_new(hosted)


async def restore_new(hosted: Hosted) -> None:
    await hosted.restore(DEMO, frozenset({NEW}))


# What is there before, and what is cut.
SCENARIOS: dict[str, tuple[Change, Change]] = {
    "the first upload": (nothing, add_new),
    "a further upload": (add_old, add_new),
    "an upload of bytes that a cut upload left": (add_new_and_lose_its_record, add_new),
    "a removal": (add_both, remove_new),
    "a restoration": (add_and_remove_new, restore_new),
}


def hosted(root: Path) -> Hosted:
    return Hosted("main", Disk.open(root, create=False))


def main(scenario: str, folder: Path) -> None:
    before, change = SCENARIOS[scenario]
    template = folder / "template"
    Disk.open(template, create=True)
    asyncio.run(wait(before(hosted(template))))
    for step in count(1):
        root = folder / f"{step}"
        shutil.copytree(template, root)
        acknowledge = os.open(folder / f"{step}.acknowledged", os.O_WRONLY | os.O_CREAT)
        child = os.fork()
        if child == 0:
            write = os.write
            die_at(step)
            asyncio.run(wait(change(hosted(root))))
            write(acknowledge, b"yes")
            os._exit(0)
        os.close(acknowledge)
        if os.waitpid(child, 0)[1] == 0:
            break
    shutil.rmtree(template)


async def wait(change: Awaitable[object]) -> None:
    await change


if __name__ == "__main__":

    def no_fsync(fd: object) -> None:
        """A kill loses nothing that was written, only a machine that stops does."""

    os.fsync = no_fsync
    main(sys.argv[1], Path(sys.argv[2]))
