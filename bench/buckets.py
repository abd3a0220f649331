"""Rows of nodes on a bucket: Ceph's gateway, in memory, beside a disk. It takes some minutes; `make servers` first."""

import asyncio
import base64
import contextlib
import gzip
import hashlib
import http.client
import io
import itertools
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import urlsplit

import obstore
from msgspec.structs import replace
from obstore.store import S3Store

from bench import servers
from bench.corpus import wheel, wheels
from bench.lab import Lab
from bench.load import Load
from bench.mirror import MIB
from bench.processes import FAILURES, JSON_PAGE, Running, Unmeasured, ask, free_port, proportional_memory, start
from bench.results import Line, Row, Target, interleaved, most_target, ratio_target
from bench.servers import page_headers
from bench.uploads import Door, answer_of, request, upload
from entrepot.assembly import main_store, open_stores
from entrepot.config import load
from entrepot.index import Store
from entrepot.model import ProjectName
from entrepot.sources.names import Names
from entrepot.stores.documents import read_bytes
from tests.e2e.nodes import config
from tests.e2e.processes import peak_memory
from tests.servers.buckets import Bucket, rgw

ON_DISK, IN_BUCKET = "on disk", "in a bucket"
NODES, UPLOADERS, FILES, PROJECTS = 3, 4, 600, 10
COLD = 60
LARGE = 1 << 30
ARCHIVES, ARCHIVE_SIZE = 40, 4 << 20
MANY = 100_000


@dataclass(slots=True)
class Node:
    """A server on the bucket, which can be killed and started again."""

    lab: Lab
    text: str  # its configuration
    home: Path
    create: bool = False
    port: int = field(default_factory=free_port)
    running: Running | None = None

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def alive(self) -> Running:
        assert self.running is not None
        return self.running

    def start(self) -> None:
        self.home.mkdir(parents=True, exist_ok=True)
        file = self.home / "entrepot.toml"
        file.write_text(self.text)
        command: servers.Command = [self.lab.tools.entrepot, "serve", "--config", file, "--data", self.home / "data"]
        command += ["--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"]
        self.running = start([*command, *(["--create"] if self.create else [])], self.home / "log")
        servers.ready(self.running, f"{self.base}/health")
        self.create = False

    def kill(self) -> None:
        os.killpg(self.alive.pid, signal.SIGKILL)
        self.alive.process.wait()

    def door(self) -> Door:
        command: servers.Command = [self.lab.tools.entrepot, "token", "create", f"bench-{self.port}", "--can", "upload"]
        command += ["--config", self.home / "entrepot.toml", "--data", self.home / "data", "--json"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        if done.returncode:
            raise Unmeasured(f"entrepot token create: {done.stderr.strip()[-200:]}")
        return Door(url=f"{self.base}/legacy/", user="__token__", password=json.loads(done.stdout)["token"])


def measure_buckets(lab: Lab) -> tuple[list[Row], list[Target]]:
    if shutil.which("radosgw") is None:
        raise Unmeasured("there is no radosgw; `make servers` installs it")
    bucket = rgw()
    rows: list[Row] = []
    targets: list[Target] = []
    for measure in (_pages, _cold_pages, _many_writers, _large_file, _archives, _many_projects):
        print(f"  {measure.__name__.strip('_').replace('_', ' ')}", flush=True)
        try:
            more, held = measure(lab, bucket)
        except FAILURES as error:
            more, held = (
                [Row(title=measure.__name__.strip("_"), unit="", lines=[Line(name=IN_BUCKET, note=str(error))])],
                [],
            )
        rows += more
        targets += held
    return rows, targets


@contextlib.contextmanager
def _nodes(lab: Lab, bucket: Bucket, count: int) -> Iterator[list[Node]]:
    """Nodes on a new folder of the bucket."""
    text, home = config(bucket, bucket.fresh()), lab.fresh("nodes")
    nodes = [Node(lab, text, home / str(number), create=number == 0) for number in range(count)]
    try:
        for node in nodes:
            node.start()
        yield nodes
    finally:
        for node in nodes:
            if node.running is not None:
                node.running.stop()


# Pages.


def _pages(lab: Lab, bucket: Bucket) -> tuple[list[Row], list[Target]]:
    """Warm, by wrk, of the same project on both."""
    made = list(wheels(["acme"], [f"1.{number}.0" for number in range(25)]))
    disk = servers.entrepot(lab.tools, lab.fresh("disk"), lab.log("disk"))
    with lab.keeping(disk.running), _nodes(lab, bucket, 1) as [node]:
        upload(disk.door(), made)
        upload(node.door(), made)
        lab.running.append(node.alive)
        urls = {ON_DISK: disk.page("acme"), IN_BUCKET: f"{node.base}/simple/acme/"}
        owners = {ON_DISK: disk.running, IN_BUCKET: node.alive}

        def pressing(name: str) -> Callable[[], float]:
            headers = page_headers(compressed=False)
            lab.press(owners[name], urls[name], headers, Load(connections=4, seconds=1))
            return lambda: lab.press(owners[name], urls[name], headers, lab.load(name))

        lines = interleaved({name: pressing(name) for name in urls}, lab.rounds)
        lab.running.remove(node.alive)
    about = "Of 25 uploaded files; the bucket is asked at most once a second whether the page changed."
    row = Row(title="warm page of a node", unit="pages/s", about=about, baseline=ON_DISK, lines=lines)
    return [row], [ratio_target(row, IN_BUCKET, 0.9)]


def _cold_pages(lab: Lab, bucket: Bucket) -> tuple[list[Row], list[Target]]:
    """The first request for a project, by a node that did not write it."""
    names = [f"acme-{number:03}" for number in range(COLD)]
    with _nodes(lab, bucket, 2) as [writer, reader]:
        upload(writer.door(), list(wheels(names, ["1.0.0"])), 4)
        store = _store(bucket, writer)
        keys = [f"private/projects/{name}.json" for name in names]
        small = asyncio.run(_small_reads(store, keys))
        connection = http.client.HTTPConnection("127.0.0.1", reader.port, timeout=60)
        took = [_timed_get(connection, f"/simple/{name}/") for name in names]
        connection.close()
    lines = [
        Line(name="the bucket's own GET of such a record", values=[1000 * value for value in small]),
        Line(name="cold page", values=[1000 * value for value in took]),
    ]
    about = "One after the other; the first request of a node's life is not counted."
    row = Row(title="cold page of a node", unit="ms", about=about, baseline=lines[0].name, lines=lines)
    ratio = median(took) / median(small)
    wanted = "< 3 × the bucket's own GET"
    return [row], [Target(what="cold page of a node", wanted=wanted, measured=f"{ratio:.2f} ×", met=ratio < 3)]


def _store(bucket: Bucket, node: Node) -> Store:
    assert bucket.url in node.text
    return open_stores(load(node.home / "entrepot.toml", environ={}))["main"]


async def _small_reads(store: Store, keys: list[str]) -> list[float]:
    await read_bytes(store, keys[0])
    took = []
    for key in keys:
        began = time.perf_counter()
        await read_bytes(store, key)
        took.append(time.perf_counter() - began)
    return took


def _timed_get(connection: http.client.HTTPConnection, path: str) -> float:
    began = time.perf_counter()
    connection.request("GET", path, headers={"Accept": JSON_PAGE})
    response = connection.getresponse()
    response.read()
    assert response.status == 200, f"{path}: {response.status}"
    return time.perf_counter() - began


# Writers.


def _many_writers(lab: Lab, bucket: Bucket) -> tuple[list[Row], list[Target]]:
    names = [f"acme-{number}" for number in range(PROJECTS)]
    title = f"{NODES} nodes, {UPLOADERS} uploaders each, {FILES} files into {PROJECTS} projects"
    row = Row(title=title, unit="files/s")
    targets = []
    for label, dying in (("all live", False), ("one is killed every 2 s", True)):
        with _nodes(lab, bucket, NODES) as nodes:
            made = list(wheels(names, [f"1.{number}.0" for number in range(FILES // PROJECTS)]))
            random.shuffle(made)
            rate, killed = _published(nodes, made, dying=dying)
            lost, doubled = _missed(nodes, {one.filename for one in made}, names)
        line = Line(name=label, values=[rate])
        line.note = f"{lost} lost, {doubled} doubled" + (f", {killed} kills" if dying else "")
        row.lines.append(line)
        met = not lost and not doubled
        targets.append(Target(what=f"{title}, {label}", wanted="0 lost, 0 doubled", measured=line.note, met=met))
    return [row], targets


def _published(nodes: list[Node], made: list[Any], *, dying: bool) -> tuple[float, int]:
    """Files per second, and how often a node was killed. Each uploader tries until somebody says that it is there."""
    door = nodes[0].door()
    requests = iter([request(door, one) for one in made])
    turn, over = threading.Lock(), threading.Event()

    def work(node: Node) -> None:
        while True:
            with turn:
                wanted = next(requests, None)
            if wanted is None:
                return
            others = itertools.cycle([node, *random.sample(nodes, len(nodes))])
            while not _accepted(next(others).port, wanted):
                pass

    began = time.monotonic()
    with ThreadPoolExecutor(NODES * UPLOADERS) as pool:
        working = [pool.submit(work, node) for node in nodes for _ in range(UPLOADERS)]
        deaths: list[int] = []
        killer = threading.Thread(target=_kill, args=(nodes, over, deaths))
        if dying:
            killer.start()
        try:
            for each in working:
                each.result()
            took = time.monotonic() - began
        finally:
            over.set()
            if dying:
                killer.join()
    return len(made) / took, len(deaths)


def _kill(nodes: list[Node], over: threading.Event, deaths: list[int]) -> None:
    while not over.wait(2):
        victim = random.choice(nodes)
        victim.kill()
        deaths.append(victim.port)
        victim.start()


def _accepted(port: int, wanted: bytes) -> bool:
    """Whether a node said 200. One that dies, or is not there, says nothing."""
    try:
        with socket.create_connection(("127.0.0.1", port), 30) as peer:
            peer.sendall(wanted)
            status, _, text = answer_of(peer)
    except (OSError, Unmeasured):
        return False
    if status not in {200, 500, 502, 503, 504}:
        raise Unmeasured(f"an upload was answered {status}: {text[:200]!r}")
    return status == 200


def _missed(nodes: list[Node], wanted: set[str], names: list[str]) -> tuple[int, int]:
    """How many files some node does not list, and how many one lists twice; all may take a second to see the last."""
    time.sleep(1.5)
    lost = doubled = 0
    for node in nodes:
        listed: list[str] = []
        for name in names:
            page = json.loads(ask(f"{node.base}/simple/{name}/", {"Accept": JSON_PAGE}).body)
            listed += [entry["filename"] for entry in page["files"]]
        lost = max(lost, len(wanted - set(listed)))
        doubled = max(doubled, len(listed) - len(set(listed)))
    return lost, doubled


# One large file.


def _large_file(lab: Lab, bucket: Bucket) -> tuple[list[Row], list[Target]]:
    size = LARGE // 8 if lab.quick else LARGE
    path = _large_wheel(lab.fresh("large"), size)
    with _nodes(lab, bucket, 1) as [node]:
        door = node.door()
        upload(door, [wheel("small", "1.0.0")])
        worker = node.alive.family()[-1]
        ask(f"{node.base}/files/small/small-1.0.0-py3-none-any.whl")
        before = peak_memory(worker)
        sent = _sent(door, path)
        got = _got(f"{node.base}/files/large/{path.name}", size)
        grown = (peak_memory(worker) - before) / MIB
    alone_up, alone_down = _by_obstore(bucket, path)
    speeds = Row(title=f"a file of {size // MIB:,} MiB", unit="MB/s")
    for name, took, note in (
        ("upload by a node", sent, "hashed, its RECORD verified, then put"),
        ("upload by obstore alone", alone_up, "put"),
        ("download by a node", got, ""),
        ("download by obstore alone", alone_down, ""),
    ):
        speeds.lines.append(Line(name=name, values=[size / took / 1e6], note=note))
    line = Line(name="the worker's growth", values=[grown], note="of its peak (VmHWM)")
    memory = Row(title="memory that a large file takes", unit="MiB", lines=[line])
    return [speeds, memory], [most_target(memory, memory.lines[0].name, 64, "< 64 MiB")]


def _large_wheel(folder: Path, size: int) -> Path:
    """A valid one, of bytes that do not compress, written piece by piece."""
    path = folder / "large-1.0.0-py3-none-any.whl"
    small = wheel("large", "1.0.0")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        digest = hashlib.sha256()
        with archive.open(zipfile.ZipInfo("large/payload.bin"), "w", force_zip64=True) as member:
            for _ in range(size // MIB):
                piece = random.randbytes(MIB)
                digest.update(piece)
                member.write(piece)
        hashed = base64.urlsafe_b64encode(digest.digest()).rstrip(b"=").decode()
        line = f"large/payload.bin,sha256={hashed},{size // MIB * MIB}\n"
        with zipfile.ZipFile(io.BytesIO(small.body)) as original:
            for name in original.namelist():
                data = original.read(name)
                archive.writestr(zipfile.ZipInfo(name), line.encode() + data if name.endswith("RECORD") else data)
    return path


def _sent(door: Door, path: Path) -> float:
    """Seconds of the upload, streamed from the disk."""
    marker = b"@@BODY@@"
    small = wheel("large", "1.0.0")
    whole = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            whole.update(piece)
    frame = request(door, type(small)(name=small.name, version=small.version, body=marker))
    head, tail = frame.split(marker)
    header, _, begin = head.partition(b"\r\n\r\n")
    for name in ("md5_digest", "blake2_256_digest"):
        begin = _without(begin, name)
    begin = begin.replace(hashlib.sha256(marker).hexdigest().encode(), whole.hexdigest().encode())
    total = len(begin) + path.stat().st_size + len(tail)
    lines = [line for line in header.split(b"\r\n") if not line.lower().startswith(b"content-length")]
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", urlsplit(door.url).port or 80), 300) as peer:
        peer.sendall(b"\r\n".join([*lines, f"Content-Length: {total}".encode()]) + b"\r\n\r\n" + begin)
        with path.open("rb") as file:
            peer.sendfile(file)
        peer.sendall(tail)
        status, _, text = answer_of(peer)
    if status != 200:
        raise Unmeasured(f"the large upload was answered {status}: {text[:300]!r}")
    return time.monotonic() - began


def _without(form: bytes, name: str) -> bytes:
    """The form without one field."""
    parts = form.split(b"\r\n--")
    return b"\r\n--".join(part for part in parts if f'name="{name}"'.encode() not in part)


def _got(url: str, least: int) -> float:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=300)
    began = time.monotonic()
    connection.request("GET", parts.path)
    response = connection.getresponse()
    size = 0
    while piece := response.read(1 << 20):
        size += len(piece)
    connection.close()
    assert response.status == 200, f"{url}: {response.status}"
    assert size >= least, f"{url}: {size} bytes"
    return time.monotonic() - began


def _by_obstore(bucket: Bucket, path: Path) -> tuple[float, float]:
    store = _opened(bucket, bucket.url.removeprefix("s3://"))
    began = time.monotonic()
    obstore.put(store, "alone", path, max_concurrency=3)
    put = time.monotonic() - began
    began = time.monotonic()
    for _ in obstore.get(store, "alone").stream(min_chunk_size=1 << 20):
        pass
    got = time.monotonic() - began
    obstore.delete(store, "alone")
    return put, got


# Archives.


_BOTO = """
import json, os, sys
import boto3
from botocore.config import Config
o, bucket = json.loads(sys.argv[1]), sys.argv[2]
s3 = boto3.client("s3", endpoint_url=o["endpoint"], aws_access_key_id=o["access_key_id"], region_name="us-east-1",
    aws_secret_access_key=o["secret_access_key"], config=Config(s3={"addressing_style": "path"}))
"""
_MAKE = _BOTO + "s3.create_bucket(Bucket=bucket)"
# As the older tool does it.
_SERIAL = f"""{_BOTO}
for name in sys.argv[4:]:
    pointer = json.loads(s3.get_object(Bucket=bucket, Key=name + "/tycho.json")["Body"].read())
    key = name + "/tycho_" + pointer["latest"] + ".pkg"
    s3.head_object(Bucket=bucket, Key=key)
    s3.download_file(bucket, key, os.path.join(sys.argv[3], pointer["localname"]))
"""


def _archives(lab: Lab, bucket: Bucket) -> tuple[list[Row], list[Target]]:
    home = lab.fresh("archives")
    names = [f"data-{number:02}" for number in range(ARCHIVES)]
    name = "bench-archives"
    _filled(bucket, name, names, home)
    (home / ".tychoreg.json").write_text(
        json.dumps(
            {
                "tycho": {"backend": "s3", "outdir": "ours"},
                "s3": {
                    "bucket": name,
                    "endpoint_url": bucket.options["endpoint"],
                    "aws_access_key_id": bucket.options["access_key_id"],
                    "aws_secret_access_key": bucket.options["secret_access_key"],
                    "region_name": "us-east-1",
                },
            }
        )
    )

    def serially() -> float:
        (home / "theirs").mkdir(exist_ok=True)
        command = [sys.executable, "-c", _SERIAL, json.dumps(dict(bucket.options)), name, str(home / "theirs"), *names]
        return _seconds(command, home, home / "theirs")

    def ours() -> float:
        command = [str(lab.tools.entrepot), "archive", "pull-list", *names, "-j", "8"]
        return _seconds(command, home, home / "ours")

    lines = interleaved({"boto3, one at a time": serially, "entrepot archive pull-list -j 8": ours}, max(3, lab.rounds))
    about = f"{ARCHIVES} archives of {ARCHIVE_SIZE // MIB} MiB, whole commands; ours verifies each SHA-256."
    row = Row(title="pull of archives", unit="s", about=about, baseline=lines[0].name, lines=lines)
    if not all(line.values for line in lines):
        return [row], []
    times = lines[0].median / lines[1].median
    return [row], [Target(what="pull of archives", wanted="≥ 3 × as fast", measured=f"{times:.2f} ×", met=times >= 3)]


def _seconds(command: list[str], home: Path, target: Path) -> float:
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    began = time.monotonic()
    done = subprocess.run(command, cwd=home, capture_output=True, text=True, check=False, timeout=300)
    took = time.monotonic() - began
    if done.returncode:
        raise Unmeasured(done.stderr.strip()[-300:])
    files = [path for path in target.iterdir() if path.suffix == ".bin"]
    assert len(files) == ARCHIVES, f"{len(files)} files in {target.name}"
    return took


def _opened(bucket: Bucket, name: str) -> S3Store:
    options: dict[str, Any] = dict(bucket.options)
    return S3Store(name, virtual_hosted_style_request=False, client_options={"allow_http": True}, **options)


def _filled(bucket: Bucket, name: str, names: list[str], home: Path) -> None:
    """A bucket as the older tool fills it."""
    command = [sys.executable, "-c", _MAKE, json.dumps(dict(bucket.options)), name]
    subprocess.run(command, check=True, timeout=60, cwd=home)
    store = _opened(bucket, name)
    for one in names:
        pointer = json.dumps({"localname": f"{one}.bin", "latest": "1.0"}, indent=2)
        obstore.put(store, f"{one}/tycho.json", pointer.encode())
        obstore.put(store, f"{one}/tycho_1.0.pkg", random.randbytes(ARCHIVE_SIZE))


# Many projects.


def _many_projects(lab: Lab, bucket: Bucket) -> tuple[list[Row], list[Target]]:
    count = 2_000 if lab.quick else MANY
    times = Row(title=f"the list of {count:,} projects", unit="s")
    times.about = "The list is one object, whatever the number of records: these are left out."
    memory = Row(title="memory of that node", unit="MiB", about="PSS before and after.")
    names = [ProjectName(f"acme-{number:06}") for number in range(count)]
    for label in (ON_DISK, IN_BUCKET):
        text, home = config(bucket, bucket.fresh()), lab.fresh("list")
        if label == ON_DISK:
            text = 'default = "private"\n[index.private]\ntype = "hosted"\n'
        node = Node(lab, text, home, create=label == IN_BUCKET)
        try:
            node.start()
            node.alive.stop()
            asyncio.run(Names(_main(node), "private").enter(*names))
            node.start()
            before = proportional_memory(node.alive) / MIB
            took = []
            for _ in range(4):
                began = time.monotonic()
                answer = ask(f"{node.base}/simple/", {"Accept": JSON_PAGE, "Accept-Encoding": "gzip"}, timeout=300)
                took.append(time.monotonic() - began)
                assert answer.status == 200, f"{label}: {answer.status} {answer.body[:200]!r}"
                listed = json.loads(gzip.decompress(answer.body))["projects"]
                assert len(listed) == count, f"{label}: {len(listed)} names"
            times.lines.append(Line(name=f"{label}, cold", values=took[:1]))
            times.lines.append(Line(name=f"{label}, warm", values=took[1:]))
            after = proportional_memory(node.alive) / MIB
            memory.lines.append(Line(name=label, values=[after], note=f"{before:.0f} MiB before"))
        finally:
            if node.running is not None:
                node.running.stop()
    return [times, memory], []


def _main(node: Node) -> Store:
    found = replace(load(node.home / "entrepot.toml", environ={}), data=str(node.home / "data"))
    return main_store(found, open_stores(found))
