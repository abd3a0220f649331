"""Three nodes on one bucket of a real object store: they answer as one, whoever of them dies."""

import asyncio
import itertools
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.distributions.build import wheel_filename, wheel_members, zip_bytes
from tests.e2e.clients import Pip, Twine, Uv, Venv
from tests.e2e.nodes import config
from tests.e2e.packages import Built
from tests.e2e.processes import until
from tests.e2e.raw import Form
from tests.e2e.servers import Options, Server, Servers
from tests.servers.buckets import rgw, without_swaps
from tests.servers.faults import proxied

pytestmark = pytest.mark.timeout(300)


class Cluster:
    """Nodes that share a bucket and nothing else."""

    def __init__(self, serve: Servers, text: str, count: int = 3, workers: int = 1) -> None:
        self.first = serve(config=text, workers=workers, args=["--create"])
        self.nodes = [self.first, *(serve(config=text, workers=workers) for _ in range(count - 1))]
        self.token = self.first.first_token

    def __iter__(self) -> Iterator[Server]:
        return iter(self.nodes)


@pytest.fixture
def cluster(serve: Servers) -> Cluster:
    bucket = rgw()
    return Cluster(serve, config(bucket, bucket.fresh()))


def wheel(name: str, version: str, noise: bytes = b"") -> Form:
    return Form(wheel_filename(name, version), zip_bytes(wheel_members(name, version, files={"noise.bin": noise})))


def test_what_one_node_publishes_every_node_installs(
    cluster: Cluster, twine: Twine, pip: Pip, uv: Uv, shouter: Built, new_venv: Callable[[], Venv]
) -> None:
    one, two, three = cluster
    twine.publish(one.legacy, cluster.token, *shouter.files).ok()
    for client, server in ((pip, two), (uv, three), (pip, one)):
        venv = new_venv()
        client.install(venv, server.simple, "shouter").ok()
        assert venv.has() == {"shouter": "1.2"}


def test_a_store_that_is_named_for_the_first_time_is_made_on_request_only(serve: Servers) -> None:
    bucket = rgw()
    text = config(bucket, bucket.fresh())
    refused = serve.prepare(Options(data=serve._folder / "refused", config=text))
    assert "there is no store here" in refused.start_in_vain()
    serve(config=text, args=["--create"])


def test_a_wrong_secret_is_told_at_the_start_and_not_printed(serve: Servers) -> None:
    bucket = rgw()
    text = config(bucket, bucket.fresh(), secret_access_key="hunter2hunter2")
    said = serve.prepare(Options(data=serve._folder / "refused", config=text)).start_in_vain()
    assert "refuses us: 403 SignatureDoesNotMatch" in said
    assert "hunter2" not in said
    assert "Traceback" not in said


def test_uploads_yanks_deletes_and_tokens_reach_every_node_within_a_second(cluster: Cluster) -> None:
    one, two, three = cluster
    form = wheel("demo", "1.0")
    for node in cluster:
        assert node.files("demo") == {}  # everybody knows that it is absent

    def soon(what: str, seen: Callable[[], bool]) -> None:
        began = time.monotonic()
        until(seen, within=5, what=what)
        assert time.monotonic() - began < 2.0  # one second, and a slow machine

    assert one.upload(form, token=cluster.token).status == 200
    assert list(one.files("demo")) == [form.filename]  # at once where it was written
    soon("the upload", lambda: all(node.files("demo") for node in cluster))
    two.command("yank", "demo==1.0", "--reason", "broken")

    def yanked(node: Server) -> bool:
        page = node.get("/simple/demo/", {"Accept": "application/vnd.pypi.simple.v1+json"}).json()
        return bool(page["files"] and page["files"][0]["yanked"])

    soon("the yank", lambda: all(map(yanked, cluster)))
    three.command("delete", "demo==1.0", "--yes")
    soon("the delete", lambda: not any(node.files("demo") for node in cluster))
    token = one.token("upload", name="short-lived")
    assert two.upload(wheel("other", "1.0"), token=token).status == 200
    one.command("token", "revoke", "short-lived", "--yes")
    soon("the end of a token", lambda: two.upload(wheel("other", "2.0"), token=token).status == 401)


def test_all_workers_of_a_node_see_a_write_at_once(serve: Servers) -> None:
    bucket = rgw()
    [node] = Cluster(serve, config(bucket, bucket.fresh()), count=1, workers=3)
    for number in range(12):
        form = wheel("demo", f"1.{number}")
        assert node.upload(form, token=node.first_token).status == 200
        assert all(form.filename in node.files("demo") for _ in range(9))


def test_nothing_is_lost_or_doubled_while_nodes_die(cluster: Cluster) -> None:
    numbers, stop = itertools.count(), threading.Event()
    acknowledged: list[Form] = []
    refused: list[str] = []

    def publish(form: Form) -> None:
        """As a client that tries again, at any node, until somebody says that it is there."""
        while not stop.is_set():
            try:
                answer = random.choice(cluster.nodes).upload(form, token=cluster.token)
            except OSError:
                continue
            if answer.status == 200:
                acknowledged.append(form)
                return
            if answer.status < 500:
                refused.append(f"{form.filename}: {answer.status} {answer.text}")
                return

    def work() -> None:
        while not stop.is_set():
            number = next(numbers)
            publish(wheel(f"project-{number % 3}", f"1.{number}", random.randbytes(random.choice((10, 200_000)))))

    with ThreadPoolExecutor(4) as pool:
        working = [pool.submit(work) for _ in range(4)]
        try:
            for _ in range(5):
                enough = len(acknowledged) + random.randrange(4, 20)
                until(lambda: len(acknowledged) >= enough, within=30, what="uploads")  # noqa: B023
                victim = random.choice(cluster.nodes)
                victim.kill()
                until(lambda: len(acknowledged) >= enough + 3, within=30, what="uploads by the others")  # noqa: B023
                victim.start()
        finally:
            stop.set()
        for each in working:
            each.result(60)
    assert refused == []
    names = [form.filename for form in acknowledged]
    assert len(set(names)) == len(names)
    for node in cluster:
        until(lambda: set(names) <= set(_listed(node)), within=5, what="the last upload")  # noqa: B023
        listed = _listed(node)
        assert len(set(listed)) == len(listed)
    for form in random.sample(acknowledged, 10):
        assert cluster.first.download(form.filename.split("-")[0].replace("_", "-"), form.filename) == form.content
    cluster.first.command("check")


def _listed(node: Server) -> list[str]:
    return [name for number in range(3) for name in node.files(f"project-{number}")]


def test_where_there_is_no_compare_and_swap_one_node_writes(serve: Servers) -> None:
    bucket = without_swaps()
    url = bucket.fresh()
    writer = serve(config=config(bucket, url, "writer = true"), args=["--create"], workers=2)
    reader = serve(config=config(bucket, url))
    forms = [wheel("demo", f"1.{number}") for number in range(6)]
    with ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(lambda form: writer.upload(form, token=writer.first_token).status, forms))
    assert answers == [200] * 6
    until(lambda: len(reader.files("demo")) == 6, within=5, what="all six")
    refused = reader.upload(wheel("demo", "2.0"), token=writer.first_token)
    assert refused.status == 503
    assert "one node alone writes to it" in refused.text
    writer.command("check")


def test_downloads_may_be_redirected_to_the_bucket(serve: Servers) -> None:
    bucket = rgw()
    [node] = Cluster(serve, config(bucket, bucket.fresh(), 'deliver = "redirect"'), count=1)
    form = wheel("demo", "1.0", random.randbytes(100_000))
    assert node.upload(form, token=node.first_token).status == 200
    path = f"/files/demo/{form.filename}"
    answer = node.get(path)
    assert (answer.status, answer.headers["cache-control"]) == (302, "no-store")
    address = answer.headers["location"]
    assert address.startswith(bucket.endpoint)

    assert httpx.get(address).content == form.content
    part = httpx.get(address, headers={"Range": "bytes=5-9"})
    assert (part.status_code, part.content) == (206, form.content[5:10])
    head = node.ask("HEAD", path)
    assert (head.status, head.headers["content-length"]) == (200, str(len(form.content)))
    etag = head.headers["etag"]
    assert node.get(path, {"If-None-Match": etag}).status == 304
    assert node.get(path, {"Range": "bytes=5-9"}).status == 302
    assert node.get(path, {"Range": f"bytes={len(form.content)}-"}).status == 416
    node.command("delete", "demo==1.0", "--yes")
    until(lambda: node.get(path).status == 404, within=5, what="the end of its address")


def test_downloads_stream_with_ranges_and_heads(cluster: Cluster, tmp_path: Path) -> None:
    form = wheel("demo", "1.0", random.randbytes(3_000_000))
    assert cluster.first.upload(form, token=cluster.token).status == 200
    node, path = cluster.nodes[1], f"/files/demo/{form.filename}"
    until(lambda: node.files("demo"), within=5, what="the upload")
    assert node.get(path).body == form.content
    part = node.get(path, {"Range": "bytes=1000000-1999999"})
    assert (part.status, part.body) == (206, form.content[1_000_000:2_000_000])
    head = node.ask("HEAD", path)
    assert (head.status, head.headers["content-length"]) == (200, str(len(form.content)))
    assert node.get(path, {"If-None-Match": head.headers["etag"]}).status == 304


async def test_while_the_bucket_is_down_known_pages_are_served_and_nothing_is_accepted(serve: Servers) -> None:
    bucket, form = rgw(), wheel("demo", "1.0")
    async with proxied(bucket.endpoint) as proxy:
        text = config(bucket, bucket.fresh(), endpoint=proxy.endpoint)
        node = await asyncio.to_thread(serve, config=text, args=["--create"])
        token = node.first_token
        assert (await asyncio.to_thread(node.upload, form, token=token)).status == 200
        assert list(await asyncio.to_thread(node.files, "demo")) == [form.filename]
        for method in ("GET", "HEAD", "PUT", "POST", "DELETE"):
            proxy.next("503", method, times=1_000_000)
        while not proxy.done:  # what is known grows old, and is asked for in vain
            assert list(await asyncio.to_thread(node.files, "demo")) == [form.filename]
        assert list(await asyncio.to_thread(node.files, "demo")) == [form.filename]
        refused = await asyncio.to_thread(node.upload, wheel("demo", "2.0"), token=token)
        assert refused.status == 503
        assert int(refused.headers["retry-after"]) > 0
        assert (await asyncio.to_thread(node.get, "/simple/unknown/")).status == 503  # and never 404
        assert (await asyncio.to_thread(node.get, "/ready")).status == 503
        assert (await asyncio.to_thread(node.get, "/health")).status == 200
        await asyncio.to_thread(serve.end)
