"""What requirements need in their turn, by `uv pip compile` with ourselves as the only index."""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from itertools import product
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import msgspec

from entrepot.assembly import now, opened
from entrepot.cli import worker
from entrepot.config import Config, Server
from entrepot.errors import EntrepotError, Unavailable
from entrepot.wire import targets
from entrepot.wire.choice import Choice
from entrepot.wire.requirements import Wanted, parse_lines

_START = 30.0  # seconds that our server may take
_RESOLVE = 600.0  # and uv
_LIFETIME = timedelta(hours=1)  # of the token with which uv reads a guarded index


def resolved(config: Config, index: str, wanted: Sequence[Wanted], choice: Choice) -> list[Wanted]:
    """The exact versions of all that is needed, for every Python and platform. Raises `Unavailable`.

    Locks are complete, so what they name is left out. uv gets requirements that we wrote, never the user's file: its
    options could name other indexes.
    """
    uv = _uv()
    lines = "".join(f"{_line(one)}\n" for one in wanted if not one.files and not one.every)
    if not lines:
        return []
    found: dict[str, Wanted] = {}
    with _serving(config, index) as url, tempfile.TemporaryDirectory(prefix="entrepot-") as folder:
        file = Path(folder) / "requirements.in"
        file.write_text(lines, encoding="utf-8")
        for options in _options(choice):
            for one in _compiled(uv, url, file, options):
                found.setdefault(one.text, one)
    return list(found.values())


def _uv() -> str:
    beside = Path(sys.executable).parent / "uv"
    found = str(beside) if beside.exists() else shutil.which("uv")
    if found is None:
        raise Unavailable("uv is not installed, and --with-dependencies needs it", hint="pip install uv")
    return found


def _line(wanted: Wanted) -> str:
    extras = f"[{','.join(wanted.extras)}]" if wanted.extras else ""
    marker = f" ; {wanted.marker}" if wanted.marker is not None else ""
    return f"{wanted.name}{extras}{wanted.specifier}{marker}"


def _options(choice: Choice) -> Iterator[list[str]]:
    """uv's, once for every Python on every platform."""
    pythons: Iterable[str | None] = choice.targets.pythons or (None,)
    platforms: Iterable[str | None] = choice.targets.platforms or (None,)
    for python, platform in product(pythons, platforms):
        yield [
            *(["--python-version", python] if python else []),
            *(["--python-platform", targets.for_uv(platform)] if platform else []),
            *(["--prerelease", "allow"] if choice.prereleases else []),
        ]


def _compiled(uv: str, url: str, file: Path, options: list[str]) -> tuple[Wanted, ...]:
    """Raises `Unavailable` with what uv says."""
    command = [uv, "pip", "compile", "--no-build", "--no-config", "--no-cache", "--quiet", "--no-header"]
    command += ["--no-annotate", "--no-strip-extras", "--no-python-downloads", "--python", sys.executable]
    try:
        done = subprocess.run(  # noqa: S603 - uv, with files and options of our own
            [*command, *options, str(file)], env=_environment(url), capture_output=True, text=True,
            timeout=_RESOLVE, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise Unavailable("uv found no solution in time", status=504) from error
    if done.returncode:
        said = " ".join(done.stderr.replace(url, "the index").split())
        raise Unavailable(f"the dependencies cannot be resolved: {said}", hint="an sdist is never built for this")
    return parse_lines(done.stdout.encode()).wanted


def _environment(url: str) -> Mapping[str, str]:
    """Ours without anything that would name another index or a proxy; the URL may hold a token."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.upper().startswith(("UV_", "PIP_", "ALL_PROXY", "HTTP_PROXY", "HTTPS_PROXY"))
    }
    return {**kept, "UV_DEFAULT_INDEX": url, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1", "NO_COLOR": "1"}


@contextmanager
def _serving(config: Config, index: str) -> Iterator[str]:
    """The URL of the index, at a server of our own on this machine that lives as long as the block."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        ready = _private(config, port)
        context = get_context("fork")
        told, tell = context.Pipe(duplex=False)
        process = context.Process(target=_serve, args=(ready, listener, tell))
        process.start()
        tell.close()
        try:
            _wait(told)
            with _reading(ready, index) as credentials:
                yield f"http://{credentials}127.0.0.1:{port}/{index}/simple/"
        finally:
            process.terminate()
            process.join(_START)
            if process.is_alive():
                process.kill()
                process.join()


def _private(config: Config, port: int) -> Config:
    """The configuration, for a server that only this machine reaches."""
    server = Server(port=port, log="off", offline=config.server.offline, stall=config.server.stall)
    return msgspec.structs.replace(config, server=server)


def _serve(config: Config, listener: socket.socket, tell: Connection) -> None:
    """In the child."""
    for ending in worker.ENDINGS:
        signal.signal(ending, signal.SIG_DFL)
    try:
        worker.work(config, listener, started=lambda: tell.send(""))
    except EntrepotError as error:
        tell.send(str(error))


def _wait(told: Connection) -> None:
    try:
        fault = told.recv() if told.poll(_START) else "it did not start in time"
    except EOFError:
        fault = "it ended at once"
    if fault:
        raise Unavailable(f"our own server cannot resolve: {fault}")


@contextmanager
def _reading(config: Config, index: str) -> Iterator[str]:
    """Credentials for the URL of a guarded index, which end with the block."""

    async def create() -> str:
        async with opened(config, "ignore") as assembled:
            if not assembled.catalog.indexes[index].guarded:
                return ""
            made = assembled.tokens.create("entrepot mirror", can=("read",), now=now(), lifetime=_LIFETIME)
            return (await made)[0]

    async def revoke(secret: str) -> None:
        async with opened(config, "ignore") as assembled:
            await assembled.tokens.revoke(secret.split("_")[1])

    secret = asyncio.run(create())
    if not secret:
        yield ""
        return
    try:
        yield f"__token__:{secret}@"
    finally:
        asyncio.run(revoke(secret))
