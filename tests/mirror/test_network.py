"""The index that pip on this machine is configured for. Only with ENTREPOT_NETWORK=1."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.processes import until
from tests.e2e.servers import Server, Servers
from tests.mirror.asking import UNAVAILABLE, ask_page, listed, metadata, names
from tests.upstream.stock import Item

pytestmark = [pytest.mark.network, pytest.mark.timeout(120)]
CONFIG = """
[index.private]
type = "hosted"
[index.upstream]
type = "mirror"
url = "pip"
credentials = "pip"
{more}
[index.root]
type = "virtual"
of = ["private", "upstream"]
"""
SMALL, ITS_NAME = "iniconfig==2.0.0", "iniconfig"


def of_this_machine() -> dict[str, str]:
    """Its settings, and its proxies in place of the dead ones."""
    proxies = {f"{scheme}_proxy": "" for scheme in ("http", "https", "all", "no")}
    return {**proxies, **{name.upper(): "" for name in proxies}, **os.environ}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    servers = Servers(tmp_path)
    yield servers(config=CONFIG.format(more="private-addresses = true"), env=of_this_machine())
    servers.end()


def downloaded(server: Server, folder: Path, wish: str = SMALL) -> set[str]:
    """What pip downloads by way of the server."""
    command = [sys.executable, "-m", "pip", "--isolated", "download", "--no-cache-dir", "--no-deps"]
    where = ["--index-url", server.simple, "--dest", str(folder), wish]
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder.parent), "no_proxy": "*"}
    ran = subprocess.run([*command, *where], capture_output=True, text=True, check=False, env=environment, timeout=100)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return {file.name for file in folder.iterdir()}


def test_what_was_downloaded_once_comes_again_without_upstream(server: Server, tmp_path: Path) -> None:
    first = downloaded(server, tmp_path / "first")
    assert len(first) == 1
    server.stop()
    offline = Servers(tmp_path / "offline")
    (tmp_path / "offline").mkdir()
    again = offline(data=server.data, config=CONFIG.format(more=""), args=("--offline",))
    assert downloaded(again, tmp_path / "second") == first
    offline.end()


def test_every_wheel_has_its_metadata(server: Server) -> None:
    page = listed(server, ITS_NAME)
    wheels = [name for name, file in page.items() if name.endswith(".whl") and file.get("core-metadata")]
    assert wheels
    for name in wheels[-2:]:
        answer = metadata(server, ITS_NAME, Item(filename=name, data=b""))
        assert answer.status == 200
        assert b"\nName: iniconfig\n" in answer.body


def test_a_large_page_comes_and_is_warm_afterwards(server: Server) -> None:
    assert len(names(server, "numpy")) > 1000
    until(lambda: ask_page(server, "numpy").status == 200, what="the page again")


def test_an_unknown_name_is_404(server: Server) -> None:
    answer = ask_page(server, "entrepot-has-no-such-project-as-this-one")
    assert answer.status == 404
    assert answer.status not in UNAVAILABLE
