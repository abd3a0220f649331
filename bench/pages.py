"""Rows of warm pages and of downloads: requests per second under wrk, beside nginx sending the same bytes."""

from collections.abc import Callable

from bench.corpus import LARGE, LARGE_PROJECT, MODERATE
from bench.fleet import (
    DEVPI,
    ENTREPOT,
    HOSTED,
    NGINX,
    NGINX_LOG,
    PYPISERVER,
    SMALL,
    Fleet,
    listed,
    same_bytes,
)
from bench.lab import SLOW, Lab
from bench.load import Load
from bench.processes import Answer, Unmeasured, ask
from bench.results import Line, Row, Target, interleaved, ratio_target
from bench.servers import Nginx, page_headers


def measure_pages(lab: Lab, fleet: Fleet) -> tuple[list[Row], list[Target]]:
    everyone = (ENTREPOT, NGINX, NGINX_LOG, PYPISERVER, DEVPI)
    few, many = lab.shape.files, lab.shape.thousand
    rows = [
        _page_row(lab, fleet, f"page of {few} files", SMALL, everyone, compressed=False),
        _page_row(lab, fleet, f"page of {few} files, gzip", SMALL, everyone, compressed=True),
        _page_row(lab, fleet, f"page of {few} uploaded files", SMALL, (HOSTED, NGINX), compressed=False),
        _page_row(lab, fleet, f"page of {few} uploaded files, gzip", SMALL, (HOSTED, NGINX), compressed=True),
    ]
    rows += [_page_row(lab, fleet, f"page of {many:,} files, gzip", LARGE_PROJECT, everyone, compressed=True)]
    return rows, [ratio_target(row, row.lines[0].name, 0.5) for row in rows]


def measure_downloads(lab: Lab, fleet: Fleet) -> tuple[list[Row], list[Target]]:
    moderate = _download_row(lab, fleet, "download of 60 kB", "acme-moderate", 16)
    large = _download_row(lab, fleet, "download of 20 MB", "acme-large", 4)
    targets = [ratio_target(large, name, 1.0) for name in (ENTREPOT, HOSTED)]
    targets += [ratio_target(moderate, name, 0.25) for name in (ENTREPOT, HOSTED)]
    return [moderate, large], targets


def _page_row(lab: Lab, fleet: Fleet, title: str, project: str, names: tuple[str, ...], *, compressed: bool) -> Row:
    print(f"  {title}", flush=True)
    files = len(lab.shape.versions(project))
    headers = page_headers(compressed=compressed)
    urls: dict[str, str] = {}
    notes: dict[str, str] = {}

    def pressing(name: str) -> Callable[[], float]:
        def once() -> float:
            server = fleet[NGINX if name == NGINX_LOG else name]
            if name not in urls:
                url = _page_url(fleet, name, names[0], project, compressed=compressed)
                answer = ask(url, headers)
                _must_list(answer, files)
                if name not in SLOW:
                    lab.press(server.running, url, headers, Load(connections=4, seconds=1))  # warm
                urls[name], notes[name] = url, _shape(answer)
            return lab.press(server.running, urls[name], headers, lab.load(name))

        return once

    lines = interleaved({name: pressing(name) for name in names}, lab.rounds)
    return Row(title=title, unit="pages/s", baseline=NGINX, lines=_noted(lines, notes))


def _page_url(fleet: Fleet, name: str, owner: str, project: str, *, compressed: bool) -> str:
    if name not in {NGINX, NGINX_LOG}:
        return fleet[name].page(project)
    server = fleet[NGINX]
    assert isinstance(server, Nginx)
    path = same_bytes(fleet, owner, project, compressed=compressed)
    return (server.quiet if name == NGINX else server.logging) + path


def _download_row(lab: Lab, fleet: Fleet, title: str, project: str, connections: int) -> Row:
    print(f"  {title}", flush=True)
    least = LARGE if project == "acme-large" else MODERATE
    urls: dict[str, str] = {}
    sizes: dict[str, int] = {}

    def pressing(name: str) -> Callable[[], float]:
        def once() -> float:
            server = fleet[name]
            if name not in urls:
                url = server.file(project, "1.0.0")
                answer = ask(url)
                if answer.status != 200 or len(answer.body) < least:
                    raise Unmeasured(f"status {answer.status}, {len(answer.body):,} bytes instead of the file")
                urls[name], sizes[name] = url, len(answer.body)
            rate = lab.press(server.running, urls[name], {}, lab.load(name, connections))
            return rate * sizes[name] / 1e6

        return once

    names = (ENTREPOT, HOSTED, NGINX, PYPISERVER, DEVPI)
    lines = interleaved({name: pressing(name) for name in names}, lab.rounds)
    notes = {line.name: f"{line.median * 1e6 / sizes[line.name]:,.0f} files/s" for line in lines if line.values}
    return Row(title=title, unit="MB/s", baseline=NGINX, lines=_noted(lines, notes))


def _must_list(answer: Answer, files: int) -> None:
    if listed(answer) != files:
        raise Unmeasured(f"status {answer.status}, {listed(answer)} files listed instead of {files}")


def _shape(answer: Answer) -> str:
    kind = answer.headers.get("content-type", "no type").partition(";")[0].rpartition("/")[2]
    encoding = answer.headers.get("content-encoding", "not compressed")
    return f"{len(answer.body):,} bytes, {kind.removeprefix('vnd.pypi.')}, {encoding}"


def _noted(lines: list[Line], notes: dict[str, str]) -> list[Line]:
    for line in lines:
        line.note = line.note or notes.get(line.name, "")
    return lines
