"""Stores as the command line names them: by their name in the configuration, by URL, or by a data folder."""

import os
from pathlib import Path
from urllib.parse import unquote, urlsplit

from msgspec import Struct

from entrepot.assembly import named_store
from entrepot.config import DEFAULT_STORE, Config
from entrepot.errors import Invalid, Unavailable
from entrepot.index import Store
from entrepot.stores import open_store
from entrepot.stores.identity import NAME, NOT_HERE
from entrepot.stores.keys import RESERVED


class Place(Struct, frozen=True, kw_only=True):
    """Where a store is, or is to be. `name` is that of the configuration; "" if it stands there under none."""

    words: str
    url: str
    name: str = ""

    @property
    def folder(self) -> Path | None:
        """On this machine; None if it is elsewhere."""
        parts = urlsplit(self.url)
        return Path(unquote(parts.path)) if parts.scheme == "file" else None

    def is_same(self, other: "Place") -> bool:
        """Whether both are one store."""
        return self.real == other.real

    @property
    def real(self) -> str:
        """The same for all ways to it."""
        return os.path.realpath(self.folder) if self.folder is not None else self.url.rstrip("/")


def place(config: Config, words: str) -> Place:
    """The place that is meant. A name of the configuration comes before a folder of that name."""
    if words in config.store:
        return Place(words=words, url=_url(config.store[words].url), name=words)
    if words == DEFAULT_STORE:
        return Place(words=words, url=_url(str(config.store_folder)), name=words)
    if "://" in words:
        return Place(words=words, url=words)
    folder = Path(words)
    return Place(words=words, url=_url(str(folder if (folder / NAME).exists() else folder / "store")))


def _url(text: str) -> str:
    return text if "://" in text else Path(text).absolute().as_uri()


def source(config: Config, place: Place) -> Store:
    """The store to read from. Blocking. Raises `Unavailable` if there is none."""
    if place.folder is not None and not place.folder.exists():
        hint = "a store is named by its name in the configuration, its URL, or its data folder"
        raise Unavailable(NOT_HERE, at=str(place.folder), hint=f"{place.words!r} means this; {hint}")
    return _opened(config, place, create=False)


def destination(config: Config, place: Place, *, dry_run: bool) -> tuple[Store, bool]:
    """The store to write to, and whether it is new. Blocking.

    One is begun in an empty place. Raises `Invalid` for a place with something else in it. In a dry run a store that
    is not there yet is an empty one in memory.
    """
    folder = place.folder
    try:
        if folder is None or (folder / NAME).exists():
            return _opened(config, place, create=False), False
    except Unavailable as error:
        if folder is not None or error.message != NOT_HERE:
            raise
    if folder is not None:
        _require_empty(folder)
    if dry_run:
        return open_store("memory://", create=True), True
    return _opened(config, place, create=True), True


def _opened(config: Config, place: Place, *, create: bool) -> Store:
    """With the options and credentials of the configuration if it names the store, else with those of this machine."""
    if place.name in config.store:
        return named_store(config, place.name, create=create)
    return open_store(place.url, create=create)


def _require_empty(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise Invalid("is not a folder", at=str(folder))
    others = [name for name in os.listdir(folder) if name not in RESERVED] if folder.exists() else []
    if others:
        what = f"holds {others[0]!r} and is no store: a store is begun in an empty folder only"
        raise Invalid(what, at=str(folder), hint="name another folder")
