"""tycho's rules, on a folder in place of its bucket: what it writes, byte for byte, and how it reads (storage.md §4).

Written for these tests from what is known of tycho, so that they know when we leave its ways.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NOT_THE_BUCKETS = frozenset({"locks", "staging", "trash"})  # of the disk store


class OldTool:
    """One user of tycho. `etag` stands for what the bucket sends with a file."""

    def __init__(self, bucket: Path) -> None:
        self._bucket = bucket

    def meta(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self._bucket / name / "tycho.json").read_text())
        return found

    def init(self, name: str, localname: str) -> None:
        (self._bucket / name).mkdir(exist_ok=True)
        (self._bucket / name / "tycho.json").write_text(json.dumps({"localname": localname, "latest": None}, indent=2))

    def push(self, name: str, version: str, data: bytes) -> bool:
        path = self._file(name, version)
        if path.exists():
            return False
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return True

    def promote(self, name: str, version: str) -> bool:
        """Loads, changes one member, and dumps all of them."""
        if not self._file(name, version).exists():
            return False
        meta = self.meta(name)
        meta["latest"] = version
        (self._bucket / name / "tycho.json").write_text(json.dumps(meta, indent=2))
        return True

    def packages(self) -> dict[str, str | None]:
        """Every first-level prefix, with the latest version of those that have a tycho.json."""
        return dict(sorted(self._packages()))

    def _packages(self) -> Iterator[tuple[str, str | None]]:
        for folder in self._bucket.iterdir():
            if folder.is_dir() and folder.name not in NOT_THE_BUCKETS:
                there = (folder / "tycho.json").exists()
                yield folder.name, self.meta(folder.name)["latest"] if there else None

    def list_versions(self, name: str) -> list[str]:
        """What stands between `tycho_` and `.pkg`, in the order of text."""
        keys = [str(path.relative_to(self._bucket)) for path in (self._bucket / name).rglob("*") if path.is_file()]
        start = f"{name}/tycho_"
        return sorted(key[len(start) : -4] for key in keys if key.startswith(start) and key.endswith(".pkg"))

    def pull(self, name: str, version: str = "latest") -> tuple[str, bytes]:
        """The local name and the bytes."""
        meta = self.meta(name)
        wanted = meta["latest"] if version == "latest" else version
        return meta["localname"], self._file(name, wanted).read_bytes()

    def _file(self, name: str, version: str) -> Path:
        return self._bucket / name / f"tycho_{version}.pkg"
