"""Errors as answers: the one table from the five kinds to HTTP."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from entrepot.errors import Conflict, Denied, EntrepotError, Invalid, NotFound, Unavailable
from entrepot.http1 import ClientGone

log = logging.getLogger(__name__)

STATUS: dict[type[EntrepotError], int] = {NotFound: 404, Denied: 403, Conflict: 409}
# Invalid and Unavailable carry theirs.

_TITLES = {
    400: "Bad request",
    401: "Credentials needed",
    403: "Forbidden",
    404: "Not found",
    405: "Method not allowed",
    406: "Not acceptable",
    408: "Timed out",
    409: "Conflict",
    413: "Too large",
    421: "Misdirected request",
    500: "Internal error",
    502: "Bad gateway",
    503: "Unavailable",
    504: "Upstream timed out",
    507: "Disk full",
}

_CHECK = "`entrepot check` says more"
_CHALLENGE = 'Basic realm="entrepot", charset="UTF-8"'


class Unauthorised(Exception):
    """Credentials are missing or wrong: 401 with a challenge. Only `web` knows of it."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = f"{message} ({hint})" if hint else message


def status_of(error: EntrepotError) -> int:
    if isinstance(error, Invalid | Unavailable):
        return error.status
    return STATUS[type(error)]


def text_of(error: EntrepotError) -> str:
    """Every problem on a line of its own. A conflict begins with its message: clients look at the first words."""
    if not error.problems:
        return str(error)
    return "\n".join([f"{error.message}:", *(f"- {problem}" for problem in error.problems)])


def answer(request: Request, status: int, text: str, headers: dict[str, str] | None = None) -> Response:
    """The message in the form that the client shows best.

    Reads that ask for JSON get RFC 9457: uv prints its `title` and `detail`. Everything else, uploads above all, gets
    plain text: twine and uv print it as it is, and uv leaves out its check of an existing file if an upload is
    answered with a problem document.
    """
    fixed = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store", **(headers or {})}
    if request.method in {"GET", "HEAD"} and "json" in request.headers.get("accept", ""):
        body = {"type": "about:blank", "title": _TITLES.get(status, "Error"), "status": status, "detail": text}
        return Response(msgspec.json.encode(body), status, headers=fixed, media_type="application/problem+json")
    return Response(text + "\n", status, headers=fixed, media_type="text/plain")


def shortened(text: str) -> str:
    """What a client sent, as far as a message repeats it."""
    return text if len(text) <= 200 else f"{text[:200]}…"


@contextmanager
def lost(what: str) -> Iterator[None]:
    """What a page lists and its source does not have is lost, or just being replaced: 404 would say it never was."""
    try:
        yield
    except NotFound as error:
        raise Unavailable(f"the bytes of {what} are not where they should be", hint=_CHECK) from error


async def on_error(request: Request, error: Exception) -> Response:
    """For each of the five kinds."""
    assert isinstance(error, EntrepotError)
    status = status_of(error)
    if not isinstance(error, Unavailable):
        return answer(request, status, text_of(error))
    # Where it happened and what caused it is for the operator: both may name folders of this machine.
    log.error("%s %r: %s", request.method, request.scope["path"], error.__cause__ or error)
    text = f"{error.message} ({error.hint})" if error.hint else error.message
    return answer(request, status, text, {"Retry-After": str(error.retry_after)})


async def on_unauthorised(request: Request, error: Exception) -> Response:
    assert isinstance(error, Unauthorised)
    return answer(request, 401, error.message, {"WWW-Authenticate": _CHALLENGE})


async def on_http(request: Request, error: Exception) -> Response:
    """What the router itself refuses: no such path, or not this method."""
    assert isinstance(error, HTTPException)
    text = f"{request.method} {shortened(request.scope['path'])}: {error.detail}"
    headers = dict(error.headers or {})
    if "Allow" in headers:  # a set to Starlette, in another order in each process
        headers["Allow"] = ", ".join(sorted(headers["Allow"].split(", ")))
    return answer(request, error.status_code, text, headers)


async def on_bug(request: Request, error: Exception) -> Response:
    """Anything else is our fault: the trace goes to the log, no detail to the client."""
    if isinstance(error, ClientGone):
        pass
    elif isinstance(error.__cause__, EntrepotError):  # raised again by Starlette, as the answer was on its way
        log.error("%s %r was cut off: %s", request.method, request.scope["path"], error.__cause__)
    else:
        log.error("%s %r failed", request.method, request.scope["path"], exc_info=error)
    return answer(request, 500, "this is a fault of the server; its log says more")
