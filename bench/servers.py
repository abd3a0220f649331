"""The contenders: how each is started, where its pages and files are, where it takes uploads."""

import base64
import http.client
import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import urljoin

from bench.corpus import wheel_filename
from bench.install import Tools
from bench.processes import JSON_PAGE, Running, Unmeasured, ask, free_port, start, wait_for
from bench.uploads import Door

DEVPI_PASSWORD = "bench"
Command = list[str | Path]


class Server(Protocol):
    """A running contender that answers pages and files."""

    @property
    def running(self) -> Running: ...
    def page(self, project: str) -> str: ...
    def file(self, project: str, version: str) -> str: ...


def page_headers(*, compressed: bool) -> dict[str, str]:
    return {"Accept": JSON_PAGE} | ({"Accept-Encoding": "gzip"} if compressed else {})


def file_on_page(url: str, filename: str) -> str:
    """The address of a file, as the JSON page at `url` gives it."""
    page = json.loads(ask(url, page_headers(compressed=False)).body)
    found = [str(entry["url"]) for entry in page["files"] if entry["filename"] == filename]
    if not found:
        raise Unmeasured(f"{filename} is not on {url}")
    return urljoin(url, found[0]).partition("#")[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entrepot:
    running: Running
    base: str
    token: str

    def page(self, project: str) -> str:
        return f"{self.base}/simple/{project}/"

    def file(self, project: str, version: str) -> str:
        return file_on_page(self.page(project), wheel_filename(project, version))

    def door(self) -> Door:
        return Door(url=f"{self.base}/legacy/", user="__token__", password=self.token)


def entrepot_command(tools: Tools, data: Path, port: int, folders: Sequence[Path] = ()) -> Command:
    place: Command = ["--data", data, "--host", "127.0.0.1", "--port", str(port)]
    return [tools.entrepot, "serve", *folders, *place, "--workers", "1", *_config(data, folders)]


# What takes uploads has no mirror: it would ask whether each new name is known upstream.
_PLAIN = """
[index.private]
type = "hosted"
[index.root]
type = "virtual"
of = ["private"]
"""


def _config(data: Path, folders: Sequence[Path]) -> Command:
    if folders:
        return []
    file = data.with_name(f"{data.name}.toml")
    file.write_text(_PLAIN)
    return ["--config", file]


def entrepot(tools: Tools, data: Path, log: Path, folders: Sequence[Path] = ()) -> Entrepot:
    port = free_port()
    running = start(entrepot_command(tools, data, port, folders), log)
    base = f"http://127.0.0.1:{port}"
    ready(running, f"{base}/health")
    try:
        token = _upload_token(tools, data)  # beside the running server, which has begun the store
    except BaseException:
        running.stop()
        raise
    return Entrepot(running=running, base=base, token=token)


def _upload_token(tools: Tools, data: Path) -> str:
    command: Command = [
        tools.entrepot,
        "token",
        "create",
        "bench",
        "--can",
        "upload",
        "--data",
        data,
        "--json",
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    except OSError as error:
        raise Unmeasured(f"entrepot does not start: {error}") from error
    if done.returncode:
        raise Unmeasured(f"entrepot token create: {done.stderr.strip()[-200:]}")
    token = json.loads(done.stdout)["token"]
    assert isinstance(token, str)
    return token


@dataclass(frozen=True, slots=True, kw_only=True)
class Nginx:
    """The same bytes as plain files, by one worker: on one port without an access log, on the other with."""

    running: Running
    quiet: str
    logging: str

    def page(self, project: str) -> str:
        return f"{self.quiet}/pages/{project}"

    def file(self, project: str, version: str) -> str:
        return f"{self.quiet}/files/{project}/{wheel_filename(project, version)}"


NGINX = """
user root;
worker_processes 1;
daemon off;
pid {home}/nginx.pid;
error_log {home}/error.log;
events {{ worker_connections 1024; }}
http {{
  sendfile on;
  tcp_nopush on;
  keepalive_requests 1000000000;
  open_file_cache max=1000;
  client_body_temp_path {home}/tmp; proxy_temp_path {home}/tmp; fastcgi_temp_path {home}/tmp;
  uwsgi_temp_path {home}/tmp; scgi_temp_path {home}/tmp;
  server {{ listen 127.0.0.1:{quiet}; access_log off; include {home}/places.conf; }}
  server {{
    listen 127.0.0.1:{logging};
    access_log {home}/access.log combined buffer=64k flush=1s;
    include {home}/places.conf;
  }}
}}
"""
PLACES = """
default_type application/octet-stream;
location /pages/ {{ alias {home}/pages/; default_type {page}; }}
location /compressed/ {{ alias {home}/compressed/; default_type {page}; add_header Content-Encoding gzip; }}
location /files/ {{ alias {corpus}/; }}
"""


def nginx(tools: Tools, home: Path, corpus: Path) -> Nginx:
    for folder in ("pages", "compressed", "tmp"):
        (home / folder).mkdir(parents=True, exist_ok=True)
    quiet, logging = free_port(), free_port()
    (home / "nginx.conf").write_text(NGINX.format(home=home, quiet=quiet, logging=logging))
    (home / "places.conf").write_text(PLACES.format(home=home, page=JSON_PAGE, corpus=corpus))
    probe = home / "pages" / "probe"
    probe.write_text("{}")
    running = start([tools.nginx, "-p", home, "-c", home / "nginx.conf"], home / "output.log")
    ready(running, f"http://127.0.0.1:{quiet}/pages/probe")
    return Nginx(running=running, quiet=f"http://127.0.0.1:{quiet}", logging=f"http://127.0.0.1:{logging}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pypiserver:
    running: Running
    base: str

    def page(self, project: str) -> str:
        return f"{self.base}/simple/{project}/"

    def file(self, project: str, version: str) -> str:
        return f"{self.base}/packages/{project}/{wheel_filename(project, version)}"

    def door(self) -> Door:
        return Door(url=f"{self.base}/")


def pypiserver_command(tools: Tools, port: int, folder: Path) -> Command:
    program = tools.rivals / "pypi-server"
    if not program.exists():
        raise Unmeasured("pypiserver is not installed")
    place = ["-i", "127.0.0.1", "-p", str(port), "--disable-fallback"]
    return [program, "run", *place, "-P", ".", "-a", ".", folder]


def pypiserver(tools: Tools, log: Path, folder: Path) -> Pypiserver:
    port = free_port()
    running = start(pypiserver_command(tools, port, folder), log)
    base = f"http://127.0.0.1:{port}"
    ready(running, f"{base}/health")
    return Pypiserver(running=running, base=base)


@dataclass(frozen=True, slots=True, kw_only=True)
class Devpi:
    running: Running
    base: str
    token: str

    def page(self, project: str) -> str:
        return f"{self.base}/bench/dev/+simple/{project}/"

    def file(self, project: str, version: str) -> str:
        return file_on_page(self.page(project), wheel_filename(project, version))

    def door(self) -> Door:
        return Door(url=f"{self.base}/bench/dev/", user="bench", password=self.token)


def devpi_command(tools: Tools, port: int, home: Path, *, offline: bool = True) -> Command:
    program = tools.rivals / "devpi-server"
    if not program.exists():
        raise Unmeasured("devpi-server is not installed")
    place: Command = ["--serverdir", home, "--host", "127.0.0.1", "--port", str(port)]
    return [program, *place, *(["--offline-mode"] if offline else []), "--keyfs-cache-size", "200000"]


def devpi(tools: Tools, home: Path, log: Path) -> Devpi:
    """A new devpi with the user `bench` and the index `bench/dev`."""
    return _devpi_with(tools, home, log, "dev", {"type": "stage", "bases": ""}, offline=True)


def devpi_mirror(tools: Tools, home: Path, log: Path, upstream: str) -> Devpi:
    """A new devpi whose index `bench/mirror` mirrors `upstream`, when it has read the list of all names there."""
    server = _devpi_with(tools, home, log, "mirror", {"type": "mirror", "mirror_url": upstream}, offline=False)
    ready(server.running, f"{server.base}/bench/mirror/+simple/pip/")
    return server


def _devpi_with(tools: Tools, home: Path, log: Path, index: str, what: dict[str, str], *, offline: bool) -> Devpi:
    port = free_port()
    command = devpi_command(tools, port, home, offline=offline)
    setup: Command = ["--serverdir", home, "--no-root-pypi", "--root-passwd", DEVPI_PASSWORD]
    done = subprocess.run([tools.rivals / "devpi-init", *setup], capture_output=True, text=True, check=False)
    if done.returncode:
        raise Unmeasured(f"devpi-init: {(done.stdout + done.stderr).strip()[-200:]}")
    running = start(command, log)
    ready(running, f"http://127.0.0.1:{port}/+api")
    root = _devpi_login(port, "root")
    _devpi(port, "PUT", "/bench", {"password": DEVPI_PASSWORD}, f"root:{root}")
    token = _devpi_login(port, "bench")
    _devpi(port, "PUT", f"/bench/{index}", what, f"bench:{token}")
    return Devpi(running=running, base=f"http://127.0.0.1:{port}", token=token)


def _devpi_login(port: int, user: str) -> str:
    """A token that stands for `user`'s password."""
    answer = _devpi(port, "POST", "/+login", {"user": user, "password": DEVPI_PASSWORD}, "")
    result = answer["result"]
    assert isinstance(result, dict)
    token = result["password"]
    assert isinstance(token, str)
    return token


def _devpi(port: int, method: str, path: str, body: dict[str, str], proof: str) -> dict[str, object]:
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    if proof:
        headers["X-Devpi-Auth"] = base64.b64encode(proof.encode()).decode()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request(method, path, json.dumps(body), headers)
    response = connection.getresponse()
    text = response.read()
    connection.close()
    if response.status >= 300:
        raise Unmeasured(f"devpi answered {response.status} to {method} {path}: {text[:200]!r}")
    parsed = json.loads(text)
    assert isinstance(parsed, dict)
    return parsed


def proxpi(tools: Tools, home: Path, log: Path, upstream: str) -> tuple[Running, str]:
    """As its image runs it, with more threads; and its index."""
    program = tools.rivals / "gunicorn"
    if not program.exists():
        raise Unmeasured("proxpi is not installed")
    port = free_port()
    command: Command = [program, "--bind", f"127.0.0.1:{port}", "--threads", "32", "proxpi.server:app"]
    settings = {"PROXPI_INDEX_URL": upstream, "PROXPI_CACHE_DIR": str(home)}
    running = start(command, log, settings)
    base = f"http://127.0.0.1:{port}"
    ready(running, f"{base}/health")
    return running, f"{base}/index/"


def mirror(tools: Tools, home: Path, log: Path, settings: str) -> Entrepot:
    """An entrepot of its own configuration."""
    home.mkdir(parents=True, exist_ok=True)
    (home / "entrepot.toml").write_text(settings)
    port = free_port()
    running = start([*entrepot_command(tools, home / "data", port), "--config", home / "entrepot.toml"], log)
    base = f"http://127.0.0.1:{port}"
    ready(running, f"{base}/health")
    return Entrepot(running=running, base=base, token="")


def ready(running: Running, url: str) -> None:
    try:
        wait_for(running, url)
    except BaseException:
        running.stop()
        raise
