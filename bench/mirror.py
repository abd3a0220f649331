"""Rows of the mirror: the same wishes to the upstream itself, and through entrepot, devpi and proxpi.

The upstream is the one that pip here is configured for, else PyPI. What needs faults, or 100 MB, comes from the double
of the tests.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from statistics import median
from urllib.parse import urlsplit

from bench import servers
from bench.lab import Lab
from bench.processes import FAILURES, JSON_PAGE, Running, Unmeasured, ask, proportional_memory
from bench.results import Line, Row, Target, most_target, shown
from entrepot.errors import EntrepotError
from entrepot.model import normalise
from entrepot.sources.mirror.address import Address, resolve
from entrepot.wire import simple_html, simple_json
from tests.upstream import pages
from tests.upstream.double import Upstream
from tests.upstream.stock import Manner, thousands, wheel

DIRECT, ENTREPOT, DEVPI, PROXPI = "direct", "entrepot", "devpi", "proxpi"
SET = (
    "jupyterlab", "pandas", "fastapi[standard]", "django", "celery[redis]", "boto3", "sqlalchemy", "scikit-learn",
    "requests", "pytest", "rich",
)  # fmt: skip
FOR_PIP = ("fastapi[standard]", "boto3", "pandas")
ROUNDS = 7
SPREAD = 0.3  # of direct's own values: above it a row says nothing
MIB = 1 << 20
CLIENTS, LARGE = 50, 100 * MIB
MEMORY = Path("/dev/shm")  # where everybody's data lie, so that the disk has no say
CONFIG = """
[index.private]
type = "hosted"
[index.upstream]
type = "mirror"
url = "pip"
credentials = "pip"
private-addresses = true
[index.double]
type = "mirror"
url = "{double}"
private-addresses = true
timeout = "5 s"
[index.root]
type = "virtual"
of = ["private", "upstream"]
"""
# Row: what it is held to, as a multiple of direct.
LIMITS = {
    "resolve, cold": 1.3,
    "resolve, warm": 0.4,
    "install, cold": 1.3,
    "install, warm": 1.0,
    "pip dry run, warm": 0.5,
}


@dataclass
class Proxy:
    """A contender that is running."""

    running: Running
    index: str


Start = Callable[[Path], Proxy]


@dataclass
class Clients:
    """uv and pip without caches and settings of their own."""

    home: Path
    address: Address
    pins: Path = field(init=False)

    def __post_init__(self) -> None:
        self.pins = self.home / "pins.txt"
        (self.home / "set.in").write_text("\n".join(SET))

    @property
    def direct(self) -> str:
        parts = urlsplit(self.address.url)
        who = f"{self.address.user}:{self.address.password}@" if self.address.user else ""
        return parts._replace(netloc=who + parts.netloc).geturl()

    def resolve(self, index: str) -> float:
        words = ["--no-build", "--no-header", "--no-annotate", "-o", str(self.home / "resolved.txt")]
        return self._uv("compile", index, *words, str(self.home / "set.in"))

    def pin(self) -> None:
        """What the set is today, for all the installs."""
        self.resolve(self.direct)
        shutil.copy(self.home / "resolved.txt", self.pins)

    def install(self, index: str, pins: Path | None = None) -> float:
        place = self.home / "target"
        shutil.rmtree(place, ignore_errors=True)
        return self._uv("install", index, "--no-deps", "--target", str(place), "-r", str(pins or self.pins))

    def dry_run(self, index: str) -> float:
        words = ["--isolated", "install", "--dry-run", "--ignore-installed", "--no-cache-dir", "--only-binary=:all:"]
        return self._timed([sys.executable, "-m", "pip", "-q", *words, "--index-url", index, *FOR_PIP])

    def _uv(self, command: str, index: str, *words: str) -> float:
        uv = str(Path(sys.executable).parent / "uv")
        options = ["--quiet", "--no-config", "--no-cache", "--default-index", index, "--python", sys.executable]
        return self._timed([uv, "pip", command, *options, *words])

    def _timed(self, command: list[str]) -> float:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "UV_"))}
        trust = self.address.certificates
        certificates = {"SSL_CERT_FILE": trust, "REQUESTS_CA_BUNDLE": trust, "PIP_CERT": trust} if trust else {}
        environment = {**kept, "HOME": str(self.home), "PIP_DISABLE_PIP_VERSION_CHECK": "1", **certificates}
        began = time.monotonic()
        done = subprocess.run(
            command, env=environment, cwd=self.home, capture_output=True, text=True, check=False, timeout=900
        )
        took = time.monotonic() - began
        if done.returncode:
            said = " ".join((done.stdout + done.stderr).replace(self.direct, "upstream").split())[-200:]
            raise Unmeasured(f"{Path(command[0]).name} ended with {done.returncode}: {said}")
        return took


def measure_mirror(lab: Lab) -> tuple[list[Row], list[Target]]:
    with _memory(lab) as home, Upstream() as upstream:
        try:
            address = resolve("pip", credentials="pip", flat=False)
            clients = Clients(home, address)
            clients.pin()
        except (*FAILURES, EntrepotError) as error:
            print(f"bench: upstream cannot be asked: {error}", flush=True)
            clients = None
        starts = _starts(lab, upstream, clients.direct if clients is not None else "")
        rows, targets = _alone(lab, upstream, starts[ENTREPOT], home)
        if clients is not None:
            more, held = _with_upstream(lab, clients, starts, home)
            rows, targets = more + rows, held + targets
        return rows, targets


@contextmanager
def _memory(lab: Lab) -> Iterator[Path]:
    """A folder in memory, else in the scratch place."""
    base = MEMORY if os.access(MEMORY, os.W_OK) else lab.fresh("mirror")
    with tempfile.TemporaryDirectory(prefix="entrepot-bench-", dir=base) as folder:
        yield Path(folder)


def _starts(lab: Lab, upstream: Upstream, direct: str) -> dict[str, Start]:
    def entrepot(home: Path) -> Proxy:
        server = servers.mirror(lab.tools, home, lab.log("mirror-entrepot"), CONFIG.format(double=upstream.url))
        return Proxy(server.running, f"{server.base}/simple/")

    def devpi(home: Path) -> Proxy:
        server = servers.devpi_mirror(lab.tools, home, lab.log("mirror-devpi"), direct)
        return Proxy(server.running, f"{server.base}/bench/mirror/+simple/")

    def proxpi(home: Path) -> Proxy:
        return Proxy(*servers.proxpi(lab.tools, home, lab.log("mirror-proxpi"), direct))

    return {ENTREPOT: entrepot, DEVPI: devpi, PROXPI: proxpi}


# The set, by uv and pip.


def _with_upstream(
    lab: Lab, clients: Clients, starts: dict[str, Start], home: Path
) -> tuple[list[Row], list[Target]]:  # fmt: skip
    about = f"{', '.join(SET)}: {len(clients.pins.read_text().split())} wheels, by uv without a cache."
    notes = {
        "resolve, cold": f"`uv pip compile` by a new server with an empty cache. {about}",
        "resolve, warm": "The same again, after it has served the set once.",
        "install, cold": "`uv pip install --no-deps --target` by a new server with an empty cache.",
        "install, warm": "The same again; most of it is the client's own unpacking.",
        "pip dry run, warm": f"`pip install --dry-run` of {', '.join(FOR_PIP)}, the second time.",
        "memory of mirrors": "Sum of the proportional set sizes (PSS) after all of this.",
    }
    names = (DIRECT, *starts)
    rows = {title: _row_of(title, text, names) for title, text in notes.items()}
    for number in range(lab.rounds if lab.quick else ROUNDS):
        print(f"mirror: round {number + 1}", flush=True)
        for name in names:
            series = _direct(clients) if name == DIRECT else _proxied(lab, clients, starts[name], home / "proxy")
            _add(rows, name, series)
    rows["memory of mirrors"].lines.pop(0)  # direct has none
    targets = [_no_more_than(rows[title], ENTREPOT, factor) for title, factor in LIMITS.items()]
    targets.append(most_target(rows["memory of mirrors"], ENTREPOT, 200, "< 200 MiB"))
    return list(rows.values()), targets


def _row_of(title: str, about: str, names: tuple[str, ...]) -> Row:
    lines = [Line(name=name) for name in names]
    if title.startswith("memory"):
        return Row(title=title, unit="MiB", about=about, lines=lines)
    return Row(title=title, unit="s", about=about, baseline=DIRECT, lines=lines)


def _direct(clients: Clients) -> Iterator[tuple[str, float]]:
    for title, measure in (("resolve", clients.resolve), ("install", clients.install)):
        took = measure(clients.direct)
        yield f"{title}, cold", took
        yield f"{title}, warm", took
    yield "pip dry run, warm", clients.dry_run(clients.direct)


def _proxied(lab: Lab, clients: Clients, start: Start, home: Path) -> Iterator[tuple[str, float]]:
    """Two new servers: one for the cold resolution, the other for all the rest."""
    shutil.rmtree(home, ignore_errors=True)
    proxy = start(home / "first")
    with lab.keeping(proxy.running):
        yield "resolve, cold", clients.resolve(proxy.index)
    proxy = start(home / "second")
    with lab.keeping(proxy.running):
        yield "install, cold", clients.install(proxy.index)
        clients.resolve(proxy.index)
        yield "resolve, warm", clients.resolve(proxy.index)
        yield "install, warm", clients.install(proxy.index)
        clients.dry_run(proxy.index)
        yield "pip dry run, warm", clients.dry_run(proxy.index)
        yield "memory of mirrors", proportional_memory(proxy.running) / MIB
    shutil.rmtree(home, ignore_errors=True)


def _add(rows: dict[str, Row], name: str, series: Iterator[tuple[str, float]]) -> None:
    """What fails costs a contender the rest of its round."""
    try:
        for title, value in series:
            rows[title].line(name).values.append(value)
    except FAILURES as error:
        for row in rows.values():
            row.line(name).note = f"a round failed: {error}"


def _no_more_than(row: Row, ours: str, factor: float) -> Target:
    mine, base = row.line(ours), row.line(DIRECT)
    what, wanted = f"{row.title}: {ours}", f"≤ {factor:g} × {DIRECT}"
    if not mine.values or not base.values:
        return Target(what=what, wanted=wanted, measured=mine.note or base.note or "not measured")
    ratio = mine.median / base.median
    spread = (max(base.values) - min(base.values)) / base.median
    each = f"{min(mine.values) / base.median:.2f}–{max(mine.values) / base.median:.2f}"
    if spread > SPREAD:
        measured = f"{ratio:.2f} ×, void: direct itself spreads by {spread:.0%}"
        return Target(what=what, wanted=wanted, measured=measured, spread=each)
    return Target(what=what, wanted=wanted, measured=f"{ratio:.2f} ×", spread=each, met=ratio <= factor)


# Against the double.


def _alone(lab: Lab, upstream: Upstream, start: Start, home: Path) -> tuple[list[Row], list[Target]]:
    proxy = start(home / "alone")
    with lab.keeping(proxy.running):
        measured = [_large_page(lab, upstream, proxy), _one_file(upstream, proxy), _killed(lab, upstream, proxy, home)]
    return [row for rows, _ in measured for row in rows], [target for _, targets in measured for target in targets]


def _large_page(lab: Lab, upstream: Upstream, proxy: Proxy) -> tuple[list[Row], list[Target]]:
    count = 4_400
    items, manner = thousands("many", count), Manner()
    lines = []
    forms: dict[str, tuple[bytes, Callable[[bytes], simple_json.Page]]] = {
        "JSON": (pages.as_json("many", items, manner), lambda data: simple_json.parse(data, base=upstream.url)),
        "HTML": (
            pages.as_html("many", items, manner),
            lambda data: simple_html.parse(data, base=upstream.url, name=normalise("many")),
        ),
    }
    for kind, (data, parse) in forms.items():
        line = Line(name=f"from {kind} ({len(data) // 1000:,} kB)")
        for _ in range(max(lab.rounds, 5)):
            began = time.perf_counter()
            simple_json.render(parse(data).project, prefix="../../files/many/")
            line.values.append((time.perf_counter() - began) * 1000)
        lines.append(line)
    asked = Line(name="a cold request in whole, upstream's part included")
    for number in range(max(lab.rounds, 3)):
        upstream.add(f"many{number}", *thousands(f"many{number}", count))
        url = proxy.index.replace("/simple/", f"/double/simple/many{number}/")
        began = time.perf_counter()
        answer = ask(url, {"Accept": JSON_PAGE})
        asked.values.append((time.perf_counter() - began) * 1000)
        assert answer.status == 200, f"the large page was answered {answer.status}"
    about = f"Of {count:,} files, parsed and rendered as JSON."
    row = Row(title="a large page of a mirror, cold", unit="ms", about=about, lines=[*lines, asked])
    return [row], [most_target(row, line.name, 60, "< 60 ms") for line in lines]


def _one_file(upstream: Upstream, proxy: Proxy) -> tuple[list[Row], list[Target]]:
    """Many clients, one cold file."""
    item = wheel("large", size=LARGE)
    upstream.add("large", item)
    base = proxy.index.replace("/simple/", "/double")
    ask(f"{base}/simple/large/", {"Accept": JSON_PAGE})
    before = _resident(proxy.running)
    began = time.monotonic()
    with ThreadPoolExecutor(CLIENTS) as pool:
        digests = list(pool.map(lambda _: _digest(f"{base}/files/large/{item.filename}"), range(CLIENTS)))
    took = time.monotonic() - began
    grown = (_resident(proxy.running) - before) / MIB
    whole = [seen for seen in upstream.asked(f"/files/large/{item.filename}", method="GET") if not seen.range]
    right = digests.count(item.sha256)
    line = Line(name=ENTREPOT, values=[took], note=f"{len(whole)} downloads upstream, {right} of {CLIENTS} right")
    row = Row(title=f"{CLIENTS} clients, one cold file of {LARGE // MIB} MiB", unit="s", lines=[line])
    memory = Line(name=ENTREPOT, values=[grown], note="peak of resident memory (VmHWM) of all processes")
    growth = Row(title="memory that this takes", unit="MiB", lines=[memory])
    held = Target(
        what=row.title,
        wanted="one download upstream, all right",
        measured=line.note,
        met=len(whole) == 1 and right == CLIENTS,
    )
    return [row, growth], [held, most_target(growth, ENTREPOT, 64, "< 64 MiB")]


def _digest(url: str) -> str:
    parts = urlsplit(url)
    connection = HTTPConnection(parts.hostname or "", parts.port, timeout=300)
    connection.request("GET", parts.path)
    response = connection.getresponse()
    digest = hashlib.sha256()
    while piece := response.read(1 << 18):
        digest.update(piece)
    connection.close()
    return digest.hexdigest()


def _resident(server: Running) -> int:
    """The sum of the peaks of resident memory, in bytes."""
    total = 0
    for pid in server.family():
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                total += int(line.split()[1]) * 1024
    return total


def _killed(lab: Lab, upstream: Upstream, proxy: Proxy, home: Path) -> tuple[list[Row], list[Target]]:
    """Upstream goes in the middle of a download, and does not come back."""
    names = [f"part{number}" for number in range(30)]
    for name in names:
        upstream.add(name, wheel(name, size=300_000))
    upstream.add("cut", wheel("cut", size=20 * MIB))
    index = proxy.index.replace("/simple/", "/double/simple/")
    clients = Clients(home, Address(url=upstream.url))
    pins = home / "parts.txt"
    pins.write_text("\n".join(f"{name}==1.0" for name in names))
    clients.install(index, pins)
    before = [clients.install(index, pins) for _ in range(max(lab.rounds, 3))]
    ask(f"{index}cut/", {"Accept": JSON_PAGE})
    fault = upstream.held("/files/cut/*", after=MIB)
    assert fault.within is not None
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(_status, f"{index.replace('/simple/', '/files/')}cut/cut-1.0-py3-none-any.whl")
        fault.within.reached()
        upstream.go_away()
        running.result()
    after = [clients.install(index, pins) for _ in before]
    cold = [_timed_status(f"{index}unseen{number}/") for number in range(5)]
    line, then = Line(name="upstream is there", values=before), Line(name="upstream is gone", values=after)
    asked = Line(name="a page that was never asked for", values=[took for _, took in cold])
    asked.note = f"answered {', '.join(sorted({str(status) for status, _ in cold}))}"
    about = f"`uv pip install` of {len(names)} wheels that are kept, before and after upstream is killed."
    row = Row(title="upstream is killed", unit="s", about=about, baseline=line.name, lines=[line, then, asked])
    speed = median(after) / median(before)
    statuses = {status for status, _ in cold}
    return [row], [
        Target(what="warm installs without upstream", wanted="≤ 1.2 ×", measured=f"{speed:.2f} ×", met=speed <= 1.2),
        Target(
            what="cold pages without upstream",
            wanted="502 or 503, within 30 s",
            measured=f"{asked.note}, in at most {shown(max(asked.values))} s",
            met=statuses <= {502, 503, 504} and max(asked.values) < 30,
        ),
    ]


def _status(url: str) -> int:
    """Of an answer that may be cut; 0 if it was."""
    try:
        return ask(url).status
    except FAILURES:
        return 0


def _timed_status(url: str) -> tuple[int, float]:
    began = time.monotonic()
    return _status(url), time.monotonic() - began
