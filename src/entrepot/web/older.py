"""The URLs of older servers, on the default index: their routes, their fields, their answers.

pypicache's `/requirements.txt`, `/uploadpackage/` and `/packages/…`, and git-pypi's `/packages/FILE`.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from entrepot import distributions
from entrepot.errors import Denied, EntrepotError, Invalid, NotFound
from entrepot.fill import Filled, Filling
from entrepot.model import is_valid_name, normalise
from entrepot.web import problems
from entrepot.web.answers import Kept
from entrepot.web.files import Files, Sent
from entrepot.web.pages import named, redirect
from entrepot.web.site import Site, may
from entrepot.web.upload import Uploads, patiently, receive
from entrepot.wire import filenames, metadata
from entrepot.wire.choice import Choice
from entrepot.wire.requirements import Asked, parse_lines
from entrepot.wire.upload_form import Form, Piece, UploadForm

log = logging.getLogger(__name__)

_MOST_BYTES: Final = 1 << 20  # of requirements
_MOST_LINES: Final = 2_000
_AROUND: Final = 64 << 10  # bytes of the form around them
_JOBS: Final = 8  # pages and files that are fetched at once for all requests
_PACKAGES: Final = (
    "/packages/{filename}",
    "/packages/{project}/{filename}",
    "/packages/{kind}/{letter}/{project}/{filename}",  # kind: "source", or the Python of an egg
)


class Older:
    """The handlers."""

    def __init__(self, site: Site, uploads: Uploads, files: Files) -> None:
        self._site = site
        self._uploads = uploads
        self._files = files
        self._jobs = asyncio.Semaphore(_JOBS)

    def packages(self) -> list[Route]:
        """To stand in front: a project may have the name of a view."""
        routes = [Route(path, self.file, methods=["GET"]) for path in _PACKAGES]
        return routes + [Route(path, self.put, methods=["PUT"]) for path in _PACKAGES]

    def others(self) -> list[Route]:
        """To stand at the end: a project may have the name of a view."""
        return [
            Route("/requirements.txt", self.requirements, methods=["POST"]),
            Route("/uploadpackage", self.sdist, methods=["POST"]),
            Route("/uploadpackage/", self.sdist, methods=["POST"]),
            Route("/simple/{project}/{version}", self.version, methods=["GET"]),
            Route("/simple/{project}/{version}/", self.version, methods=["GET"]),
            Route("/local/{project}/{version}", self.version, methods=["GET"]),
            Route("/local/{project}/{version}/", self.version, methods=["GET"]),
        ]

    # Files.

    async def file(self, request: Request) -> Response | Kept | Sent:
        """`GET /packages/…`: as under `/files/`, with the project spelled in any way."""
        filename: str = request.path_params["filename"]
        project: str = request.path_params.get("project") or _project_of(filename.removesuffix(".metadata"))
        if is_valid_name(project):
            request.path_params["project"] = normalise(project)
        return await self._files.file(request)

    async def put(self, request: Request) -> Response:
        """`PUT /packages/…`: the body is the file."""
        return await patiently(self._put, request, self._site)

    async def _put(self, request: Request) -> Response:
        filename: str = request.path_params["filename"]
        given: str | None = request.path_params.get("project")
        if given is not None and filenames.parse(filename).project != normalise(given):
            raise Invalid(f"{filename} is no file of project {given}", at="the path")
        published = await self._uploads.publish(request, lambda _: _Bare(filename), _from_file)
        text = "Published" if published.added else "Already here, with the same bytes"
        status = 201 if published.added else 200
        return Response(f"{text}: {published.filename}\n", status, media_type="text/plain")

    async def version(self, request: Request) -> Response:
        """`GET /simple/{project}/{version}`: the page of the project has all versions."""
        version: str = request.path_params["version"]
        if metadata.parsed_version(version) is None:
            raise NotFound(f"{problems.shortened(version)!r} is no version")
        view = request.scope["path"].split("/")[1]
        return redirect(self._site, request, f"/{view}/{named(request)}/")

    # Forms with answers in JSON.

    async def sdist(self, request: Request) -> Response:
        """`POST /uploadpackage/`: the field `sdist` is the file."""
        return await patiently(_in_json(self._sdist), request, self._site)

    async def _sdist(self, request: Request) -> Response:
        # Its users have files whose names are older than the standards: the metadata names them anew.
        form = lambda kind: _FileForm(kind, "sdist", _NO_PACKAGE)  # noqa: E731
        await self._uploads.publish(request, form, _from_file, distributions.current_name)
        return _json({"uploaded": "ok"})

    async def requirements(self, request: Request) -> Response:
        """`POST /requirements.txt`: the field `requirements` is a file that says what to keep here."""
        return await patiently(_in_json(self._requirements), request, self._site)

    async def _requirements(self, request: Request) -> Response:
        mounted = self._site.mounted(request)
        caller = await self._site.writer(request)
        request.state.token = caller.id
        if not may(caller, "upload", mounted):
            raise Denied(f"{caller.name} may not upload to index {mounted.name}")
        asked = await self._asked(request)
        filling = Filling(mounted.index, self._site.catalog.sources, jobs=self._jobs)
        filled = await filling.fetch(await filling.plan(asked.wanted, Choice()))
        for one in filled:
            _note(one)
        return _json(
            {
                "cached": list(dict.fromkeys(filename for one in filled for filename in one.kept)),
                "failed": [one.wanted.text for one in filled if one.faults],
                "unparseable": [line.text for line in asked.refused],
            }
        )

    async def _asked(self, request: Request) -> Asked:
        form = _FileForm(request.headers.get("content-type", ""), "requirements", _NO_REQUIREMENTS)
        data = bytearray()

        async def take(piece: Piece) -> None:
            data.extend(piece)
            if len(data) > _MOST_BYTES:
                raise Invalid("the requirements are larger than 1 MiB", status=413)

        await receive(request, form, take, limit=_MOST_BYTES + _AROUND, site=self._site)
        if data.count(b"\n") > _MOST_LINES:
            raise Invalid(f"the requirements have more than {_MOST_LINES} lines", status=413)
        return parse_lines(bytes(data))


_NO_PACKAGE: Final = "Missing package data."
_NO_REQUIREMENTS: Final = "Missing requirements data."


def _project_of(filename: str) -> str:
    """Raises `NotFound` for what is no distribution: there is no such file."""
    try:
        return filenames.parse(filename).project
    except Invalid as error:
        raise NotFound(f"no file {problems.shortened(filename)}") from error


class _Bare:
    """A body that is the file itself."""

    def __init__(self, filename: str) -> None:
        self.filename: str | None = filename

    def feed(self, chunk: bytes) -> list[Piece]:
        return [chunk]

    def finish(self) -> Form:
        return Form({})


class _FileForm:
    """A form with one file, of which only that file counts. `missing` is said where there is none."""

    def __init__(self, content_type: str, field: str, missing: str) -> None:
        self.filename: str | None = None
        self._missing = missing
        try:
            self._form = UploadForm(content_type, file_fields=frozenset({field}))
        except Invalid as error:
            raise Invalid(missing) from error

    def feed(self, chunk: bytes) -> list[Piece]:
        try:
            pieces = self._form.feed(chunk)
        except Invalid as error:
            if self._form.filename is None and error.status == 400:
                raise Invalid(self._missing) from error
            raise
        self.filename = self._form.filename
        return pieces

    def finish(self) -> Form:
        if not self.filename:
            raise Invalid(self._missing)
        return self._form.finish()


def _from_file(form: Form, filename: str, digests: Mapping[str, str]) -> Form:
    """What a client of the legacy upload would say: these clients say nothing, so the file itself is asked."""
    kind = "bdist_wheel" if filename.endswith(".whl") else "sdist"
    said = {"sha256_digest": [digests["sha256"]], **form.fields}
    return Form({**said, ":action": ["file_upload"], "protocol_version": ["1"], "filetype": [kind]})


def _in_json(answering: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    """The answer, with errors in the form of the older server. 401 stays as it is everywhere."""

    async def answered(request: Request) -> Response:
        try:
            return await answering(request)
        except EntrepotError as error:
            status = problems.status_of(error)
            if status >= 500:
                where = request.scope["path"]
                log.error("%s %r: %s", request.method, where, error.__cause__ or error)  # noqa: TRY400 - expected
            text = problems.text_of(error) if status < 500 else error.message
            return _json({"error": True, "message": text}, status)

    return answered


def _json(value: object, status: int = 200) -> Response:
    headers = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}
    return Response(msgspec.json.encode(value), status, headers=headers, media_type="application/json")


def _note(filled: Filled) -> None:
    """The answer has no room for reasons."""
    for fault in filled.faults:
        log.info("requirements: %r failed: %s", filled.wanted.text, fault)
