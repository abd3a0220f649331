"""What a store that lies elsewhere needs of this node."""

import hashlib
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

from entrepot.errors import Invalid
from entrepot.stores import failures
from entrepot.stores.ownership import make_folder


class Remote(Struct, frozen=True, kw_only=True):
    """How a store elsewhere is reached, and where on this node its staging, its marks and its cache lie."""

    folder: Path  # of this node; may be deleted while nothing runs
    name: str = ""  # of the [store.NAME], for messages
    options: Mapping[str, Any] = {}  # obstore's own names
    credentials: str | None = None  # a provider of obstore's: boto3, google, azure
    writer: bool = False  # this node may write where there is no compare-and-swap
    bare: bool = False  # it is another tool's, and need not be a store of ours
    node: str = socket.gethostname()  # what other nodes are told

    def place(self, name: str) -> Path:
        """A folder in ours, with its owner and mode. Blocking. Raises `Unavailable`."""
        root = str(self.folder)
        with failures.translated(failures.while_writing, "", root):
            self.folder.mkdir(parents=True, exist_ok=True)
            make_folder(f"{root}/{name}", root)
        return self.folder / name


def nameless(url: str) -> Remote:
    """For a store that no configuration names: what it needs comes from the environment, its folder is the user's."""
    import platformdirs  # noqa: PLC0415 - only here

    digest = hashlib.sha256(url.encode()).hexdigest()[:16]
    return Remote(folder=Path(platformdirs.user_cache_dir("entrepot")) / "stores" / digest, name=url)


def refuse_options(url: str, remote: Remote | None) -> None:
    """Raises `Invalid` for what only a store elsewhere understands."""
    if remote is not None and (remote.options or remote.credentials or remote.writer):
        raise Invalid("options, credentials and writer are for stores such as s3://…", at=url)
