"""Kill a writer before every single change it makes: `python crashes.py SCENARIO FOLDER`. Run by test_crash.py.

For n = 1, 2, … a store is prepared in FOLDER/n, and a child process works on it that kills itself at its
n-th change of the file system; until a child reaches its end. A write counts twice: before, and half done.
"""

import asyncio
import hashlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

from entrepot.index import ABSENT, ANY, Staged
from entrepot.stores.disk import Disk

OLD, NEW = b"old" * 1000, b"new" * 1000
CHANGES = (
    "open", "write", "pwrite", "fsync", "link", "rename", "replace", "utime", "unlink", "mkdir", "rmdir", "chmod",
    "fchmod", "chown", "fchown", "truncate", "ftruncate",
)  # fmt: skip

Scenario = Callable[[Disk], Coroutine[Any, Any, object]]


async def create(disk: Disk) -> None:
    Disk.open(disk.root / "deep" / "store", create=True)


async def write_first(disk: Disk) -> None:
    await disk.write("new/folder/key", NEW, expect=ABSENT)


async def overwrite(disk: Disk) -> None:
    await disk.write("old/key", NEW, expect=ANY)


async def swap(disk: Disk) -> None:
    await disk.write("old/key", NEW, expect=(await disk.stat("old/key")).etag)


async def stream(disk: Disk) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield NEW[:1500]
        yield NEW[1500:]

    await disk.write("old/key", body(), expect=ANY)


async def take_over(disk: Disk) -> None:
    await disk.write("new/folder/key", _staged(disk), expect=ABSENT)


async def take_over_existing(disk: Disk) -> None:
    await disk.write("old/key", _staged(disk), expect=ANY)


async def delete(disk: Disk) -> None:
    await disk.delete("old/key", expect=ANY)


SCENARIOS: dict[str, Scenario] = {
    function.__name__: function
    for function in (create, write_first, overwrite, swap, stream, take_over, take_over_existing, delete)
}


def _staged(disk: Disk) -> Staged:
    path = disk.root.parent / "upload"
    return Staged(path=path, size=len(NEW), sha256=hashlib.sha256(NEW).hexdigest())


def die_at(step: int) -> None:
    """Let this process kill itself at its change number `step`."""
    left = step

    def count() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def wrap(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def change(*args: Any, **kwargs: Any) -> Any:
            if name == "open" and not args[1] & os.O_CREAT:
                return real(*args, **kwargs)
            count()
            if name == "write":
                fd, data = args
                half = real(fd, data[: len(data) // 2])
                count()
                return half + real(fd, data[len(data) // 2 :])
            return real(*args, **kwargs)

        return change

    for name in CHANGES:
        setattr(os, name, wrap(name, getattr(os, name)))


def prepare(root: Path) -> Disk:
    disk = Disk.open(root, create=True)
    for key in ("old/key", "old/other", "another"):
        asyncio.run(disk.write(key, OLD, expect=ABSENT))
    (root.parent / "upload").write_bytes(NEW)
    return disk


def main(scenario: Scenario, folder: Path) -> None:
    for step in range(1, 200):
        disk = prepare(folder / f"{step}" / "store")
        child = os.fork()
        if child == 0:
            die_at(step)
            asyncio.run(scenario(disk))
            os._exit(0)
        if os.waitpid(child, 0)[1] == 0:
            return
    sys.exit("it never came to an end")


if __name__ == "__main__":
    main(SCENARIOS[sys.argv[1]], Path(sys.argv[2]))
