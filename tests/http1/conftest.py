"""The servers of these tests: one for each test, which must not have complained of anything in the end."""

import gc
import shutil
import ssl
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.http1.serving import Served


@pytest.fixture
def serve() -> Iterator[Callable[..., Served]]:
    """Makes servers."""
    made: list[Served] = []

    def serving(**options: Any) -> Served:
        made.append(Served(**options))
        return made[-1]

    yield serving
    for served in made:
        served.end()
    gc.collect()  # tells of exceptions that nobody took
    for served in made:
        assert not served.faults


@pytest.fixture
def served(serve: Callable[..., Served]) -> Served:
    return serve()


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate, and its key in the same file."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed: apt-get install openssl")
    place = tmp_path_factory.mktemp("tls") / "both.pem"
    key = place.with_suffix(".key")
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    name = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    subprocess.run(
        ["openssl", "req", "-x509", *kind, *name, "-out", place, "-keyout", key], check=True, capture_output=True
    )
    place.write_bytes(place.read_bytes() + key.read_bytes())
    return place


@pytest.fixture
def over_tls(serve: Callable[..., Served], certificate: Path) -> Served:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    return serve(tls=context)
