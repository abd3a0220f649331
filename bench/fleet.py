"""All the contenders at once, each with the projects that the page and download rows ask for."""

import contextlib
import gzip
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bench import corpus, servers
from bench.corpus import LARGE, LARGE_PROJECT, MODERATE, Wheel, project_name
from bench.lab import Lab
from bench.processes import FAILURES, Answer, Running, Unmeasured, ask
from bench.uploads import upload

ENTREPOT, HOSTED, NGINX, NGINX_LOG = "entrepot", "entrepot, uploaded", "nginx", "nginx, access log on"
PYPISERVER, DEVPI = "pypiserver", "devpi"
SMALL = project_name(0)


@dataclass(slots=True, kw_only=True)
class Fleet:
    """The contenders that run, and why the others do not."""

    up: dict[str, servers.Server] = field(default_factory=dict)
    down: dict[str, str] = field(default_factory=dict)
    nginx_home: Path

    def __getitem__(self, name: str) -> servers.Server:
        if name in self.down:
            raise Unmeasured(self.down[name])
        return self.up[name]


@contextlib.contextmanager
def started(lab: Lab) -> Iterator[Fleet]:
    home = lab.fresh("nginx")
    makers: dict[str, Callable[[], servers.Server]] = {
        ENTREPOT: lambda: _folder_entrepot(lab),
        HOSTED: lambda: _hosted_entrepot(lab),
        NGINX: lambda: servers.nginx(lab.tools, home, lab.folder),
        PYPISERVER: lambda: servers.pypiserver(lab.tools, lab.log(PYPISERVER), lab.folder),
        DEVPI: lambda: _filled_devpi(lab),
    }
    fleet = Fleet(nginx_home=home)
    with contextlib.ExitStack() as stack:
        for name, make in makers.items():
            print(f"  starting {name}", flush=True)
            try:
                server = make()
            except FAILURES as error:
                fleet.down[name] = str(error)
                print(f"  {name}: {error}", flush=True)
                continue
            fleet.up[name] = server
            stack.enter_context(lab.keeping(server.running))
        yield fleet


def same_bytes(fleet: Fleet, owner: str, project: str, *, compressed: bool) -> str:
    """Let nginx send what `owner` answers for that page; the path under which it does."""
    if owner in fleet.down:
        raise Unmeasured(f"it has to send the bytes of {owner}: {fleet.down[owner]}")
    answer = ask(fleet[owner].page(project), servers.page_headers(compressed=compressed))
    folder = "compressed" if answer.headers.get("content-encoding") == "gzip" else "pages"
    kept = fleet.nginx_home / folder / f"{owner.replace(', ', '-')}-{project}"
    kept.write_bytes(answer.body)
    return f"/{folder}/{kept.name}"


def listed(answer: Answer) -> int:
    """How many files the page lists; 0 for an answer that is no page."""
    if answer.status != 200:
        return 0
    body = gzip.decompress(answer.body) if answer.headers.get("content-encoding") == "gzip" else answer.body
    if "json" in answer.headers.get("content-type", ""):
        return len(json.loads(body)["files"])
    return body.count(b"<a ")


def _folder_entrepot(lab: Lab) -> servers.Entrepot:
    return servers.entrepot(lab.tools, lab.fresh("entrepot-folder"), lab.log("entrepot-folder"), [lab.folder])


def _hosted_entrepot(lab: Lab) -> servers.Entrepot:
    server = servers.entrepot(lab.tools, lab.fresh("entrepot-hosted"), lab.log("entrepot-hosted"))
    with _stopped_on_error(server.running), lab.explaining(server.running):
        upload(server.door(), [*_files(lab, SMALL), *_single_files()])
    return server


def _filled_devpi(lab: Lab) -> servers.Devpi:
    server = servers.devpi(lab.tools, lab.fresh(DEVPI), lab.log(DEVPI))
    with _stopped_on_error(server.running), lab.explaining(server.running):
        upload(server.door(), [*_files(lab, SMALL), *_files(lab, LARGE_PROJECT), *_single_files()])
    return server


def _files(lab: Lab, project: str) -> list[Wheel]:
    return list(corpus.wheels([project], lab.shape.versions(project)))


def _single_files() -> list[Wheel]:
    moderate = corpus.wheel("acme-moderate", "1.0.0", MODERATE)
    return [moderate, corpus.wheel("acme-large", "1.0.0", LARGE)]


@contextlib.contextmanager
def _stopped_on_error(running: Running) -> Iterator[None]:
    try:
        yield
    except BaseException:
        running.stop()
        raise
