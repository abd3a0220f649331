"""What these tests ask a server that mirrors the double."""

import hashlib
import http.client
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests.e2e import raw
from tests.e2e.processes import until
from tests.e2e.raw import Answer
from tests.e2e.servers import Server
from tests.upstream.stock import Item

UNAVAILABLE = frozenset({502, 503, 504})
STALE = "x-entrepot-stale"
BROKEN = (http.client.HTTPException, OSError)  # how an answer ends that was cut

_numbers = count(1)


def fresh(word: str = "demo") -> str:
    """A project name that no other test has."""
    return f"{word}{next(_numbers)}"


def ask_page(server: Server, name: str, *, accept: str = raw.JSON, index: str = "") -> Answer:
    return server.get(f"{index}/simple/{name}/", {"Accept": accept})


def page(server: Server, name: str, *, index: str = "") -> dict[str, Any]:
    """The JSON page; it must be there."""
    answer = ask_page(server, name, index=index)
    assert answer.status == 200, answer
    told: dict[str, Any] = answer.json()
    return told


def listed(server: Server, name: str, *, index: str = "") -> dict[str, dict[str, Any]]:
    """What the page says of each file."""
    return {file["filename"]: file for file in page(server, name, index=index)["files"]}


def names(server: Server, name: str) -> set[str]:
    return set(listed(server, name))


def path_of(name: str, item: Item | str) -> str:
    return f"/files/{name}/{item if isinstance(item, str) else item.filename}"


def download(server: Server, name: str, item: Item, headers: Mapping[str, str] | None = None) -> Answer:
    """Of the file, by the URL that its page gives."""
    url = str(listed(server, name)[item.filename]["url"])
    return server.get(joined(name, url), headers)


def joined(name: str, url: str) -> str:
    """The path of a file's URL on the page, which must lie on our own host."""
    assert "://" not in url, f"{url} leads away from us"
    path = url.partition("#")[0]
    return path if path.startswith("/") else f"/simple/{name}/{path}".replace(f"/simple/{name}/../../", "/")


def metadata(server: Server, name: str, item: Item) -> Answer:
    return server.get(f"{path_of(name, item)}.metadata")


def assert_unavailable(answer: Answer) -> None:
    """A failure that sends no client to another index, and tells it when to come again."""
    assert answer.status in UNAVAILABLE, answer
    assert int(answer.headers["retry-after"]) > 0


def assert_never_whole(server: Server, name: str, item: Item) -> None:
    """What upstream's bytes cannot make true must not reach the client as a whole."""
    try:
        answer = server.get(path_of(name, item))
    except BROKEN:
        return
    assert answer.status in UNAVAILABLE, answer


# What lies in the store.


def blobs(server: Server, index: str = "upstream") -> dict[str, int]:
    """The files of an index that were committed, and their sizes."""
    found = {}
    for folder, _, filenames in os.walk(server.data / "store" / index / "blobs"):  # which bears what is taken away
        for filename in filenames:
            with suppress(FileNotFoundError):
                found[filename] = os.stat(f"{folder}/{filename}").st_size
    return found


def is_kept(server: Server, item: Item) -> bool:
    """Its bytes are there, and a record names them."""
    if blobs(server).get(item.filename) != len(item.data):
        return False
    records = (server.data / "store" / "upstream" / "projects").glob("*.json")
    return any(f'"{item.filename}"' in record.read_text() for record in records)


def until_kept(server: Server, item: Item) -> None:
    """Its bytes are in the store and, which comes last, its record."""
    until(lambda: is_kept(server, item), within=20, what=f"{item.filename} in the store")
    records, told = server.data / "store" / "upstream" / "projects", f'"{item.filename}"'
    until(
        lambda: any(told in record.read_text() for record in records.glob("*.json")),
        within=20,
        what=f"a record of {told}",
    )


def blob_of(server: Server, item: Item) -> Path:
    [path] = (server.data / "store" / "upstream" / "blobs").rglob(item.filename)
    return path


# Downloads that a test reads piece by piece.


class Download:
    """One request whose answer is read as the test wants."""

    def __init__(self, server: Server, path: str, headers: Mapping[str, str] | None = None) -> None:
        self._connection = server.connect(timeout=20)
        self._connection.request("GET", path, headers=dict(headers or {}))
        self._response: http.client.HTTPResponse | None = None

    @property
    def response(self) -> http.client.HTTPResponse:
        """Waits for the head."""
        if self._response is None:
            self._response = self._connection.getresponse()
        return self._response

    def read(self, size: int) -> bytes:
        """So many bytes."""
        data = self.response.read(size)
        assert len(data) == size
        return data

    def rest(self) -> bytes:
        return self.response.read()

    def digest(self) -> str:
        """Of all that comes, which is not held in memory."""
        digest = hashlib.sha256()
        while piece := self.response.read(1 << 20):
            digest.update(piece)
        return digest.hexdigest()

    def close(self) -> None:
        self._connection.close()
        if self._response is not None:
            self._response.close()


@contextmanager
def downloading(server: Server, name: str, item: Item, headers: Mapping[str, str] | None = None) -> Iterator[Download]:
    download = Download(server, path_of(name, item), headers)
    try:
        yield download
    finally:
        download.close()


def said(server: Server, *words: str) -> None:
    """The log has a line with all these words."""

    def found() -> bool:
        return any(all(word in line for word in words) for line in server.said().splitlines())

    try:
        until(found, within=5, what="the log")
    except pytest.fail.Exception:
        pytest.fail(f"no line with {words} in the log:\n{server.said()}")
