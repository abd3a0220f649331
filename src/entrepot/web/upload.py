"""The legacy upload: streamed to staging, hashed and limited in the same pass, then published."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from entrepot.access import Caller
from entrepot.errors import Denied, Invalid, Unavailable
from entrepot.index import Mounted, Sink, Staged
from entrepot.publish import Candidate, Published, Publisher, hashes, publish
from entrepot.stores import StagingFile, open_staging
from entrepot.threads import finished
from entrepot.units import in_words
from entrepot.web import problems
from entrepot.web.site import Site, may, may_take_over
from entrepot.wire.upload_form import MAX_FIELD_BYTES, Form, Piece, UploadForm

_GATHER = 1 << 20  # bytes that go to the disk and through the hashes with one change of threads
_SMALL = 64 << 10  # bytes that are held in memory: 16 uploads at once make one MiB
_NOWHERE = Path(os.devnull)  # the path of what is held in memory
_WAIT_FOR_A_PLACE = 60.0  # seconds


class TimedOut(Exception):
    """The client sent nothing for too long: 408."""


async def patiently(
    answering: Callable[[Request], Awaitable[Response]], request: Request, site: Site
) -> Response:  # fmt: skip
    """The answer to a request with a body, also when that does not come to its end."""
    try:
        return await answering(request)
    except TimedOut:
        text = f"nothing came for {site.stall:g} seconds; the upload was dropped, try again"
        return problems.answer(request, 408, text, {"Connection": "close"})
    except ClientDisconnect:
        return Response(status_code=400)  # nobody is there to read it


class Incoming(Protocol):
    """A body that is read as it comes: what `UploadForm` does with the form of an upload."""

    filename: str | None

    def feed(self, chunk: bytes, /) -> list[Piece]: ...
    def finish(self) -> Form: ...


# The form that counts: of the one that was sent, the filename, and the digests of the bytes that came.
Told = Callable[[Form, str, Mapping[str, str]], Form]


# What a file is called that came under that name; given by its path or whole. Blocking.
Naming = Callable[[Path | bytes, str], str]


def as_named(file: Path | bytes, filename: str) -> str:  # noqa: ARG001
    return filename


def as_sent(form: Form, filename: str, digests: Mapping[str, str]) -> Form:  # noqa: ARG001
    return form


class Uploads:
    """The handler of uploads. At most `site.max_uploads` bodies are read and checked at once."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._places = asyncio.Semaphore(site.max_uploads)

    async def legacy(self, request: Request) -> Response:
        """`POST /{index}/legacy/` (`docs/http.md`)."""
        return await patiently(self._legacy, request, self._site)

    async def _legacy(self, request: Request) -> Response:
        published = await self.publish(request, UploadForm)
        text = "Published" if published.added else "Already here, with the same bytes"
        return Response(f"{text}: {published.filename}\n", 200, media_type="text/plain")

    async def publish(
        self, request: Request, incoming: Callable[[str], Incoming], told: Told = as_sent, naming: Naming = as_named
    ) -> Published:
        """Publish what the request brings. `incoming` reads a body of the content type that it is given."""
        mounted = self._site.mounted(request)
        caller = await self._site.writer(request)
        request.state.token = caller.id
        sink = _sink(mounted, caller)
        self.refuse_too_large(request)
        form = incoming(request.headers.get("content-type", ""))
        async with self.place(), _received(request, form, told, naming, sink, self._site) as candidate:
            publisher = Publisher(
                name=caller.name,
                may_publish=lambda project: may(caller, "upload", mounted, project),
                rivals=lambda project: () if may_take_over(caller, mounted, project) else mounted.rivals(project),
            )
            return await publish(candidate, sink, publisher, now=self._site.clock())

    def refuse_too_large(self, request: Request) -> None:
        """By the length that the client announces: before it has sent gigabytes in vain."""
        length = request.headers.get("content-length", "")
        # Nothing that exists has 20 digits, and int() refuses some thousand of them.
        if length.isdecimal() and int(length[:20]) > _largest_body(self._site):
            raise _too_large(self._site.max_upload)

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """One of the few bodies that are read at once. Raises `Unavailable` if none becomes free in a minute."""
        try:
            async with asyncio.timeout(_WAIT_FOR_A_PLACE):
                await self._places.acquire()
        except TimeoutError:
            busy = f"{self._site.max_uploads} uploads are running already"
            raise Unavailable(busy, hint="try again", retry_after=10) from None
        try:
            yield
        finally:
            self._places.release()


def _largest_body(site: Site) -> int:
    return site.max_upload + MAX_FIELD_BYTES


def _sink(mounted: Mounted, caller: Caller) -> Sink:
    if mounted.sink is None:
        raise Denied(f"index {mounted.name} takes no uploads", hint="it has no hosted member")
    if not may(caller, "upload", mounted):
        raise Denied(f"{caller.name} may not upload to index {mounted.name}")
    return mounted.sink


@asynccontextmanager
async def _received(
    request: Request, form: Incoming, told: Told, naming: Naming, sink: Sink, site: Site
) -> AsyncIterator[Candidate]:  # fmt: skip
    """The candidate of this request, staged for as long as the block runs."""
    intake = Intake(sink.staging, site.max_upload)
    try:
        # The form around the file may take as much as its fields may.
        complete = await receive(request, form, intake.take, limit=_largest_body(site), site=site)
        staged = await intake.stage()
        sent = form.filename or ""
        file = staged.path if staged.held is None else staged.held
        filename = sent if naming is as_named else await finished(naming, file, sent)
        yield Candidate(
            filename=filename,
            form=told(complete, filename, intake.digests),
            staged=staged,
            digests=intake.digests,
            action=request.query_params.get(":action"),
            renamed=naming is not as_named,
        )
    finally:
        await intake.drop()


async def receive(
    request: Request, form: Incoming, take: Callable[[Piece], Awaitable[None]], *, limit: int, site: Site
) -> Form:
    """The form, whose file `take` got piece by piece. Raises `TimedOut`, `Invalid`, `ClientDisconnect`."""
    left = limit
    async for chunk in chunks(request, site):
        left -= len(chunk)
        if left < 0:  # of bytes around the file that count for nothing, and so could go on for ever
            raise _too_large(site.max_upload)
        for piece in form.feed(chunk):
            await take(piece)
    return form.finish()


async def chunks(request: Request, site: Site) -> AsyncIterator[bytes]:
    """The body as it comes. Raises `TimedOut`, `ClientDisconnect`."""
    body = request.stream().__aiter__()
    while True:
        try:
            async with asyncio.timeout(site.stall):
                chunk = await anext(body, None)
        except TimeoutError:
            raise TimedOut from None
        if chunk is None:
            return
        yield chunk


class Intake:
    """Writes, hashes and counts what comes in, in one pass and in constant memory."""

    def __init__(self, folder: Path, limit: int, *, only_sha256: bool = False) -> None:
        self.size = 0
        self.digests: dict[str, str] = {}
        self._folder = folder
        self._staging: StagingFile | None = None
        self._limit = limit
        self._waiting: list[bytes | memoryview] = []
        self._waiting_size = 0
        self._hashes = hashes(only_sha256=only_sha256)

    async def take(self, piece: bytes | memoryview) -> None:
        self.size += len(piece)
        if self.size > self._limit:
            raise _too_large(self._limit)
        self._waiting.append(piece)
        self._waiting_size += len(piece)
        if self._waiting_size >= _GATHER:
            await finished(self._flush)

    async def stage(self) -> Staged:
        """The whole file; it is there until `drop`. A small one is held in memory and has no path."""
        if self._staging is None and self.size <= _SMALL:
            # No file in `staging`: to make and remove a name there waits for other uploads' fsyncs, in threads.
            path, held = _NOWHERE, self._taken()
        else:
            path, held = (await finished(self._flush)).path, None
        self.digests = {name: running.hexdigest() for name, running in self._hashes.items()}
        return Staged(path=path, size=self.size, sha256=self.digests["sha256"], held=held)

    async def drop(self) -> None:
        if self._staging is not None:
            await finished(self._staging.close_and_remove)

    def _flush(self) -> StagingFile:
        staging = self._staging = self._staging or open_staging(self._folder)
        staging.write(self._taken())
        return staging

    def _taken(self) -> bytes:
        """What waits, hashed."""
        data = b"".join(self._waiting)
        self._waiting, self._waiting_size = [], 0
        for running in self._hashes.values():
            running.update(data)
        return data


def _too_large(limit: int) -> Invalid:
    return Invalid(
        f"the file is larger than {in_words(limit)}, the limit of this server",
        hint="[server] max-upload raises it",
        status=413,
    )
