"""Nothing acknowledged is lost and nothing half-written is seen, whoever is killed and whenever."""

import hashlib
import http.client
import itertools
import os
import random
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.distributions.build import wheel_filename, wheel_members, zip_bytes
from tests.e2e.processes import until
from tests.e2e.raw import Form
from tests.e2e.servers import Server, Servers

UPLOADERS = 4
PROJECTS = 3  # so that several uploads want the same record at once
SIZES = (100, 20_000, 900_000)  # bytes of noise: some bodies come in one piece, some in many

ROUNDS = [
    pytest.param(10, id="10 rounds"),
    pytest.param(200, id="200 rounds", marks=[pytest.mark.soak, pytest.mark.timeout(3600)]),
]


class Uploading:
    """Uploads that go on in several threads, whatever happens to the server, and what became of them."""

    def __init__(self, server: Server, numbers: Iterator[int], *, stubborn: bool) -> None:
        self.acknowledged: list[Form] = []
        self.refused: list[str] = []
        self._server = server
        self._token = server.first_token
        self._numbers = numbers
        self._stubborn = stubborn
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(UPLOADERS)]

    @contextmanager
    def running(self) -> Iterator[None]:
        for thread in self._threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in self._threads:
                thread.join(60)
        assert not any(thread.is_alive() for thread in self._threads)
        assert self.refused == []

    def _work(self) -> None:
        while not self._stop.is_set():
            form = some_wheel(next(self._numbers))
            while not self._publish(form):
                if not self._stubborn or self._stop.is_set():
                    return

    def _publish(self, form: Form) -> bool:
        """Whether it was acknowledged. A client whose connection breaks knows nothing, and may try again."""
        try:
            answer = self._server.upload(form, token=self._token)
        except (OSError, http.client.HTTPException):
            return False
        if answer.status == 200:
            self.acknowledged.append(form)
            return True
        self.refused.append(f"{form.filename}: {answer.status} {answer.text}")
        return False


def some_wheel(number: int) -> Form:
    name, version = f"project-{number % PROJECTS}", f"1.{number}"
    noise = os.urandom(SIZES[number % len(SIZES)])
    return Form(wheel_filename(name, version), zip_bytes(wheel_members(name, version, files={"noise.bin": noise})))


def project_of(form: Form) -> str:
    return form.filename.split("-")[0].replace("_", "-")


def is_as_published(server: Server, form: Form) -> bool:
    return server.download(project_of(form), form.filename) == form.content


def everything_listed_is_sound(server: Server) -> bool:
    pages = {f"project-{number}": server.files(f"project-{number}") for number in range(PROJECTS)}
    return all(
        hashlib.sha256(server.download(project, filename)).hexdigest() == sha256
        for project, page in pages.items()
        for filename, sha256 in page.items()
    )


@pytest.mark.parametrize("rounds", ROUNDS)
def test_what_was_acknowledged_survives_the_death_of_the_server(serve: Servers, rounds: int) -> None:
    numbers, server = itertools.count(), serve(workers=2)
    acknowledged: list[Form] = []
    for _ in range(rounds):
        uploading = Uploading(server, numbers, stubborn=False)
        with uploading.running():
            enough = random.randrange(1, 30)
            until(lambda: len(uploading.acknowledged) >= enough, what="uploads")  # noqa: B023
            threading.Event().wait(random.uniform(0, 0.03))  # any moment between two answers
            server.kill()
        server.start()
        assert all(is_as_published(server, form) for form in uploading.acknowledged)
        acknowledged += uploading.acknowledged
        server.command("check")
    assert all(form.filename in server.files(project_of(form)) for form in acknowledged)
    assert everything_listed_is_sound(server)


@pytest.mark.parametrize("rounds", ROUNDS)
def test_what_was_acknowledged_survives_the_death_of_workers(serve: Servers, rounds: int) -> None:
    server = serve(workers=2)
    uploading = Uploading(server, itertools.count(), stubborn=True)
    with uploading.running():
        for _ in range(rounds):
            enough = len(uploading.acknowledged) + random.randrange(1, 20)
            until(lambda: len(uploading.acknowledged) >= enough, what="uploads")  # noqa: B023
            threading.Event().wait(random.uniform(0, 0.03))
            victims = random.sample(server.workers(), random.choice([1, 1, 1, 2]))
            for victim in victims:
                os.kill(victim, signal.SIGKILL)
            until(lambda: are_replaced(server, victims), what="new workers")  # noqa: B023
    assert server.running
    assert all(is_as_published(server, form) for form in uploading.acknowledged)
    assert everything_listed_is_sound(server)
    server.command("check")


def are_replaced(server: Server, victims: list[int]) -> bool:
    """Whether there are two other workers. A server that has lost too many too quickly may end; it is started again."""
    if not server.running:
        assert "giving up" in server.said()
        server.kill()
        server.start()
    return len(set(server.workers()) - set(victims)) == 2


def test_half_an_upload_leaves_nothing_to_see_and_nothing_in_the_way(serve: Servers) -> None:
    server = serve()
    noise = os.urandom(4 << 20)
    form = Form(wheel_filename("demo"), zip_bytes(wheel_members("demo", files={"noise.bin": noise})))
    upload = server.begin(form)
    upload.send(3 << 20)
    until(lambda: server.staged() >= 1 << 20, what="the first pieces on the disk")
    server.kill()
    upload.drop()
    server.start()
    assert server.files("demo") == {}
    server.command("check")
    assert server.upload(form, token=server.first_token).status == 200
    assert server.download("demo", form.filename) == form.content


def test_a_client_that_dies_leaves_nothing_behind(server: Server) -> None:
    form = Form(wheel_filename("demo"), zip_bytes(wheel_members("demo", files={"noise.bin": os.urandom(4 << 20)})))
    upload = server.begin(form)
    upload.send(3 << 20)
    until(lambda: server.staged() >= 1 << 20, what="the first pieces on the disk")
    upload.drop()
    until(lambda: server.staged() == 0, what="an empty staging folder")
    assert server.files("demo") == {}
    assert server.upload(form, token=server.first_token).status == 200


def test_a_client_that_stalls_is_cut_and_leaves_nothing_behind(serve: Servers) -> None:
    server = serve(config='[server]\nstall = "1 s"\n')
    form = Form(wheel_filename("demo"), zip_bytes(wheel_members("demo", files={"noise.bin": os.urandom(4 << 20)})))
    upload = server.begin(form)
    upload.send(3 << 20)
    until(lambda: server.staged() >= 1 << 20, what="the first pieces on the disk")
    until(lambda: server.staged() == 0, within=15, what="an empty staging folder")
    upload.drop()
    assert server.files("demo") == {}
