"""An index that somebody else serves, by its Simple API: pypiserver, devpi, Artifactory, Nexus and all the others."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from entrepot.errors import Invalid, NotFound, Unavailable
from entrepot.index import Staged
from entrepot.model import File, Project, ProjectName, is_valid_name, normalise
from entrepot.moving.origins import Arrived, Take, digests
from entrepot.sources.mirror.address import resolve
from entrepot.sources.mirror.downloads import Download, Wanted
from entrepot.sources.mirror.pages import ACCEPT, Kept, parse, text
from entrepot.sources.mirror.upstream import Upstream
from entrepot.threads import finished
from entrepot.wire import simple_html, simple_json
from entrepot.wire.simple_json import Page

_TIMEOUT = 30.0  # seconds for an answer to begin: old servers read whole folders first
_LISTED = "+simple/"  # devpi's word
# Not the name of a server: that of ours must not refuse us because we share its store.
_VIA = "entrepot-import"


# Of a file in the place to which it is brought; None if it is not there.
Size = Callable[[ProjectName, str], Awaitable[int | None]]


class _Devpi(Struct, frozen=True):
    """An index of devpi as it describes itself: `projects` are its own, not those of its bases."""

    projects: tuple[ProjectName, ...]
    files: str  # what the URLs of its own files begin with


class Simple:
    """The files of another index. Use `opened`."""

    def __init__(self, upstream: Upstream, staging: Path, size: Size) -> None:
        self._upstream = upstream
        self._staging = staging
        self._size = size
        self._root = upstream.address.url
        self._names: tuple[ProjectName, ...] = ()
        self._devpi: _Devpi | None = None
        self._urls: dict[ProjectName, Mapping[str, str]] = {}  # of projects that are under way
        self._inherited = 0
        self._running: set[Download] = set()

    @classmethod
    @asynccontextmanager
    async def opened(cls, url: str, staging: Path, size: Size) -> AsyncIterator["Simple"]:
        """The index at a URL, with its list of projects read. `size` tells that of a file in its new place.

        The URL is that of the Simple API, or one above it. Raises `Invalid`, `Unavailable`.
        """
        # Private networks are where such servers are, and this one was named on purpose.
        upstream = Upstream(resolve(url, credentials=None, flat=False), via=_VIA, timeout=_TIMEOUT, private=True)
        found = cls(upstream, staging, size)
        try:
            await found._find()
            yield found
        finally:
            await found._stop()
            await upstream.close()

    @property
    def url(self) -> str:
        """Where its Simple API is."""
        return self._root

    @property
    def notes(self) -> list[str]:
        if not self._inherited:
            return []
        return [f"{self._inherited} files that this devpi index inherits were left out: import them from their index"]

    async def projects(self) -> AsyncIterator[ProjectName]:
        for name in self._names:
            yield name

    async def page(self, project: ProjectName) -> Project:
        page = await self._page(project)
        own = [file for file in page.project.files if self._is_own(page.urls[file.filename])]
        self._inherited += len(page.project.files) - len(own)
        self._urls[project] = page.urls
        return replace(page.project, name=project, files=tuple(own))

    async def sha256(self, project: ProjectName, file: File) -> str | None:  # noqa: ARG002
        return None

    async def fetch(self, project: ProjectName, file: File, take: Take) -> None:
        """By the mirror's download: resumed where it is cut, compared with the page's size and hash, in one process."""
        wanted = Wanted(project=project, file=file, url=self._urls[project][file.filename])
        place = hashlib.sha256(f"{self._root} {project}/{file.filename}".encode()).hexdigest()[:40]
        taking = _Taking(take, self._size)
        taking.download = Download(wanted, self._upstream, self._staging / f"import-{place}", taking)
        self._running.add(taking.download)
        try:
            await taking.download.ended()
        finally:
            if taking.download.task.done():
                self._running.discard(taking.download)

    def leave(self, project: ProjectName) -> None:
        self._urls.pop(project, None)

    async def _stop(self) -> None:
        """What nobody waits for any more is given up."""
        tasks = [download.task for download in self._running]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # Finding the list of names.

    async def _find(self) -> None:
        """The list at the URL as given if it ends as such URLs do, else below it, else there."""
        given = self._root
        whole = given.endswith(("/simple/", f"/{_LISTED}"))
        tried = (given,) if whole else (urljoin(given, "simple/"), urljoin(given, _LISTED), given)
        failed: Unavailable | None = None
        for root in tried:
            try:
                self._root, self._names = root, await self._listed(root)
                break
            except Unavailable as error:
                failed = failed or error
            except (NotFound, Invalid):
                continue
        else:
            hint = "give the URL that pip would have as --index-url"
            raise failed or Unavailable("there is no list of projects here", at=given, hint=hint, status=502)

    async def _listed(self, root: str) -> tuple[ProjectName, ...]:
        """The names at this URL. Raises `Invalid` if what is there is no list of them."""
        if root.endswith(_LISTED) and (devpi := await self._described(root.removesuffix(_LISTED))) is not None:
            # Not the list itself: it has the names of all bases too, which may be those of the public index.
            self._devpi = devpi
            return devpi.projects
        kept = await self._asked(root)
        if urlsplit(kept.url).netloc != self._upstream.address.host:
            # pypiserver does so with what it has not: to the public index.
            raise Invalid("this leads to another host", at=root)
        return _names(kept)

    async def _described(self, url: str) -> _Devpi | None:
        """The index of devpi at this URL; None if it is none to which files are uploaded."""
        try:
            async with self._upstream.get(url, {"Accept": "application/json"}) as response:
                told = msgspec.json.decode(await text(response.content, url), type=dict[str, Any])
        except (NotFound, msgspec.MsgspecError):
            return None
        result = told.get("result")
        if told.get("type") != "indexconfig" or not isinstance(result, dict) or result.get("type") != "stage":
            return None
        names = [name for name in result.get("projects", ()) if isinstance(name, str) and is_valid_name(name)]
        return _Devpi(projects=tuple(sorted(map(normalise, names))), files=f"{url}+f/")

    # Pages.

    async def _page(self, project: ProjectName) -> Page:
        kept = await self._asked(urljoin(self._root, f"{project}/"))
        try:
            return parse(kept, project)
        except Invalid as error:
            raise Unavailable(f"it sent no page: {error.message}", at=kept.url, status=502) from error

    async def _asked(self, url: str) -> Kept:
        async with self._upstream.get(url, {"Accept": ACCEPT}) as response:
            kind = response.headers.get("Content-Type", "")
            body = await text(response.content, url)
            return Kept(url=str(response.url), confirmed=datetime.now(UTC), content_type=kind, body=body)

    def _is_own(self, url: str) -> bool:
        return self._devpi is None or url.startswith(self._devpi.files)


class _Taking:
    """What becomes of a download when all of it has come."""

    download: Download

    def __init__(self, take: Take, size: Size) -> None:
        self._take = take
        self._size = size

    async def keep(self, wanted: Wanted, staged: Staged) -> None:  # noqa: ARG002
        found = await finished(digests, staged.path)
        await self._take(Arrived(staged=staged, digests=found, modified=self.download.modified))

    async def size(self, wanted: Wanted) -> int | None:
        return await self._size(wanted.project, wanted.file.filename)


def _names(kept: Kept) -> tuple[ProjectName, ...]:
    body = (kept.body or "").encode()
    kind = kept.content_type.partition(";")[0].strip().lower()
    if kind.endswith("json"):
        return simple_json.parse_list(body)
    if kind.endswith("html"):
        return simple_html.parse_list(body)
    raise Invalid(f"{kind or 'no content type'} in place of a list of projects", at=kept.url)
