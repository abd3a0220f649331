"""Pages as other indexes write them: by hand, so that they owe nothing to the code that reads them."""

import hashlib
import json
from collections.abc import Iterable
from datetime import UTC, datetime
from html import escape
from typing import Any

from tests.upstream.stock import Item, Manner

JSON = "application/vnd.pypi.simple.v1+json"
HTML = "text/html"


def entry(project: str, item: Item, manner: Manner) -> dict[str, Any]:
    """What a JSON page says of a file."""
    told: dict[str, Any] = {
        "filename": item.filename,
        "url": f"{manner.base}/files/{project}/{item.filename}",
        "hashes": {name: item.digest(name) for name in manner.hashes},
        "requires-python": ">=3.9",
        "yanked": False,
        "core-metadata": _core_metadata(item, manner),
    }
    if manner.sizes:
        told["size"] = len(item.data)
    if manner.times:
        told["upload-time"] = moment(item.uploaded)
    return {**told, **item.told}


def moment(time: datetime) -> str:
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _core_metadata(item: Item, manner: Manner) -> bool | dict[str, str]:
    if item.metadata is None or manner.metadata == "none":
        return False
    if manner.metadata == "true":
        return True
    told = item.metadata if manner.metadata != "wrong" else b"another" + item.metadata
    return {"sha256": hashlib.sha256(told).hexdigest()}


def as_json(project: str, items: Iterable[Item], manner: Manner) -> bytes:
    listed = list(items)
    page = {
        "meta": {"api-version": "1.1" if manner.sizes else "1.0", "_last-serial": 7},
        "name": project,
        "versions": sorted({item.version for item in listed}),
        "files": [entry(project, item, manner) for item in listed],
    }
    return json.dumps(page).encode()


def as_html(project: str, items: Iterable[Item], manner: Manner) -> bytes:
    links = "\n".join(_link(entry(project, item, manner), manner) for item in items)
    version = '<meta name="pypi:repository-version" content="1.0">'
    return f"<!DOCTYPE html><html><head>{version}</head><body><h1>{project}</h1>\n{links}\n</body></html>".encode()


def _link(told: dict[str, Any], manner: Manner) -> str:
    hashes = [f"{name}={value}" for name, value in told["hashes"].items()]
    fragment = f"#{hashes[0]}" if hashes else ""  # a fragment has room for one
    attributes = f'href="{escape(told["url"])}{fragment}"'
    if told["requires-python"]:
        attributes += f' data-requires-python="{escape(told["requires-python"])}"'
    if told["yanked"] is not False:
        attributes += f' data-yanked="{"" if told["yanked"] is True else escape(told["yanked"])}"'
    if told["core-metadata"]:
        value = "true" if told["core-metadata"] is True else f"sha256={told['core-metadata']['sha256']}"
        names = ["data-dist-info-metadata", *([] if manner.old_spelling else ["data-core-metadata"])]
        attributes += "".join(f' {name}="{value}"' for name in names)
    return f"<a {attributes}>{told['filename']}</a><br/>"


def legacy(project: str, items: Iterable[Item]) -> bytes:
    """The older JSON document: the one place where an index without PEP 700 tells upload times and sizes."""
    releases: dict[str, list[dict[str, Any]]] = {}
    for item in items:
        told = {
            "filename": item.filename,
            "packagetype": "bdist_wheel" if item.is_wheel else "sdist",
            "digests": {"sha256": item.sha256, "md5": item.digest("md5")},
            "size": len(item.data),
            "upload_time": item.uploaded.strftime("%Y-%m-%dT%H:%M:%S"),
            "upload_time_iso_8601": moment(item.uploaded),
            "url": f"/files/{project}/{item.filename}",
            "yanked": False,
        }
        releases.setdefault(item.version, []).append(told)
    newest = list(releases)[-1] if releases else ""
    document = {
        "info": {"name": project, "version": newest},
        "releases": releases,
        "urls": releases.get(newest, []),
        "last_serial": 7,
    }
    return json.dumps(document).encode()


def listing(projects: Iterable[str]) -> tuple[bytes, bytes]:
    """All names, in JSON and in HTML."""
    names = sorted(projects)
    document = {"meta": {"api-version": "1.1"}, "projects": [{"name": name} for name in names]}
    links = "\n".join(f'<a href="/simple/{name}/">{name}</a>' for name in names)
    return json.dumps(document).encode(), f"<!DOCTYPE html><html><body>{links}</body></html>".encode()


def flat(stock: Iterable[tuple[str, Item, Manner]]) -> bytes:
    """One page of links to the files of all projects, as PyTorch's."""
    links = "\n".join(_link(entry(project, item, manner), manner) for project, item, manner in stock)
    return f"<!DOCTYPE html><html><body>{links}</body></html>".encode()
