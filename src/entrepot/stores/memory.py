"""A store in memory, for tests and for trying things out. What it holds is gone with the process."""

import hashlib
import shutil
import tempfile
import time
import weakref
from collections.abc import AsyncIterator, Mapping
from itertools import count
from pathlib import Path

from entrepot.errors import Conflict, Invalid, NotFound
from entrepot.index import ABSENT, ANY, Body, Content, Entry, Etag, Expect, Span, Staged, Stream, Traits
from entrepot.stores import keys
from entrepot.stores.entries import cut, require_expected
from entrepot.stores.remote import Remote, refuse_options
from entrepot.threads import finished


def from_url(url: str, remote: Remote | None = None, *, create: bool) -> "Memory":  # noqa: ARG001 - always a first start
    refuse_options(url, remote)
    return Memory()


class Memory:
    """The `Store` in a dictionary. `close` removes its staging folder."""

    traits: Traits

    def __init__(self) -> None:
        self._objects: dict[str, tuple[Entry, bytes]] = {}
        self._etags = count(1)
        staging = tempfile.mkdtemp(prefix="entrepot-")
        self.traits = Traits(compare_and_swap=True, staging=Path(staging))
        # At the latest when nobody holds the store any more, or the process ends.
        self._remove_staging = weakref.finalize(self, shutil.rmtree, staging, ignore_errors=True)

    async def close(self) -> None:
        self._remove_staging()

    async def stat(self, key: str) -> Entry:
        return self._find(key)[0]

    async def read(self, key: str, span: Span | None = None) -> Content:
        entry, content = self._find(key)
        if span is not None:
            part = cut(span, entry.size)
            content = content[part.start : part.stop]
        return Stream(body=_once(content), size=len(content))

    async def write(self, key: str, body: Body, *, expect: Expect) -> Etag:
        keys.check(key)
        content = await _content(body, key)
        # From here to the end nothing is awaited, so nobody comes between the check and the write.
        self._refuse_overlap(key)
        require_expected(key, expect, self._present(key))
        etag = Etag(f"{next(self._etags):x}")
        entry = Entry(key=key, size=len(content), etag=etag, modified=time.time())
        self._objects[key] = (entry, content)
        return etag

    async def write_all(self, bodies: Mapping[str, bytes | Staged]) -> None:
        for key, body in bodies.items():
            await self.write(key, body, expect=ANY)

    async def delete(self, key: str, *, expect: Expect) -> None:
        keys.check(key)
        if expect is ABSENT:
            raise ValueError("nothing is to be deleted where nothing is expected")
        require_expected(key, expect, self._present(key))
        self._objects.pop(key, None)

    async def list(self, prefix: str, *, after: str = "") -> AsyncIterator[Entry]:
        if not keys.check_prefix(prefix):
            return
        for key in sorted(key for key in self._objects if key.startswith(prefix) and key > after):
            if key in self._objects:  # not deleted meanwhile
                yield self._objects[key][0]

    def _find(self, key: str) -> tuple[Entry, bytes]:
        keys.check(key)
        if key not in self._objects:
            raise NotFound("no such object", at=key)
        return self._objects[key]

    def _present(self, key: str) -> Etag | None:
        return self._objects[key][0].etag if key in self._objects else None

    def _refuse_overlap(self, key: str) -> None:
        """As on a disk, so that tests over memory find out: no key is both an object and a folder."""
        folders = [key[:at] for at, sign in enumerate(key) if sign == "/"]
        if any(folder in self._objects for folder in folders):
            raise Conflict("a key cannot be both an object and a folder of others", at=key)
        if key not in self._objects and any(other.startswith(key + "/") for other in self._objects):
            raise Conflict("this is a folder of other keys", at=key)


async def _content(body: Body, key: str) -> bytes:
    if isinstance(body, bytes):
        return body
    if not isinstance(body, Staged):
        return b"".join([piece async for piece in body])
    try:
        content = body.held if body.held is not None else await finished(body.path.read_bytes)
    except FileNotFoundError as error:
        raise Invalid(f"the staged file {body.path} is gone", at=key) from error
    if (len(content), hashlib.sha256(content).hexdigest()) != (body.size, body.sha256):
        raise Invalid("the staged file has another size or sha256 than was said", at=key)
    return content


async def _once(content: bytes) -> AsyncIterator[bytes]:
    if content:
        yield content
