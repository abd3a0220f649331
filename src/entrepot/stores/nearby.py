"""Files of a store elsewhere, kept on this node's disk when they were downloaded whole.

Their keys hold their sha256, so what is here is never outdated; whether somebody may have it was asked before.
"""

import hashlib
import logging
import os
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack, suppress
from pathlib import Path

from entrepot.errors import EntrepotError, Unavailable
from entrepot.index import Content, OnDisk, Span, Store, Stream
from entrepot.stores import failures
from entrepot.stores.eviction import oldest
from entrepot.stores.staging import StagingFile, open_staging
from entrepot.threads import finished

log = logging.getLogger(__name__)

_COUNTED_EVERY = 20  # times that a twentieth of the size came


class Nearby:
    """A cache of at most `most` bytes in `folder`, for all processes of the node. Its files lie side by side."""

    def __init__(self, store: Store, folder: Path, most: int) -> None:
        self._store = store
        self._folder = folder
        self._most = most
        self._grown = most  # bytes since all were counted; the first file has them counted
        self._filling: set[Path] = set()
        with failures.translated(failures.while_writing, "", str(folder)):
            folder.mkdir(parents=True, exist_ok=True)

    async def open(self, key: str, sha256: str, span: Span | None = None) -> Content:
        """The file from here, else from the store; a part that is not here is not kept. Raises `NotFound`."""
        path = self._folder / hashlib.sha256(key.encode()).hexdigest()
        found = _touched(path)
        if found is not None:
            return found
        content = await self._store.read(key, span)
        if span is not None or not isinstance(content, Stream) or path in self._filling:
            return content
        return Stream(body=self._keeping(content.body, path, sha256), size=content.size, etag=content.etag)

    async def _keeping(self, body: AsyncIterator[bytes], path: Path, sha256: str) -> AsyncIterator[bytes]:
        """The body as it comes, written down beside; a disk that fails keeps nobody from it."""
        self._filling.add(path)
        opened = ExitStack()
        digest, draft = hashlib.sha256(), await self._draft(opened)
        try:
            async for piece in body:
                if draft is not None:
                    digest.update(piece)
                    draft = await _written(draft, piece)
                yield piece
            if draft is not None and digest.hexdigest() == sha256:
                await finished(self._place, draft, path)
        finally:
            self._filling.discard(path)
            await finished(opened.close)

    async def _draft(self, opened: ExitStack) -> StagingFile | None:
        try:
            return await finished(lambda: opened.enter_context(open_staging(self._store.traits.staging)))
        except EntrepotError as error:
            log.warning("nothing is kept in %s: %s", self._folder, error)
            return None

    # In threads.

    def _place(self, draft: StagingFile, path: Path) -> None:
        size = os.fstat(draft.fd).st_size
        with suppress(OSError):  # it was downloaded all the same
            os.rename(draft.path, path)
            draft.name = None
        self._grown += size
        if self._grown * _COUNTED_EVERY >= self._most:
            self._grown = 0
            self._evict()

    def _evict(self) -> None:
        held = []
        with os.scandir(self._folder) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):  # another process evicts too
                    found = entry.stat()
                    held.append((found.st_atime, found.st_size, entry.path))
        for path in oldest(held, self._most):
            with suppress(FileNotFoundError):
                os.unlink(path)


def _touched(path: Path) -> OnDisk | None:
    """The file if it is here; it was used now. On the event loop, as a disk store's stat is."""
    try:
        found = os.stat(path)
        os.utime(path, ns=(time.time_ns(), found.st_mtime_ns))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Unavailable(error.strerror or repr(error), at=str(path)) from error
    return OnDisk(path=path, size=found.st_size, mtime_ns=found.st_mtime_ns)


async def _written(draft: StagingFile, piece: bytes) -> StagingFile | None:
    try:
        await finished(draft.write, piece)
    except EntrepotError as error:
        log.warning("a download is not kept: %s", error)
        return None
    return draft
