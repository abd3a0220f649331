"""No bytes whatever lead to anything but an inspection or `Invalid`; and what passes, every reader reads alike."""

import gzip
import io
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from entrepot.distributions import Inspection, inspect, read_metadata
from entrepot.errors import Invalid
from tests.distributions.build import sdist_bytes, wheel_bytes, wheel_members, zip_bytes
from tests.distributions.cases import SDIST, WHEEL

_SCRIPTS = "[console_scripts]\ndemo = demo:main\n"
_WHEEL = wheel_bytes(requires=["a>=1"], entry_points=_SCRIPTS)
_STORED = zip_bytes(wheel_members(requires=["a>=1"], entry_points=_SCRIPTS), compression=zipfile.ZIP_STORED)
_SDIST = sdist_bytes(requires=["a>=1"])
_TAR = gzip.decompress(_SDIST)

Mutation = Callable[[bytes], bytes]
_TELLING = [
    b"\0",
    b"\xff",
    b"PK\1\2",
    b"PK\3\4",
    b"PK\5\6",
    b"PK\6\6",
    b"PK\6\7",
    b"\x1f\x8b",
    b"../",
    b"/",
    b"7777",
    b"x\n",
]


@st.composite
def mutations(draw: st.DrawFn) -> Mutation:
    """Flip, cut, insert, repeat or overwrite, at a place given as a share of the whole."""
    kind = draw(st.sampled_from(["flip", "cut", "insert", "repeat", "overwrite", "end"]))
    share = draw(st.floats(0, 1))
    length = draw(st.integers(1, 64))
    piece = draw(st.sampled_from(_TELLING) | st.binary(min_size=1, max_size=8))

    def mutate(data: bytes) -> bytes:
        at = int(share * len(data))
        match kind:
            case "flip":
                return data[:at] + bytes(byte ^ (1 << length % 8) for byte in data[at : at + 1]) + data[at + 1 :]
            case "cut":
                return data[:at] + data[at + length :]
            case "insert":
                return data[:at] + piece + data[at:]
            case "repeat":
                return data[: at + length * 8] + data[at:]
            case "overwrite":
                return data[:at] + piece + data[at + len(piece) :]
            case _:
                return data[:at]

    return mutate


def _mutated(data: bytes, changes: list[Mutation]) -> bytes:
    for change in changes:
        data = change(data)
    return data


def _judge(data: bytes, filename: str) -> Inspection | None:
    """What is found, None if it is refused; any other exception fails the test."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        path = Path(file.name)
        with suppress(Invalid):
            read_metadata(path, filename)
        try:
            return inspect(path, filename)
        except Invalid:
            return None


_CHANGES = st.lists(mutations(), min_size=1, max_size=4)
_bounded = settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@_bounded
@given(base=st.sampled_from([_WHEEL, _STORED]), changes=_CHANGES)
def test_a_mutated_wheel_is_inspected_or_refused(base: bytes, changes: list[Mutation]) -> None:
    data = _mutated(base, changes)
    inspection = _judge(data, WHEEL)
    if inspection is not None and not inspection.problems:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            assert archive.testzip() is None
            assert archive.read("demo-1.0.dist-info/METADATA") == inspection.metadata_bytes


@_bounded
@given(changes=_CHANGES)
def test_a_mutated_gzip_stream_is_inspected_or_refused(changes: list[Mutation]) -> None:
    _judge(_mutated(_SDIST, changes), SDIST)


@_bounded
@given(changes=_CHANGES)
def test_a_mutated_tar_archive_is_inspected_or_refused(changes: list[Mutation]) -> None:
    tar = _mutated(_TAR, changes)
    inspection = _judge(gzip.compress(tar, compresslevel=1), SDIST)
    if inspection is not None and not inspection.problems:
        with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
            member = archive.extractfile("demo-1.0/PKG-INFO")
            assert member is not None
            assert member.read() == inspection.pkg_info


@_bounded
@given(data=st.binary(max_size=600), filename=st.sampled_from([WHEEL, SDIST, "demo-1.0.zip"]))
def test_arbitrary_bytes_are_refused(data: bytes, filename: str) -> None:
    assert _judge(data, filename) is None


@_bounded
@given(head=st.binary(max_size=200), changes=_CHANGES)
def test_mutated_members_of_dist_info_are_inspected_or_refused(head: bytes, changes: list[Mutation]) -> None:
    members = wheel_members(requires=["a>=1; python_version<'3'"], entry_points=_SCRIPTS)
    for name in list(members):
        members[name] = _mutated(members[name], changes) + head
    _judge(zip_bytes(members), WHEEL)
