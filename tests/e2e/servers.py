"""Real entrepot servers: started for a test, asked from outside, stopped by their ids."""

import json
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.e2e import raw
from tests.e2e.processes import BIN, children, clean_environment, free_port, until, with_nobody_left
from tests.e2e.raw import Answer, Body, Form


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """A self-signed certificate for 127.0.0.1 and its key."""

    cert: Path
    key: Path


# What there is without a configuration, but no mirror: a test asks nobody outside.
PLAIN = """
[index.private]
type = "hosted"
[index.root]
type = "virtual"
of = ["private"]
"""


@dataclass(frozen=True, kw_only=True)
class Options:
    """The command line of a server, as far as tests have a say in it."""

    data: Path
    folders: tuple[Path, ...] = ()
    port: int = field(default_factory=free_port)
    config: str | None = ""  # the text of its entrepot.toml, with `PLAIN` where it names no index; None: it has none
    workers: int = 1
    path: str = ""
    uds: Path | None = None
    tls: Certificate | None = None
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)  # beside a clean environment

    def command(self, config: Path) -> list[str]:
        words: list[str | Path | int] = [BIN / "entrepot", "serve", *self.folders, "--data", self.data]
        words += ["--uds", self.uds] if self.uds else ["--host", "127.0.0.1", "--port", self.port]
        words += ["--workers", self.workers]
        words += ["--config", config] if self.config is not None else []
        words += ["--path", self.path] if self.path else []
        words += ["--tls-cert", self.tls.cert, "--tls-key", self.tls.key] if self.tls else []
        return [*map(str, words), *self.args]


@dataclass(frozen=True, kw_only=True)
class Request:
    """A line of the access log."""

    method: str
    path: str
    status: int
    token: str
    agent: str


class Server:
    """`entrepot serve` in a process group of its own. May be stopped or killed and then started again."""

    def __init__(self, options: Options, home: Path) -> None:
        self.options = options
        self.data = options.data
        self._home = home
        self._out, self._err = home / "stdout", home / "stderr"
        self._process: subprocess.Popen[bytes] | None = None
        self._begun: list[SlowUpload] = []
        self._config = home / "config.toml"
        home.mkdir(parents=True)
        if options.config is not None:
            self._config.write_text(options.config + ("" if "[index." in options.config else PLAIN), encoding="utf-8")

    # Its life.

    def launch(self) -> None:
        """Returns at once."""
        self._process = self._run()

    def start(self) -> None:
        """Returns when it answers."""
        self.launch()
        try:
            until(self._answers, within=20, what="the server's /health")
        except pytest.fail.Exception:
            self.kill()
            raise

    def start_in_vain(self) -> str:
        """For a server that must refuse to start: what it says. Fails unless it ends soon, with exit code 1."""
        process = self._run()
        try:
            code = process.wait(10)
        except subprocess.TimeoutExpired:
            pytest.fail(f"it should have refused to start, but runs:\n{self.said()}")
        finally:
            self._end_all(process)
        assert code == 1, f"exit code {code}:\n{self.said()}"
        return self.said()

    def _run(self) -> subprocess.Popen[bytes]:
        command = self.options.command(self._config)
        with self._out.open("ab") as out, self._err.open("ab") as err:
            # A group of its own, so that all of it can be killed together; somewhere without an entrepot.toml.
            return subprocess.Popen(
                command, stdout=out, stderr=err, stdin=subprocess.DEVNULL, cwd=self._home,
                env={**clean_environment(), **self.options.env}, start_new_session=True,
            )  # fmt: skip

    def _end_all(self, process: subprocess.Popen[bytes]) -> None:
        with_nobody_left(process.pid)
        process.wait(10)
        self._process = None

    def stop(self, *, within: float = 20) -> float:
        """SIGTERM; how many seconds it took. Fails unless the exit is clean."""
        process, began = self.process, time.monotonic()
        process.send_signal(signal.SIGTERM)
        try:
            code = process.wait(within)
        except subprocess.TimeoutExpired:
            self.kill()
            pytest.fail(f"{within:g} seconds after SIGTERM it still ran:\n{self.said()}")
        took = time.monotonic() - began
        self._process = None
        assert code == 0, f"exit code {code} after SIGTERM:\n{self.said()}"
        return took

    def kill(self) -> None:
        """SIGKILL to all of its processes at once, as when the power fails."""
        self._end_all(self.process)

    def end(self) -> None:
        """For the end of a test, whatever became of it: stopped by ids, and nothing unexpected in its log."""
        for upload in self._begun:
            upload.drop()
        if self._process is None:
            return
        process = self._process
        try:
            self.stop()
        finally:
            self._end_all(process)
        assert "Traceback" not in self.said(), f"a fault in the server's log:\n{self.said()}"

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "the server was not started"
        return self._process

    def workers(self) -> list[int]:
        """The ids of the processes that serve."""
        return children(self.process.pid)

    def said(self) -> str:
        """What it wrote to stderr, over all starts."""
        return self._err.read_text(encoding="utf-8", errors="replace")

    def _answers(self) -> bool:
        if self.process.poll() is not None:
            pytest.fail(f"the server ended with {self.process.returncode}:\n{self.said()}")
        try:
            return self.get("/health", below_path=False).status == 200
        except OSError:
            return False

    # Its addresses.

    @property
    def origin(self) -> str:
        return f"{'https' if self.options.tls else 'http'}://127.0.0.1:{self.options.port}"

    @property
    def url(self) -> str:
        return self.origin + self.options.path

    @property
    def simple(self) -> str:
        return f"{self.url}/simple/"

    @property
    def legacy(self) -> str:
        return f"{self.url}/legacy/"

    def simple_for(self, token: str) -> str:
        """The index's URL with credentials in it."""
        parts = urlsplit(self.simple)
        return parts._replace(netloc=f"__token__:{token}@{parts.netloc}").geturl()

    # Its answers. Every request has a connection of its own, so that any of the workers may get it.

    def connect(self, timeout: float = 30) -> raw.Connection:
        tls = self.options.tls
        return raw.connect(
            self.options.port, uds=self.options.uds, ca=tls.cert if tls is not None else None, timeout=timeout
        )

    def ask(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, body: Body = None, *,
        below_path: bool = True,
    ) -> Answer:  # fmt: skip
        target = (self.options.path if below_path else "") + path
        return raw.ask(self.connect(), method, target, headers or {}, body)

    def get(self, path: str, headers: Mapping[str, str] | None = None, *, below_path: bool = True) -> Answer:
        return self.ask("GET", path, headers, below_path=below_path)

    def files(self, project: str) -> dict[str, str]:
        """The page: sha256 by filename. Empty if there is no such project."""
        answer = self.get(f"/simple/{project}/", {"Accept": raw.JSON})
        if answer.status == 404:
            return {}
        assert answer.status == 200, answer
        return {file["filename"]: file["hashes"]["sha256"] for file in answer.json()["files"]}

    def download(self, project: str, filename: str) -> bytes:
        answer = self.get(f"/files/{project}/{filename}")
        assert answer.status == 200, answer
        return answer.body

    def upload(self, form: Form, *, token: str | None, headers: Mapping[str, str] | None = None) -> Answer:
        authorization = {"Authorization": raw.basic(token)} if token else {}
        return self.ask("POST", "/legacy/", {**form.headers, **authorization, **(headers or {})}, form.body())

    def publish(self, *files: Path) -> None:
        """Upload with the first token, as the person who started it would. Fails unless all is well."""
        for file in files:
            answer = self.upload(Form(file.name, file), token=self.first_token)
            assert answer.status == 200, answer

    def begin(self, form: Form) -> "SlowUpload":
        """An upload with the first token, of which only the headers are sent."""
        headers = {**form.headers, "Authorization": raw.basic(self.first_token)}
        upload = SlowUpload(self.connect(), f"{self.options.path}/legacy/", headers, b"".join(form.body()))
        self._begun.append(upload)
        return upload

    def staged(self) -> int:
        """How many bytes of running uploads are on the disk."""
        size = 0
        for file in (self.data / "store" / "staging").iterdir():
            with suppress(FileNotFoundError):  # it came into place just now
                size += file.stat().st_size
        return size

    # Its tokens and its log.

    @property
    def first_token(self) -> str:
        """The token that a first start makes; it holds `manage`."""
        return (self.data / "first-token").read_text().strip()

    def token(self, *can: str, name: str = "somebody", args: Sequence[str] = ()) -> str:
        """A token made by the command, beside the running server."""
        grants = [word for permission in can for word in ("--can", permission)]
        made = json.loads(self.command("token", "create", name, *grants, *args, "--json"))
        return str(made["token"])

    def command(self, *words: str, code: int = 0) -> str:
        """What an `entrepot` command on this data says. Fails unless it ends with `code`."""
        ran = self.try_command(*words)
        assert ran.returncode == code, f"entrepot {' '.join(words)} → {ran.returncode}:\n{ran.stdout}{ran.stderr}"
        return ran.stdout

    def try_command(self, *words: str) -> subprocess.CompletedProcess[str]:
        data = ["--data", str(self.data)]
        config = ["--config", str(self._config)] if self.options.config is not None else []
        return subprocess.run(
            [str(BIN / "entrepot"), *words, *data, *config], capture_output=True, text=True, timeout=60, check=False,
            stdin=subprocess.DEVNULL, cwd=self._home, env={**clean_environment(), **self.options.env},
        )  # fmt: skip

    def requests(self) -> list[Request]:
        """All that one worker answered until now, from its access log."""
        last = f"/simple/seen-{time.monotonic_ns()}/"
        self.get(last)
        whole = self.options.path + last

        def logged() -> list[Request]:
            seen = self._logged()
            return seen if any(request.path == whole for request in seen) else []

        return [r for r in until(logged, what="the access log") if "/simple/seen-" not in r.path]

    def _logged(self) -> list[Request]:
        lines = [json.loads(line) for line in self._out.read_text().splitlines() if line.endswith("}")]
        return [
            Request(method=s["method"], path=s["path"], status=s["status"], token=s["token"], agent=s["agent"])
            for s in lines
        ]


class SlowUpload:
    """An upload whose body goes out in the parts that a test wants."""

    def __init__(self, connection: raw.Connection, path: str, headers: Mapping[str, str], body: bytes) -> None:
        self._connection = connection
        self._rest = memoryview(body)
        connection.putrequest("POST", path)
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders()

    def send(self, size: int) -> None:
        """The next bytes of the body."""
        self._connection.send(self._rest[:size])
        self._rest = self._rest[size:]

    def finish(self) -> Answer:
        """All that is left of it; the answer."""
        try:
            self._connection.send(self._rest)
            return raw.answer_of(self._connection.getresponse())
        finally:
            self.drop()

    def drop(self) -> None:
        """Hang up, as a client that was killed."""
        self._connection.close()


class Servers:
    """The servers of one test. Calling it starts another one."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._started: list[Server] = []

    def __call__(
        self, *folders: Path, data: Path | None = None, config: str | None = "", workers: int = 1, path: str = "",
        uds: Path | None = None, tls: Certificate | None = None, args: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
    ) -> Server:  # fmt: skip
        options = Options(
            data=data or self._folder / f"data-{len(self._started)}", folders=folders, config=config,
            workers=workers, path=path, uds=uds, tls=tls, args=tuple(args), env=env or {},
        )  # fmt: skip
        server = self.prepare(options)
        server.start()
        return server

    def prepare(self, options: Options) -> Server:
        """A server that is not started yet."""
        server = Server(options, self._folder / f"server-{len(self._started)}")
        self._started.append(server)
        return server

    def end(self) -> None:
        """Stop all of them, also when one of them cannot be stopped cleanly."""
        faults = []
        for server in self._started:
            try:
                server.end()
            except (AssertionError, pytest.fail.Exception) as fault:
                faults.append(fault)
        if faults:
            raise faults[0]
