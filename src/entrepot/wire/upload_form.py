"""The legacy upload form: multipart/form-data, read as it arrives, in constant memory.

The bytes of the file are handed on as they come; the text fields are kept. PyPI's rules for the form and its
words for the faults, where clients know them. What the form says of a distribution are hints; the truth is in
the file (PEP 694 drops the fields).
"""

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from urllib.parse import unquote

from msgspec import Struct
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from entrepot.errors import EntrepotError, Invalid, collected

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
_DISPOSITION = re.compile(r"[ \t]*form-data(?=[ \t]*(?:;|\Z))", re.IGNORECASE)
# Only these two are escapes: an unescaped Windows path must come through whole, to be refused later.
_ESCAPED = re.compile(r'\\(["\\])')

_OFFSET = re.compile(r" (?:at [0-9]+|\([0-9]+\))\Z")

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


class _Part:
    """The part that is being read. `keep` is where its bytes go, None if they are dropped or handed on."""

    __slots__ = ("data", "disposition", "encoding", "field", "is_content", "media_type", "value")

    def __init__(self) -> None:
        self.field = b""  # of the header that is being read
        self.value = b""
        self.disposition = b""
        self.media_type = b""
        self.encoding = b""
        self.is_content = False
        self.data: bytearray | None = None


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
        self._part = _Part()
        self._name = ""
        self._pieces: list[Piece] = []
        self._complete = False
        self._parser = self._parser_for(content_type)

    def feed(self, chunk: bytes) -> list[Piece]:
        """The bytes of the file that lie in this chunk, as views of it where possible.

        Raises `Invalid` as soon as the form cannot become valid any more.
        """
        self._pieces = []
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            reason = _OFFSET.sub("", str(error))  # it counts from the start of the chunk, which says nothing
            raise Invalid(f"the form is malformed: {reason}", at=f"part {self._parts}") from error
        return self._pieces

    def finish(self) -> Form:
        """The form. Raises `Invalid` if the body was cut short, had no file, or repeats a single field."""
        if not self._complete:
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

    def _parser_for(self, content_type: str) -> MultipartParser:
        problem = Invalid(f"expected multipart/form-data with a boundary, not {content_type!r}", at="Content-Type")
        if not content_type.isascii():
            raise problem
        media_type, options = parse_options_header(content_type)
        boundary = options.get(b"boundary", b"")
        if media_type != b"multipart/form-data" or not boundary:
            raise problem
        try:
            return MultipartParser(
                boundary,
                {
                    "on_part_begin": self._on_part_begin,
                    "on_header_field": self._on_header_field,
                    "on_header_value": self._on_header_value,
                    "on_header_end": self._on_header_end,
                    "on_headers_finished": self._on_headers_finished,
                    "on_part_data": self._on_part_data,
                    "on_part_end": self._on_part_end,
                    "on_end": self._on_end,
                },
            )
        except FormParserError as error:  # longer than any client's
            raise problem from error

    # What follows is called by the parser, in this order for each part.

    def _on_part_begin(self) -> None:
        self._parts += 1
        if self._parts > self._max_fields:
            raise Invalid(f"the form has more than {self._max_fields} fields", status=413)
        self._part = _Part()

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._part.field += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._part.value += data[start:end]

    def _on_header_end(self) -> None:
        part = self._part
        match part.field.lower():
            case b"content-disposition":
                part.disposition = part.value
            case b"content-type":
                part.media_type = part.value.strip().lower()
            case b"content-transfer-encoding":
                part.encoding = part.value.strip().lower()
        part.field = part.value = b""

    def _on_headers_finished(self) -> None:
        part, where = self._part, f"part {self._parts}"
        parameters = _parameters(part.disposition, where)
        name = parameters.get("name")
        if name is None:
            raise Invalid("a part of the form has no name", at=where)
        # Deprecated by RFC 7578 §4.7; no client of an index encodes, and undecoded text would be wrong text.
        if part.encoding not in {b"", b"7bit", b"8bit", b"binary"}:
            raise Invalid(f"the transfer encoding {part.encoding.decode('latin-1')!r} is not supported", at=name)
        self._name = name
        self._count(len(name))
        filename = parameters.get("filename")
        if name in self._file_fields:
            self._begin_file(name, filename)
        elif filename is None:
            part.data = bytearray()
        elif name not in _IGNORED_FILES:
            raise Invalid("Should not be a tuple: this field is text, but was sent as a file.", at=name)

    def _begin_file(self, name: str, filename: str | None) -> None:
        if filename is None:
            raise Invalid("Upload payload does not have a file.", at=name, hint="the part needs a filename parameter")
        if self.filename is not None:
            raise Invalid("the form has two files; send one with each request", at=name)
        if self._part.media_type.startswith(b"image/"):
            raise Invalid("Invalid distribution file: it is sent as an image.", at=name)
        self._part.is_content = True
        try:
            # Percent-encoding is RFC 7578's way to send what a header cannot hold (§4.2). `filename*`
            # is forbidden there (§4.2 again) and ignored.
            self.filename = unquote(filename, errors="strict")
        except UnicodeDecodeError as error:
            raise Invalid(f"the filename {filename!r} is not UTF-8", at=name) from error

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        part = self._part
        if part.is_content:
            self._pieces.append(data if end - start == len(data) else memoryview(data)[start:end])
        elif part.data is not None:
            self._count(end - start)
            part.data += data[start:end]

    def _on_part_end(self) -> None:
        if self._part.data is None:
            return
        try:
            value = self._part.data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise Invalid(f"is not UTF-8: {error.reason} at byte {error.start}", at=self._name) from error
        self._part = _Part()
        if value and value.strip() != "UNKNOWN":
            # PyPI escapes NUL too: no database and no terminal takes it.
            self.fields.setdefault(self._name, []).append(value.replace("\x00", "\\x00"))

    def _on_end(self) -> None:
        self._complete = True

    def _count(self, size: int) -> None:
        self._text_bytes += size
        if self._text_bytes > self._max_field_bytes:
            raise Invalid(f"the text fields are larger than {self._max_field_bytes} bytes", at=self._name, status=413)


def _parameters(disposition: bytes, where: str) -> dict[str, str]:
    """The parameters of a part's Content-Disposition. Quoted or not, the first of a name counts.

    Written out because python-multipart's own cuts Windows paths to their last part (for Internet
    Explorer 6).
    """
    try:
        text = disposition.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Invalid("the Content-Disposition is not UTF-8", at=where) from error
    start = _DISPOSITION.match(text)
    if start is None:
        raise Invalid(f"expected Content-Disposition: form-data, not {text!r}", at=where)
    parameters: dict[str, str] = {}
    position = start.end()
    while match := _PARAMETER.match(text, position):
        name, quoted, plain = match.groups()
        value = plain.rstrip(" \t") if quoted is None else _ESCAPED.sub(r"\1", quoted)
        parameters.setdefault(name.lower(), value)
        position = match.end()
    if text[position:].strip(" \t;"):
        raise Invalid(f"the Content-Disposition is malformed: {text!r}", at=where)
    return parameters


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
