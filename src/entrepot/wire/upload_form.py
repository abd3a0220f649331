"""The legacy upload form: multipart/form-data, read as it arrives, in constant memory.

The bytes of the file are handed on as they come; the text fields are kept. PyPI's rules for the form and its
words for the faults, where clients know them. What the form says of a distribution are hints; the truth is in
the file (PEP 694 drops the fields).
"""

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from urllib.parse import unquote

from msgspec import Struct

from entrepot.errors import EntrepotError, Invalid, collected
from entrepot.wire.multipart import LONGEST_BOUNDARY, Malformed, Multipart, headers

# A form with every field of the largest known distributions has some 1,500 parts (classifiers, requirements)
# and about 1 MiB of description.
MAX_FIELDS = 4_000
MAX_FIELD_BYTES = 16 * 1024 * 1024

# Sent as files by old clients and by attackers; their bytes are dropped unread.
_IGNORED_FILES = frozenset({"gpg_signature"})
# Fields that may be given at most once; every other one may be repeated (core metadata, "multiple use").
_SINGLE = frozenset(
    {
        ":action",
        "protocol_version",
        "filetype",
        "pyversion",
        "comment",
        "attestations",
        "md5_digest",
        "sha256_digest",
        "blake2_256_digest",
        "metadata_version",
        "name",
        "version",
        "summary",
        "description",
        "description_content_type",
        "keywords",
        "home_page",
        "download_url",
        "author",
        "author_email",
        "maintainer",
        "maintainer_email",
        "license",
        "license_expression",
        "requires_python",
    }
)

_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PARAMETER = re.compile(rf'[ \t]*;[ \t]*({_WORD})[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|([^;"]*))')
_DISPOSITION = re.compile(r"form-data(?=[ \t]*(?:;|\Z))", re.IGNORECASE)
_FORM_DATA = re.compile(r"[ \t]*multipart/form-data(?=[ \t]*;)", re.IGNORECASE)
# Only these two are escapes: an unescaped Windows path must come through whole, to be refused later.
_ESCAPED = re.compile(r'\\(["\\])')

_LONGEST_REMEMBERED = 256  # bytes of a part's headers

Piece = bytes | memoryview


class Form(Struct, frozen=True):
    """The text fields of a form. Empty ones and "UNKNOWN" (old setuptools) are absent, as on PyPI."""

    fields: Mapping[str, Sequence[str]]

    def one(self, name: str) -> str | None:
        """The value of a field that is given once; of a repeated one the first."""
        return next(iter(self.fields.get(name, ())), None)

    def all(self, name: str) -> tuple[str, ...]:
        """Every value of the field, in the order sent."""
        return tuple(self.fields.get(name, ()))


class _Heading(Struct, frozen=True):
    """What the headers of a part say."""

    name: str | None
    filename: str | None
    media_type: str
    encoding: str


class UploadForm:
    """Feed it the chunks of one request body, then `finish`. After an error it must not be fed again.

    `filename` is that of the file part as soon as its first bytes were returned, None before.
    """

    def __init__(
        self,
        content_type: str,
        *,
        file_fields: frozenset[str] = frozenset({"content"}),
        max_fields: int = MAX_FIELDS,
        max_field_bytes: int = MAX_FIELD_BYTES,
    ) -> None:
        """Raises `Invalid` if `content_type` is not multipart/form-data with a usable boundary."""
        self.filename: str | None = None
        self.fields: dict[str, list[str]] = {}
        self._file_fields = file_fields
        self._max_fields = max_fields
        self._max_field_bytes = max_field_bytes
        self._parts = 0
        self._text_bytes = 0
        self._name = ""
        self._is_content = False
        self._text: bytearray | None = None  # of the part that is being read, if it is a text field
        self._pieces: list[Piece] = []
        self._reader = Multipart(_boundary(content_type), self)

    def feed(self, chunk: bytes) -> list[Piece]:
        """The bytes of the file that lie in this chunk, as views of it where possible.

        Raises `Invalid` as soon as the form cannot become valid any more.
        """
        try:
            self._reader.feed(chunk)
        except Malformed as error:
            raise Invalid(str(error), at=f"part {self._parts}") from error
        pieces, self._pieces = self._pieces, []
        return pieces

    def finish(self) -> Form:
        """The form. Raises `Invalid` if the body was cut short, had no file, or repeats a single field."""
        if not self._reader.complete:
            raise Invalid("the body ends before the form does", at=f"part {self._parts}", hint="upload again")
        if self.filename is None:
            raise Invalid("Upload payload does not have a file.", at=" or ".join(sorted(self._file_fields)))
        problems: list[EntrepotError] = [
            Invalid(f"may be given once, but was given {len(values)} times", at=name)
            for name, values in self.fields.items()
            if name in _SINGLE and len(values) > 1
        ]
        if problem := collected(problems, "the form"):
            raise problem
        return Form(self.fields)

    # What follows is called by the reader, in this order for each part.

    def begin(self) -> None:
        self._parts += 1
        if self._parts > self._max_fields:
            raise Invalid(f"the form has more than {self._max_fields} fields", status=413)

    def head(self, head: bytes) -> None:
        heading = _heading(head)
        name = heading.name
        if name is None:
            raise Invalid("a part of the form has no name", at=f"part {self._parts}")
        # Deprecated by RFC 7578 §4.7; no client of an index encodes, and undecoded text would be wrong text.
        if heading.encoding not in {"", "7bit", "8bit", "binary"}:
            raise Invalid(f"the transfer encoding {heading.encoding!r} is not supported", at=name)
        self._name = name
        self._count(len(name))
        self._is_content = name in self._file_fields
        self._text = None
        if self._is_content:
            self._begin_file(name, heading)
        elif heading.filename is None:
            self._text = bytearray()
        elif name not in _IGNORED_FILES:
            raise Invalid("Should not be a tuple: this field is text, but was sent as a file.", at=name)

    def _begin_file(self, name: str, heading: _Heading) -> None:
        filename = heading.filename
        if filename is None:
            raise Invalid("Upload payload does not have a file.", at=name, hint="the part needs a filename parameter")
        if self.filename is not None:
            raise Invalid("the form has two files; send one with each request", at=name)
        if heading.media_type.startswith("image/"):
            raise Invalid("Invalid distribution file: it is sent as an image.", at=name)
        try:
            # Percent-encoding is RFC 7578's way to send what a header cannot hold (§4.2). `filename*`
            # is forbidden there (§4.2 again) and ignored.
            self.filename = unquote(filename, errors="strict")
        except UnicodeDecodeError as error:
            raise Invalid(f"the filename {filename!r} is not UTF-8", at=name) from error

    def data(self, data: bytes, start: int, stop: int) -> None:
        if self._is_content:
            self._pieces.append(data if stop - start == len(data) else memoryview(data)[start:stop])
        elif self._text is not None:
            self._count(stop - start)
            self._text += data[start:stop]

    def end(self) -> None:
        if self._text is None:
            return
        try:
            value = self._text.decode("utf-8")
        except UnicodeDecodeError as error:
            raise Invalid(f"is not UTF-8: {error.reason} at byte {error.start}", at=self._name) from error
        if value and value.strip() != "UNKNOWN":
            # PyPI escapes NUL too: no database and no terminal takes it.
            self.fields.setdefault(self._name, []).append(value.replace("\x00", "\\x00"))

    def _count(self, size: int) -> None:
        self._text_bytes += size
        if self._text_bytes > self._max_field_bytes:
            raise Invalid(f"the text fields are larger than {self._max_field_bytes} bytes", at=self._name, status=413)


def _boundary(content_type: str) -> bytes:
    start = _FORM_DATA.match(content_type)
    parameters = _parameters(content_type, start.end()) if start is not None and content_type.isascii() else None
    boundary = parameters.get("boundary", "") if parameters is not None else ""
    if not 0 < len(boundary) <= LONGEST_BOUNDARY or "\r" in boundary:
        raise Invalid(f"expected multipart/form-data with a boundary, not {content_type!r}", at="Content-Type")
    return boundary.encode()


def _heading(head: bytes) -> _Heading:
    """Raises `Malformed`. Every client sends the same few headers with every upload, so they are remembered."""
    return _remembered(head) if len(head) <= _LONGEST_REMEMBERED else _heading_of(head)


def _heading_of(head: bytes) -> _Heading:
    given = dict(headers(head))
    parameters = _disposition(given.get(b"content-disposition", b""))
    return _Heading(
        name=parameters.get("name"),
        filename=parameters.get("filename"),
        media_type=given.get(b"content-type", b"").decode("latin-1").lower(),
        encoding=given.get(b"content-transfer-encoding", b"").decode("latin-1").lower(),
    )


_remembered = lru_cache(maxsize=256)(_heading_of)


def _disposition(value: bytes) -> dict[str, str]:
    """The parameters of a part's Content-Disposition."""
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Malformed("the Content-Disposition is not UTF-8") from error
    start = _DISPOSITION.match(text)
    if start is None:
        raise Malformed(f"expected Content-Disposition: form-data, not {text!r}")
    parameters = _parameters(text, start.end())
    if parameters is None:
        raise Malformed(f"this is no Content-Disposition: {text!r}")
    return parameters


def _parameters(text: str, position: int) -> dict[str, str] | None:
    """The parameters from `position` on; None if there is anything else. Of several of one name the first counts."""
    parameters: dict[str, str] = {}
    while match := _PARAMETER.match(text, position):
        name, quoted, plain = match.groups()
        value = plain.rstrip(" \t") if quoted is None else _ESCAPED.sub(r"\1", quoted)
        parameters.setdefault(name.lower(), value)
        position = match.end()
    return None if text[position:].strip(" \t;") else parameters


_HEX_32, _HEX_64 = re.compile(r"[0-9a-f]{32}\Z"), re.compile(r"[0-9a-f]{64}\Z")
# Field, hash as records name it, form, and the form in words.
_DIGESTS = (
    ("md5_digest", "md5", _HEX_32, "32 hexadecimal digits"),
    ("sha256_digest", "sha256", _HEX_64, "64 hexadecimal digits"),
    ("blake2_256_digest", "blake2b_256", _HEX_64, "64 hexadecimal digits"),
)
_BASE64_MD5 = re.compile(r"[A-Za-z0-9+/_-]{22}(?:==)?\Z")


def digests(form: Form) -> dict[str, str]:
    """The digests that the form gives, lower-case hex by hash name. Every one of them has to match the file.

    Raises `Invalid` if one is malformed or none is given.
    """
    found: dict[str, str] = {}
    problems: list[EntrepotError] = []
    for field, algorithm, shape, words in _DIGESTS:
        given = form.one(field)
        if given is None:
            continue
        digest = _md5_hex(given) if algorithm == "md5" else given.lower()
        if shape.match(digest):
            found[algorithm] = digest
        else:
            problems.append(Invalid(f"expected {words}, not {given!r}", at=field))
    if problem := collected(problems, "the form"):
        raise problem
    if not found:
        raise Invalid("Include at least one message digest.", at="sha256_digest")
    return found


def _md5_hex(given: str) -> str:
    """PyPI's documentation says URL-safe base64, its code and every client say hex: both are read."""
    if not _BASE64_MD5.match(given):
        return given.lower()
    try:
        return base64.b64decode(given.rstrip("=").translate(_URLSAFE) + "==", validate=True).hex()
    except binascii.Error:
        return given


_URLSAFE = str.maketrans("-_", "+/")
_FILETYPES = ("sdist", "bdist_wheel")


def check_control(form: Form, *, action: str | None = None) -> list[EntrepotError]:
    """What is wrong with the fields that steer the upload; `action` is the query's `:action`.

    `attestations` are accepted and ignored: uv sends them by default and an index may do without (PEP 740).
    """
    problems: list[EntrepotError] = []
    action = form.one(":action") or action
    if action != "file_upload":
        given = "it is missing" if action is None else f"not {action!r}"
        hint = "projects need no registration: upload the first file" if action == "submit" else ""
        problems.append(Invalid(f"must be file_upload; {given}", at=":action", hint=hint))
    # PyPI takes its absence for "1" too.
    if form.one("protocol_version") not in {None, "1"}:
        problems.append(Invalid("Unknown protocol version.", at="protocol_version", hint="it must be 1"))
    filetype = form.one("filetype")
    if filetype not in _FILETYPES:
        given = "it is missing" if filetype is None else f"not {filetype!r}"
        problems.append(Invalid(f"must be one of {', '.join(_FILETYPES)}; {given}", at="filetype"))
    return problems
