"""What an operating system's error means for a store: the one table from errno to the five errors.

*Permission denied* is never *not found*: the one stops a search, the other lets the next index answer.
"""

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from entrepot.errors import Conflict, EntrepotError, Invalid, NotFound, Unavailable

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
# A file where a folder should be, or a symbolic link, which no store makes: there is no such object.
ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
_IN_THE_WAY = frozenset({errno.ENOTDIR, errno.EISDIR, errno.EEXIST})


def while_reading(error: OSError, key: str, root: str) -> EntrepotError:
    if error.errno in ABSENT:
        return NotFound(f"no object {key!r} in {root}", at=key)
    return _unavailable(error, key, root)


def while_writing(error: OSError, key: str, root: str) -> EntrepotError:
    if error.errno in _IN_THE_WAY:
        return Conflict("a key cannot be both an object and a folder of others", at=key)
    return _unavailable(error, key, root)


def _unavailable(error: OSError, key: str, root: str) -> EntrepotError:
    if error.errno in _FULL:
        return Unavailable(f"the disk is full: {error.strerror}", at=root, hint="free some space", status=507)
    if error.errno == errno.ENAMETOOLONG:
        return Invalid("the name is too long for the file system", at=key)
    path = error.filename if isinstance(error.filename, str) else root
    return Unavailable(error.strerror or repr(error), at=path)


@contextmanager
def translated(meaning: Callable[[OSError, str, str], EntrepotError], key: str, root: str) -> Iterator[None]:
    """Raises what an `OSError` of the block means."""
    try:
        yield
    except OSError as error:
        raise meaning(error, key, root) from error
