"""A disk store's keys in order, one folder at a time."""

import os
from collections.abc import Iterator

from entrepot.index import Entry
from entrepot.stores import identity, keys
from entrepot.stores.entries import entry_of


def walk(root: str, prefix: str, after: str) -> Iterator[Entry]:
    """Entries whose key starts with `prefix` and is greater than `after`. Blocking.

    Holds one listing per level of folders. What vanishes meanwhile is left out; `Unavailable` if it is
    the store that vanishes. Symbolic links, which no store makes, are not followed: they could lead out
    of it, or in circles.
    """
    identity.require(root)
    folder, slash, _ = prefix.rpartition("/")
    yield from _below(root, folder + slash, prefix, after)


def _below(root: str, folder: str, prefix: str, after: str) -> Iterator[Entry]:
    for name, found in _listing(root, folder):
        key = folder + name
        if name.endswith("/"):
            # All keys of a branch are greater than `after`, or smaller, unless `after` lies in it.
            may_match = key.startswith(prefix) or prefix.startswith(key)
            if may_match and (key > after or after.startswith(key)):
                yield from _below(root, key, prefix, after)
        elif key > after and key.startswith(prefix) and keys.is_key(key):
            try:
                yield entry_of(key, found.stat(follow_symlinks=False))
            except FileNotFoundError:
                continue


def _listing(root: str, folder: str) -> "list[tuple[str, os.DirEntry[str]]]":
    """The names in the folder in the order of the keys below them: a folder sorts with its "/"."""
    names: list[tuple[str, os.DirEntry[str]]] = []
    try:
        with os.scandir(f"{root}/{folder}") as found:
            for entry in found:
                if not folder and entry.name in keys.RESERVED:
                    continue
                if entry.is_dir(follow_symlinks=False):
                    names.append((entry.name + "/", entry))
                elif entry.is_file(follow_symlinks=False):
                    names.append((entry.name, entry))
    except (FileNotFoundError, NotADirectoryError):
        identity.require(root)
    names.sort(key=lambda pair: pair[0])
    return names
