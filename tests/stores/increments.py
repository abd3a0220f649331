"""Count up a number in a disk store 16 times: `python increments.py ROOT KEY`. Run by test_swaps.py."""

import asyncio
import sys
from pathlib import Path

from entrepot.errors import Conflict
from entrepot.stores.disk import Disk


async def increment(disk: Disk, key: str) -> None:
    """Read, modify, write, and again after every conflict."""
    while True:
        etag = (await disk.stat(key)).etag
        number = int((disk.root / key).read_bytes())
        try:
            await disk.write(key, f"{number + 1}".encode(), expect=etag)
        except Conflict:
            continue
        return


async def main(root: Path, key: str) -> None:
    disk = Disk.open(root, create=False)
    for _ in range(16):
        await increment(disk, key)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
