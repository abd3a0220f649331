"""The folders at one level of a store, found without reading all that lies in them."""

from collections.abc import AsyncIterator

from entrepot.index import Entry, Store

_A_FEW = 64  # keys of one folder that are read before the rest of it is skipped with another request


async def folders(store: Store, prefix: str) -> AsyncIterator[Entry]:
    """The first entry of every folder below `prefix`, in the order of the keys."""
    after = ""
    while True:
        skipped = ""
        folder, seen = "", 0
        async for entry in store.list(prefix, after=after):
            name, slash, _ = entry.key.removeprefix(prefix).partition("/")
            if not slash:
                continue  # an object, and no folder
            if name != folder:
                folder, seen = name, 0
                yield entry
            seen += 1
            if seen >= _A_FEW:
                skipped = name
                break
        if not skipped:
            return
        # "0" follows "/": every key of the folder is smaller, every key of the next one greater.
        after = f"{prefix}{skipped}0"


def folder_of(entry: Entry, prefix: str) -> str:
    return entry.key.removeprefix(prefix).partition("/")[0]
