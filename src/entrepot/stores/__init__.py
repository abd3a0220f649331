"""Stores: keys to bytes, on a disk, in memory, in a bucket, and wherever else a driver exists for.

A driver is one file and one line in `DRIVERS`.
"""

from importlib import import_module
from pathlib import Path

from entrepot.errors import Invalid
from entrepot.index import Store
from entrepot.stores.remote import Remote
from entrepot.stores.staging import StagingFile, open_staging

__all__ = ["DRIVERS", "Remote", "StagingFile", "is_local", "open_staging", "open_store"]

# By URL scheme: the module in this package and its function `(url, remote, *, create) -> Store`. Imported when used.
DRIVERS = {
    "file": "disk:from_url",
    "memory": "memory:from_url",
    **dict.fromkeys(("s3", "gs", "az"), "objects:from_url"),
}


def open_store(where: str | Path, remote: Remote | None = None, *, create: bool) -> Store:
    """The store at a URL or in a folder. Blocking. A store elsewhere needs `remote`.

    Raises `Unavailable` if there is none and `create` is false, `Invalid` for a URL of no known scheme.
    """
    url = where if isinstance(where, str) and "://" in where else Path(where).absolute().as_uri()
    scheme = url.partition("://")[0]
    if scheme not in DRIVERS:
        raise Invalid(f"no store has the scheme {scheme}://", at=url, hint=f"known are {', '.join(DRIVERS)}")
    module, _, function = DRIVERS[scheme].partition(":")
    try:
        driver = import_module(f"entrepot.stores.{module}")
    except ModuleNotFoundError as error:
        hint = "pip install 'entrepot[objects]'"
        raise Invalid(f"a {scheme}:// store needs the package {error.name}", at=url, hint=hint) from error
    store: Store = getattr(driver, function)(url, remote, create=create)
    return store


def is_local(url: str) -> bool:
    """Whether the store of this URL lies on this machine."""
    return "://" not in url or url.partition("://")[0] in {"file", "memory"}
