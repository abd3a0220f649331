"""What an object store's error means: the one table from obstore's errors to the five kinds.

A 403 is never *absent*, and neither is a bucket that does not exist. obstore's messages are long and repeat the whole
answer; what is said here is the status, the store's code and its message, and never a header.
"""

import re

from obstore import exceptions as theirs

from entrepot.errors import Conflict, EntrepotError, NotFound, Unavailable

# What obstore raises. A missing object is Python's own FileNotFoundError, a bad setting its ValueError.
RAISED = (theirs.BaseError, OSError, ValueError, NotImplementedError)

_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>([^<]*)</Code>")
_MESSAGE = re.compile(r"<Message>([^<]*)</Message>")
_NO_BUCKET = frozenset({"NoSuchBucket", "ContainerNotFound"})
_FULL = frozenset({"QuotaExceeded", "InsufficientStorage", "EntityTooLarge"})
_LONGEST = 200


def meant(error: Exception, key: str, where: str) -> EntrepotError:
    """The error of ours. `where` is the store's URL, which holds no secret."""
    said = str(error).partition("Debug source:")[0]
    code, status = _first(_CODE, said), _first(_STATUS, said)
    if code in _NO_BUCKET:
        return no_bucket(where)
    if isinstance(error, theirs.AlreadyExistsError):
        return Conflict("it exists already", at=key)
    if isinstance(error, theirs.PreconditionError) or status in {"409", "412"}:
        return Conflict("it was changed since it was read", at=key)
    if isinstance(error, FileNotFoundError):
        return NotFound(f"no object {key!r} in {where}", at=key)
    return _unavailable(error, said, f"{where}/{key}", where)


def _unavailable(error: Exception, said: str, key: str, where: str) -> Unavailable:
    code, status = _first(_CODE, said), _first(_STATUS, said)
    reason = _reason(said, code, status)
    if isinstance(error, theirs.PermissionDeniedError | theirs.UnauthenticatedError) or status in {"401", "403"}:
        return Unavailable(f"the object store refuses us: {reason}", at=key, hint=_REFUSED)
    if code in _FULL or status == "507":
        return Unavailable(f"the object store takes no more: {reason}", at=where, status=507)
    if "timed out" in str(error).lower():
        return too_slow(where)
    if not status and "HTTP error" in said:
        return Unavailable(f"the object store cannot be reached: {reason}", at=where, hint=_UNREACHED)
    return Unavailable(f"the object store failed: {reason}", at=key)


def no_bucket(where: str) -> Unavailable:
    hint = "make the bucket, or correct the url of the store; entrepot never makes one"
    return Unavailable("there is no such bucket", at=where, hint=hint)


def too_slow(where: str) -> Unavailable:
    return Unavailable("the object store did not answer in time", at=where, status=504)


def is_unsupported(error: Exception) -> bool:
    """Whether the store does not know what a condition is."""
    return isinstance(error, NotImplementedError | theirs.NotSupportedError) or _first(_STATUS, str(error)) == "501"


def is_superseded(error: Exception) -> bool:
    """Whether another write of the same key came at the same moment, and stands: Swift's 202, which has no etag."""
    return "ETag Header missing" in str(error)


_REFUSED = (
    "are the key and its secret right, and may it list, get, put and delete here? S3 also says 403 "
    "for what is not there to who may not list"
)
_UNREACHED = "is the endpoint right, and does it answer from here?"


def _first(pattern: re.Pattern[str], text: str) -> str:
    found = pattern.search(text)
    return found[1] if found else ""


def _reason(said: str, code: str, status: str) -> str:
    if code or status:
        message = _first(_MESSAGE, said).partition("\n")[0]
        return " ".join(filter(None, (status, code, f"({message})" if message else "")))
    # "Generic S3 error: Error performing GET http://… in 1ms - HTTP error: error sending request"
    return said.rpartition(" - ")[2].strip()[:_LONGEST].partition("\n")[0]
