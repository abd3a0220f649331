"""Files that come as streams, through a real process."""

import http.client
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.e2e.processes import clean_environment, free_port, until
from tests.web.streaming import BROKEN, LONG, MANY, PIECE, TAKEN

ROOT = Path(__file__).parents[2]


class Streaming:
    """The process."""

    def __init__(self, port: int, said: Path) -> None:
        self._port = port
        self.said = said

    @contextmanager
    def ask(self, filename: str) -> Iterator[http.client.HTTPResponse]:
        with closing(http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)) as connection:
            connection.request("GET", f"/files/demo/{filename}", headers={"Host": "localhost"})
            with connection.getresponse() as answer:
                yield answer

    def taken(self) -> tuple[int, int]:
        """How many streams run, and how many bytes were taken from them."""
        with self.ask(TAKEN) as answer:
            running, taken = answer.read().split()
        return int(running), int(taken)

    def answers(self) -> bool:
        try:
            self.taken()
        except OSError:
            return False
        return True


@pytest.fixture
def streaming(tmp_path: Path) -> Iterator[Streaming]:
    port, said = free_port(), tmp_path / "said"
    command = [sys.executable, "-m", "tests.web.streaming", str(port)]
    with said.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, cwd=ROOT, env=clean_environment())
    try:
        streaming = Streaming(port, said)
        until(streaming.answers, what="the server")
        yield streaming
    finally:
        process.terminate()
        assert process.wait(10) == 0


def test_a_stream_arrives_whole(streaming: Streaming) -> None:
    with streaming.ask(LONG) as answer:
        assert (answer.status, len(answer.read())) == (200, len(PIECE) * MANY)


def test_a_stream_that_breaks_does_not_look_complete(streaming: Streaming) -> None:
    with streaming.ask(BROKEN) as answer, pytest.raises(http.client.IncompleteRead):
        answer.read()
    until(lambda: "was cut off: the disk broke" in streaming.said.read_text(), what="the log")
    assert "Traceback" not in streaming.said.read_text()


def test_a_client_that_goes_away_ends_the_stream(streaming: Streaming) -> None:
    for _ in range(3):
        with streaming.ask(LONG) as answer:
            assert answer.read(10) == bytes(10)
    until(lambda: streaming.taken()[0] == 0, what="the streams to be closed")
    assert streaming.taken()[1] < 3 * len(PIECE) * MANY
    assert "Traceback" not in streaming.said.read_text()


def test_a_client_that_does_not_read_makes_the_stream_wait(streaming: Streaming) -> None:
    with streaming.ask(LONG):
        end = time.monotonic() + 1
        while time.monotonic() < end and streaming.taken()[0]:
            assert streaming.taken()[1] < 20_000_000
