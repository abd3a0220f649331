"""The worker processes: how they are forked, replaced and ended. Granian does the work; here is what it leaves open."""

import ctypes
import logging
import mmap
import multiprocessing
import os
import signal
import sys
from functools import partial
from pathlib import Path
from typing import Any, cast

from granian.constants import Interfaces, Loops
from granian.log import LogLevels
from granian.server.mp import MPServer

from entrepot import units
from entrepot.cli import worker
from entrepot.config import Config

log = logging.getLogger("entrepot")

_FRUITLESS = 10  # rounds in a row in which no worker got as far as serving
_ENDINGS = frozenset({signal.SIGTERM, signal.SIGINT})
_PR_SET_PDEATHSIG = 1  # prctl(2)


def supervise(config: Config) -> int:
    """Serve with as many workers as configured until SIGTERM; returns the exit code.

    Granian replaces a worker that died, and gives up when one dies twice within seconds. We start over then, as long
    as workers come to serve at all: what kills them may be a passing lack of memory.
    """
    # Forked workers share what the parent has imported; Python 3.14 would not fork by itself.
    multiprocessing.set_start_method("fork", force=True)
    _prepare_forks()
    came_up = mmap.mmap(-1, 1)  # shared with the workers
    fruitless = 0
    while True:
        came_up[0] = 0
        server = _granian(config)
        try:
            # An object with __rsgi__ is as good to it as a callable, but its types do not know.
            load = cast("Any", partial(worker.load, config, started=partial(came_up.__setitem__, 0, 1)))
            server.serve(target_loader=load, wrap_loader=False)
        except SystemExit:
            if server.interrupt_signal:
                return 0
        else:
            return 0
        fruitless = 0 if came_up[0] else fruitless + 1
        if fruitless >= _FRUITLESS:
            log.error("no worker came to serve in %d rounds; giving up", _FRUITLESS)
            return 1
        log.warning("all workers are started again")


def _prepare_forks() -> None:
    """A signal between the fork and the worker's own handlers would be lost, and SIGTERM comes only once.

    So both are held back around the fork; the worker lets them through when its event loop runs (`web.app`).
    """
    parent = os.getpid()
    os.register_at_fork(
        before=lambda: signal.pthread_sigmask(signal.SIG_BLOCK, _ENDINGS),
        after_in_parent=lambda: signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDINGS),
        after_in_child=partial(_end_with, parent),
    )


def _end_with(parent: int) -> None:
    """Workers whose parent was killed end too: else they would hold the port, and nobody would stop them."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it died before the line above
            os.kill(os.getpid(), signal.SIGKILL)


def _granian(config: Config) -> MPServer:
    server = config.server
    return MPServer(
        "entrepot",
        address=server.host,
        port=server.port,
        uds=Path(server.uds) if server.uds else None,
        interface=Interfaces.RSGI,
        loop=Loops.uvloop,
        workers=server.workers,
        websockets=False,
        backlog=2048,
        log_level=LogLevels.debug if server.debug else LogLevels.warning,
        log_dictconfig=_logging(debug=server.debug),
        ssl_cert=Path(server.tls_cert) if server.tls_cert else None,
        ssl_key=Path(server.tls_key) if server.tls_key else None,
        respawn_failed_workers=True,
        workers_kill_timeout=max(1, round(units.seconds(server.grace))),
        process_name=None,
    )


def _logging(*, debug: bool) -> dict[str, Any]:
    """Everything but the access log goes to stderr."""
    level = "DEBUG" if debug else "INFO"
    kept = {"handlers": ["stderr"], "propagate": False}
    return {
        "formatters": {"plain": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "plain", "stream": "ext://sys.stderr"}},
        "loggers": {
            "_granian": dict(kept),
            "granian.access": dict(kept),
            "entrepot": {**kept, "level": level},
            "asyncio": {**kept, "level": "WARNING"},
        },
    }
