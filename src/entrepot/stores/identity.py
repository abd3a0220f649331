"""`entrepot.json`: what makes a folder a store.

A folder without it is no store, and no store is made unless it was asked for: where a disk is not mounted,
an empty store would look like one whose packages are all gone, and the public index would answer instead.
"""

import os
import uuid
from contextlib import suppress

import msgspec

from entrepot.errors import Unavailable
from entrepot.stores import staging
from entrepot.stores.ownership import make_folder, refuse_strangers, sync_folder

NAME = "entrepot.json"
SCHEMA = 1  # the layout in docs/layout.md
NOT_HERE = "there is no store here"
FOLDERS = ("locks", "staging", "trash")


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    schema: int


def require(root: str) -> None:
    """Raises `Unavailable` if there is no store, as after its disk was unmounted."""
    try:
        os.stat(f"{root}/{NAME}")
    except FileNotFoundError:
        raise Unavailable(
            NOT_HERE,
            at=root,
            hint="is its disk mounted? If it is to be a new store, start once with `entrepot serve --create`",
        ) from None


def read(root: str) -> Identity:
    """Raises `Unavailable` if there is no store here, or one of a later schema."""
    require(root)
    path = f"{root}/{NAME}"
    with open(path, "rb") as file:
        content = file.read()
    try:
        identity = msgspec.json.decode(content, type=Identity)
    except msgspec.DecodeError as error:
        raise Unavailable(f"this does not describe a store: {error}", at=path) from error
    if identity.schema > SCHEMA:
        raise Unavailable(
            f"the store has schema {identity.schema}, and this entrepot knows schemas up to {SCHEMA}",
            at=path,
            hint="run a newer entrepot",
        )
    for folder in FOLDERS:  # a backup may have left them out: nothing in them is worth keeping
        make_folder(f"{root}/{folder}", root)
    return identity


def create(root: str) -> Identity:
    """Make a store of the folder, or read the one that is there or that another process makes meanwhile."""
    _make_root(root)
    holder = refuse_strangers(root)
    for folder in FOLDERS:
        make_folder(f"{root}/{folder}", root)
    identity = Identity(id=str(uuid.uuid4()), schema=SCHEMA)
    with staging.create(f"{root}/staging", holder) as staged:
        staged.write(msgspec.json.format(msgspec.json.encode(identity), indent=2) + b"\n")
        os.fsync(staged.fd)
        with suppress(FileExistsError):
            os.link(staged.path, f"{root}/{NAME}")
    sync_folder(root)
    return read(root)


def _make_root(root: str) -> None:
    # Unlike all that follows, the root itself is made as `mkdir -p` does it: its mode, which everything
    # in it takes over, is the umask's choice, and /tmp above it does not make it writable for all.
    if os.path.isdir(root):
        return
    above = os.path.dirname(root)
    _make_root(above)
    with suppress(FileExistsError):
        os.mkdir(root)
        if os.geteuid() == 0:
            holder = os.stat(above)
            os.chown(root, holder.st_uid, holder.st_gid)
        sync_folder(above)
