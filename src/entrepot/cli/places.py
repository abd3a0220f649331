"""Stores as the command line names them: by their name in the configuration, by URL, or by a data folder."""

import os
from pathlib import Path
from urllib.parse import unquote, urlsplit

from entrepot.config import DEFAULT_STORE, Config
from entrepot.errors import Invalid, Unavailable
from entrepot.index import Store
from entrepot.stores import open_store
from entrepot.stores.identity import NAME
from entrepot.stores.keys import RESERVED


def url_of(config: Config, words: str) -> str:
    """The URL of the store that is meant. A name of the configuration comes before a folder of that name."""
    if words in config.store:
        url = config.store[words].url
    elif words == DEFAULT_STORE:
        url = str(config.store_folder)
    elif "://" in words:
        return words
    else:
        folder = Path(words)
        url = str(folder if (folder / NAME).exists() else folder / "store")
    return url if "://" in url else Path(url).absolute().as_uri()


def same(one: str, other: str) -> bool:
    """Whether both URLs lead to one store."""
    return _place(one) == _place(other)


def _place(url: str) -> str:
    folder = _folder(url)
    return os.path.realpath(folder) if folder is not None else url.rstrip("/")


def _folder(url: str) -> Path | None:
    """Where it lies on this machine; None if it does not."""
    parts = urlsplit(url)
    return Path(unquote(parts.path)) if parts.scheme == "file" else None


def source(url: str, words: str) -> Store:
    """The store to read from. Blocking. Raises `Unavailable` if there is none."""
    folder = _folder(url)
    if folder is not None and not folder.exists():
        hint = "a store is named by its name in the configuration, its URL, or its data folder"
        raise Unavailable("there is no store here", at=str(folder), hint=f"{words!r} means this; {hint}")
    return open_store(url, create=False)


def destination(url: str, *, dry_run: bool) -> tuple[Store, bool]:
    """The store to write to, and whether it is new. Blocking.

    One is begun in an empty place. Raises `Invalid` for a place with something else in it. In a dry run a store that
    is not there yet is an empty one in memory.
    """
    folder = _folder(url)
    try:
        if folder is None or (folder / NAME).exists():
            return open_store(url, create=False), False
    except Unavailable:
        if folder is not None:
            raise
    if folder is not None:
        _require_empty(folder)
    if dry_run:
        return open_store("memory://", create=True), True
    return open_store(url, create=True), True


def _require_empty(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise Invalid("is not a folder", at=str(folder))
    others = [name for name in os.listdir(folder) if name not in RESERVED] if folder.exists() else []
    if others:
        what = f"holds {others[0]!r} and is no store: a store is begun in an empty folder only"
        raise Invalid(what, at=str(folder), hint="name another folder")
