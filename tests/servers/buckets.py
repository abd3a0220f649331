"""Object stores to test against: moto, Ceph's gateway, Swift, Azurite. Each starts when it is first asked for."""

import base64
import functools
import itertools
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.processes import free_port
from tests.servers import ceph, swift
from tests.servers.processes import PROGRAMS, Family, answers, missing, require


@dataclass(frozen=True)
class Bucket:
    """Where one is, and how it is opened: `options` are those of a [store.NAME]."""

    url: str
    options: Mapping[str, str]
    endpoint: str
    swaps: bool = True  # whether it has compare-and-swap

    def __post_init__(self) -> None:
        object.__setattr__(self, "_numbers", itertools.count())

    def fresh(self) -> str:
        """The URL of a folder in it that nobody used. Short: keys of 1,019 bytes must fit."""
        number = next(self._numbers)  # type: ignore[attr-defined]
        return f"{self.url}/{number:04x}"


BUCKET = "entrepot-tests"


def once(start: Callable[[], Bucket]) -> Callable[[], Bucket]:
    """The server is started for the first who asks; one that cannot start is not tried for every test."""
    outcomes: list[Bucket | BaseException] = []

    @functools.wraps(start)
    def asked() -> Bucket:
        if not outcomes:
            try:
                outcomes.append(start())
            except (AssertionError, OSError, subprocess.SubprocessError) as error:
                outcomes.append(error)
        if isinstance(outcomes[0], BaseException):
            raise outcomes[0]
        return outcomes[0]

    return asked


@once
def moto() -> Bucket:
    family, port = Family("moto"), free_port()
    program = shutil.which("moto_server", path=str(Path(sys.executable).parent))
    if program is None:
        missing("moto")
    assert program is not None
    family.start([program, "-H", "127.0.0.1", "-p", str(port)])
    endpoint = f"http://127.0.0.1:{port}"
    family.until(lambda: answers(endpoint))
    return _s3(endpoint, "testkey", "testsecret")


@once
def rgw() -> Bucket:
    require("radosgw", "ceph-mon", "ceph-osd", "ceph", "radosgw-admin", "monmaptool")
    try:
        endpoint = ceph.start(Family("ceph"))
    except (AssertionError, subprocess.TimeoutExpired):
        endpoint = ceph.start(Family("ceph-again"))  # its daemons miss each other now and then on a busy machine
    return _s3(endpoint, "testkey", "testsecret")


@once
def without_swaps() -> Bucket:
    """Swift: its S3 gate answers 501 to every condition."""
    require("swift-proxy-server", "swift-object-server", "swift-ring-builder", "memcached")
    return _s3(swift.start(Family("swift")), "test:tester", "testing", swaps=False)


# Azurite's account, which its documentation tells.
_ACCOUNT = "devstoreaccount1"
_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


@once
def azurite() -> Bucket:
    require("node")
    program = PROGRAMS / "node_modules" / "azurite" / "dist" / "src" / "blob" / "main.js"
    if not program.exists():
        missing("azurite")
    family, port = Family("azurite"), free_port()
    flags = ["--inMemoryPersistence", "--skipApiVersionCheck", "--disableTelemetry", "--silent"]
    family.start(["node", program, "--blobHost", "127.0.0.1", "--blobPort", str(port), *flags])
    endpoint = f"http://127.0.0.1:{port}/{_ACCOUNT}"
    family.until(lambda: answers(endpoint))
    options = {"account_name": _ACCOUNT, "account_key": _KEY, "endpoint": endpoint}
    _make_container(endpoint)
    return Bucket(f"az://{BUCKET}", options, endpoint)


def _s3(endpoint: str, key: str, secret: str, *, swaps: bool = True) -> Bucket:
    # In a process of its own: boto3 is heavy, and nothing of ours needs it.
    code = (
        "import boto3,sys; from botocore.config import Config; e,k,s,b=sys.argv[1:]; "
        "boto3.client('s3',endpoint_url=e,aws_access_key_id=k,aws_secret_access_key=s,region_name='us-east-1',"
        "config=Config(s3={'addressing_style':'path'})).create_bucket(Bucket=b)"
    )
    subprocess.run([sys.executable, "-c", code, endpoint, key, secret, BUCKET], check=True, timeout=60)
    options = {"endpoint": endpoint, "access_key_id": key, "secret_access_key": secret, "region": "us-east-1"}
    return Bucket(f"s3://{BUCKET}", options, endpoint, swaps)


def _make_container(endpoint: str) -> None:
    """By a signed request: obstore makes no containers."""
    import hashlib
    import hmac
    import urllib.request
    from email.utils import formatdate

    date, version = formatdate(usegmt=True), "2021-08-06"
    resource = f"/{_ACCOUNT}/{_ACCOUNT}/{BUCKET}\nrestype:container"
    said = "PUT" + "\n" * 12 + f"x-ms-date:{date}\nx-ms-version:{version}\n{resource}"
    signature = base64.b64encode(hmac.new(base64.b64decode(_KEY), said.encode(), hashlib.sha256).digest()).decode()
    headers = {
        "x-ms-date": date,
        "x-ms-version": version,
        "Authorization": f"SharedKey {_ACCOUNT}:{signature}",
        "Content-Length": "0",
    }
    request = urllib.request.Request(f"{endpoint}/{BUCKET}?restype=container", method="PUT", headers=headers)
    urllib.request.urlopen(request, timeout=10).close()


SERVERS: dict[str, Callable[[], Bucket]] = {"moto": moto, "rgw": rgw, "swift": without_swaps, "azurite": azurite}
