"""Add COUNT files, from number FIRST on, to project demo: `python -m tests.sources.adding ROOT FIRST COUNT BY`.

Says "ready" and begins when it is told a line.
"""

import asyncio
import sys
from pathlib import Path

from entrepot.sources.hosted import Hosted
from entrepot.stores.disk import Disk
from tests.sources.samples import add


async def main(root: Path, first: int, count: int, by: str) -> None:
    hosted = Hosted("main", Disk.open(root, create=False))
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()  # so that all begin at once
    for number in range(first, first + count):
        assert await add(hosted, f"demo-{number}.tar.gz", by=by)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]))
