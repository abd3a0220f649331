"""The memory of a worker does not depend on the size of what passes through it."""

import zipfile
from pathlib import Path

import pytest

from tests.distributions.build import record_line, wheel_filename, wheel_members
from tests.e2e.nodes import config
from tests.e2e.processes import peak_memory
from tests.e2e.raw import Form
from tests.e2e.servers import Server, Servers
from tests.servers.buckets import rgw

MIB = 1 << 20
ALLOWED = 64 * MIB

SIZES = [
    pytest.param(64 * MIB, id="64 MiB"),
    pytest.param(2048 * MIB, id="2 GiB", marks=[pytest.mark.soak, pytest.mark.timeout(900)]),
]


@pytest.mark.parametrize("size", SIZES)
def test_a_large_wheel_comes_and_goes_in_constant_memory(serve: Servers, dist: Path, size: int) -> None:
    server = serve()
    [worker] = server.workers()
    server.publish(large_wheel(dist, "small", MIB))  # so that all code that will run has run
    wheel = large_wheel(dist, "large", size)
    before = peak_memory(worker)
    answer = server.upload(Form(wheel.name, wheel), token=server.first_token)
    assert answer.status == 200, answer
    assert peak_memory(worker) - before < ALLOWED
    read_through(server, f"/files/large/{wheel.name}", {}, status=200, size=wheel.stat().st_size)
    part = {"Range": f"bytes=1-{size}"}
    read_through(server, f"/files/large/{wheel.name}", part, status=206, size=size)
    assert peak_memory(worker) - before < ALLOWED
    assert server.workers() == [worker]


@pytest.mark.parametrize(
    "size",
    [
        pytest.param(128 * MIB, id="128 MiB"),
        pytest.param(1024 * MIB, id="1 GiB", marks=[pytest.mark.soak, pytest.mark.timeout(900)]),
    ],
)
def test_so_it_does_to_a_bucket_and_from_it(serve: Servers, dist: Path, size: int) -> None:
    bucket = rgw()
    server = serve(config=config(bucket, bucket.fresh()), args=["--create"])
    [worker] = server.workers()
    server.publish(large_wheel(dist, "small", 16 * MIB))
    read_through(server, f"/files/small/{wheel_filename('small')}", {"Range": "bytes=0-99"}, status=206, size=100)
    wheel = large_wheel(dist, "large", size)
    before = peak_memory(worker)
    server.publish(wheel)
    read_through(server, f"/files/large/{wheel.name}", {}, status=200, size=wheel.stat().st_size)
    read_through(server, f"/files/large/{wheel.name}", {"Range": f"bytes=1-{size}"}, status=206, size=size)
    assert peak_memory(worker) - before < ALLOWED
    assert server.workers() == [worker]


def test_what_is_refused_for_its_size_does_not_fill_the_memory(serve: Servers, dist: Path) -> None:
    server = serve(config='[server]\nmax-upload = "1 MiB"\n')
    [worker] = server.workers()
    before = peak_memory(worker)
    form = Form("demo-1.0-py3-none-any.whl", bytes(32 * MIB))
    assert server.upload(form, token=server.first_token).status == 413
    assert peak_memory(worker) - before < ALLOWED / 2
    assert server.staged() == 0


def read_through(server: Server, path: str, headers: dict[str, str], *, status: int, size: int) -> None:
    connection = server.connect()
    try:
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        assert response.status == status
        left = size
        while piece := response.read(MIB):
            left -= len(piece)
        assert left == 0
    finally:
        connection.close()


def large_wheel(folder: Path, name: str, size: int) -> Path:
    """A wheel of `size` bytes and a little, made without holding it in memory."""
    part = bytes(range(256)) * (MIB // 256)
    path = folder / wheel_filename(name)
    members = wheel_members(name, record=False)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        lines = []
        for number, start in enumerate(range(0, size, 64 * MIB)):
            content = part * (min(64 * MIB, size - start) // MIB)
            archive.writestr(f"{name}/part_{number}.bin", content)
            lines.append(record_line(f"{name}/part_{number}.bin", content))
        for member, data in members.items():
            archive.writestr(member, data)
            lines.append(record_line(member, data))
        record = f"{name}-1.0.dist-info/RECORD"
        archive.writestr(record, "".join(lines) + f"{record},,\n")
    return path
