"""HTTP by hand, over the standard library only: what no client lets a test say."""

import base64
import hashlib
import http.client
import json
import secrets
import socket
import ssl
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

JSON = "application/vnd.pypi.simple.v1+json"
HTML = "application/vnd.pypi.simple.v1+html"
Body = bytes | Iterable[bytes] | None
Connection = http.client.HTTPConnection

_PIECE = 1 << 20


class _OverUnix(Connection):
    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def connect(port: int, *, uds: Path | None = None, ca: Path | None = None, timeout: float = 30) -> Connection:
    if uds is not None:
        return _OverUnix(uds, timeout)
    if ca is not None:
        context = ssl.create_default_context(cafile=str(ca))
        return http.client.HTTPSConnection("127.0.0.1", port, timeout=timeout, context=context)
    return Connection("127.0.0.1", port, timeout=timeout)


@dataclass(frozen=True)
class Answer:
    """A response, read to its end. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    def json(self) -> Any:
        return json.loads(self.body)


def ask(connection: Connection, method: str, path: str, headers: Mapping[str, str], body: Body = None) -> Answer:
    """One request, after which the connection is closed."""
    try:
        # As urllib3 does: a server that has read enough to refuse may close while the rest is on its way.
        with suppress(BrokenPipeError):
            connection.request(method, path, body, dict(headers))
        return answer_of(connection.getresponse())
    finally:
        connection.close()


def answer_of(response: http.client.HTTPResponse) -> Answer:
    headers = {name.lower(): value for name, value in response.getheaders()}
    return Answer(response.status, headers, response.read())


def basic(token: str) -> str:
    return "Basic " + base64.b64encode(f"__token__:{token}".encode()).decode()


class Form:
    """A legacy upload as twine would send it. A file on the disk is never read into memory as a whole."""

    def __init__(self, filename: str, content: bytes | Path, **changes: str) -> None:
        self.filename = filename
        self.content = content
        self._boundary = secrets.token_hex(16)
        self._size, sha256 = _measured(content)
        fields = {**_told_by(filename), ":action": "file_upload", "protocol_version": "1", "metadata_version": "2.1"}
        fields = {**fields, "sha256_digest": sha256, **changes}
        self.head = "".join(self._part(f'name="{name}"', value) for name, value in fields.items()).encode()
        self.head += self._part(f'name="content"; filename="{filename}"', "").removesuffix("\r\n").encode()
        self.tail = f"\r\n--{self._boundary}--\r\n".encode()

    @property
    def headers(self) -> dict[str, str]:
        return {
            "Content-Type": f"multipart/form-data; boundary={self._boundary}",
            "Content-Length": str(len(self.head) + self._size + len(self.tail)),
        }

    def body(self) -> Iterator[bytes]:
        yield self.head
        yield from _pieces(self.content)
        yield self.tail

    def _part(self, disposition: str, value: str) -> str:
        return f"--{self._boundary}\r\nContent-Disposition: form-data; {disposition}\r\n\r\n{value}\r\n"


def _told_by(filename: str) -> dict[str, str]:
    if filename.endswith(".whl"):
        name, version, *_, python, _abi, _platform = filename.removesuffix(".whl").split("-")
        return {"name": name, "version": version, "filetype": "bdist_wheel", "pyversion": python}
    name, _, version = filename.removesuffix(".tar.gz").rpartition("-")
    return {"name": name, "version": version, "filetype": "sdist", "pyversion": "source"}


def _measured(content: bytes | Path) -> tuple[int, str]:
    size, digest = 0, hashlib.sha256()
    for piece in _pieces(content):
        size += len(piece)
        digest.update(piece)
    return size, digest.hexdigest()


def _pieces(content: bytes | Path) -> Iterator[bytes]:
    if isinstance(content, bytes):
        yield content
        return
    with content.open("rb") as file:
        while piece := file.read(_PIECE):
            yield piece
