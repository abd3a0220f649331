"""The upload: every check, all problems together, and nothing added unless all is well."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from secrets import token_hex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrepot.errors import Conflict, Denied, EntrepotError, Invalid, NotFound
from entrepot.index import Staged
from entrepot.model import ProjectName, Status, normalise
from entrepot.publish import Candidate, Published, Publisher, publish
from entrepot.sources.hosted import Hosted
from entrepot.stores.memory import Memory
from entrepot.wire.upload_form import Form
from tests.distributions import build

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
DEMO = normalise("demo")
WHEEL, SDIST = build.wheel_filename(), build.sdist_filename()
ALICE = Publisher(name="alice", may_publish=lambda _: True)

Try = Callable[..., Awaitable[Published]]


@pytest.fixture
def sink() -> Hosted:
    return Hosted("main", Memory())


def candidate(
    staging: Path, filename: str = WHEEL, data: bytes | None = None, *, action: str | None = None, **fields: object
) -> Candidate:
    """An upload as twine sends it; `fields` replace those of its form, None takes one out."""
    kind = "bdist_wheel" if filename.endswith(".whl") else "sdist"
    if data is None:
        data = build.wheel_bytes() if kind == "bdist_wheel" else build.sdist_bytes()
    digests = {
        "sha256": hashlib.sha256(data).hexdigest(),
        "md5": hashlib.md5(data, usedforsecurity=False).hexdigest(),
        "blake2b_256": hashlib.blake2b(data, digest_size=32).hexdigest(),
    }
    form = {
        ":action": "file_upload",
        "protocol_version": "1",
        "filetype": kind,
        "name": "demo",
        "version": "1.0",
        "metadata_version": "2.1",
        "sha256_digest": digests["sha256"],
        "md5_digest": digests["md5"],
        "blake2_256_digest": digests["blake2b_256"],
        **{name.replace("action_", ":action"): value for name, value in fields.items()},
    }
    path = staging / token_hex(8)
    path.write_bytes(data)
    return Candidate(
        filename=filename,
        form=Form(fields={name: [str(value)] for name, value in form.items() if value is not None}),
        staged=Staged(path=path, size=len(data), sha256=digests["sha256"]),
        digests=digests,
        action=action,
    )


@pytest.fixture
def upload(sink: Hosted) -> Try:
    """Upload `candidate(…)` on behalf of alice."""

    async def uploading(filename: str = WHEEL, data: bytes | None = None, **fields: object) -> Published:
        return await publish(candidate(sink.staging, filename, data, **fields), sink, ALICE, now=NOW)  # type: ignore[arg-type]

    return uploading


async def refused(attempt: Awaitable[Published]) -> list[str]:
    """Every fault that the refusal names."""
    with pytest.raises(Invalid) as raised:
        await attempt
    return [str(problem) for problem in raised.value.problems or (raised.value,)]


# What goes well


async def test_a_wheel_is_published_with_all_that_it_says_of_itself(sink: Hosted, upload: Try) -> None:
    data = build.wheel_bytes(requires_python=">=3.12")
    done = await upload(WHEEL, data)
    assert done == Published(project=DEMO, filename=WHEEL, added=True)
    [file] = await sink.files(DEMO)
    metadata = build.metadata_text(requires_python=">=3.12").encode()
    assert (file.filename, file.version, file.size, file.uploaded) == (WHEEL, "1.0", len(data), NOW)
    assert (file.by, file.requires_python, file.yanked, file.legacy) == ("alice", ">=3.12", None, None)
    assert file.core_metadata == {"sha256": hashlib.sha256(metadata).hexdigest()}
    assert file.hashes == {
        "sha256": hashlib.sha256(data).hexdigest(),
        "md5": hashlib.md5(data, usedforsecurity=False).hexdigest(),
        "blake2b_256": hashlib.blake2b(data, digest_size=32).hexdigest(),
    }


async def test_an_sdist_is_published_without_a_companion(sink: Hosted, upload: Try) -> None:
    assert (await upload(SDIST)).added
    [file] = await sink.files(DEMO)
    assert (file.core_metadata, file.requires_python) == (False, ">=3.9")


async def test_the_project_is_that_of_the_filename(sink: Hosted, upload: Try) -> None:
    name = build.wheel_filename("Acme.Tools", "1.0")
    done = await upload(name, build.wheel_bytes("Acme.Tools", "1.0"), name="ACME_tools")
    assert done.project == "acme-tools"
    assert [project async for project in sink.projects()] == ["acme-tools"]


async def test_identical_bytes_again_are_a_success_that_added_nothing(upload: Try) -> None:
    await upload()
    assert await upload() == Published(project=DEMO, filename=WHEEL, added=False)


async def test_the_action_may_stand_in_the_query(upload: Try) -> None:
    assert (await upload(action="file_upload", action_=None)).added


@pytest.mark.parametrize("digest", ["sha256_digest", "md5_digest", "blake2_256_digest"])
async def test_one_digest_is_enough(upload: Try, digest: str) -> None:
    others = {"sha256_digest", "md5_digest", "blake2_256_digest"} - {digest}
    assert (await upload(**dict.fromkeys(others))).added


async def test_what_clients_send_beside_is_accepted(upload: Try) -> None:
    """uv sends attestations by default, and an empty requires_python."""
    assert (await upload(attestations="[{}]", requires_python="", summary="x" * 1000, no_such_field="x")).added


# What does not


async def test_other_bytes_under_the_name_are_a_conflict(upload: Try) -> None:
    await upload()
    with pytest.raises(Conflict, match=r"^File already exists"):
        await upload(WHEEL, build.wheel_bytes(files={"demo/other.py": b""}))


async def test_all_problems_are_told_at_once(sink: Hosted, upload: Try) -> None:
    members = build.wheel_members(requires=("other @ file:///home/other.whl",), files={"demo/__init__.py": b"true"})
    members["demo/__init__.py"] = b"lied"
    faults = await refused(
        upload(
            WHEEL,
            build.zip_bytes(members),
            action_="submit",
            protocol_version="2",
            sha256_digest="0" * 64,
            name="other",
            version="2.0",
        )
    )
    assert [fault.partition(": ")[0] for fault in faults] == [
        ":action",
        "protocol_version",
        f"sha256 {'0' * 64}",
        "METADATA",
        "demo/__init__.py",
        "name",
        "version",
    ]
    with pytest.raises(NotFound):
        await sink.files(DEMO)


async def test_the_error_that_holds_all_problems_names_the_file(upload: Try) -> None:
    with pytest.raises(Invalid, match=rf"^{WHEEL} has 2 problems$"):
        await upload(protocol_version="2", name="other")


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"action_": None}, ":action: must be file_upload; it is missing"),
        (
            {"action_": "submit"},
            ":action: must be file_upload; not 'submit' (projects need no registration: upload the first file)",
        ),
        ({"protocol_version": "2"}, "protocol_version: Unknown protocol version. (it must be 1)"),
        ({"name": "other"}, "name: the form says 'other', the file's metadata 'demo' (the file is right: publish it"),
        ({"version": "1.1"}, "version: the form says '1.1', the file's metadata '1.0'"),
        ({"requires_python": ">=2"}, "requires_python: the form says '>=2', the file's metadata '>=3.9'"),
        (
            {"md5_digest": "0" * 32},
            f"md5 {'0' * 32}: The digest supplied does not match a digest calculated from the uploaded file.",
        ),
        ({"sha256_digest": "abc"}, "sha256_digest: expected 64 hexadecimal digits, not 'abc'"),
        (
            {"sha256_digest": None, "md5_digest": None, "blake2_256_digest": None},
            "sha256_digest: Include at least one message digest.",
        ),
    ],
)
async def test_a_fault_of_the_form_is_named_with_its_field(upload: Try, fields: dict[str, object], fault: str) -> None:
    [found] = await refused(upload(**fields))
    assert found.startswith(fault)


@pytest.mark.parametrize("version", ["1.0", "1", "1.0.0", " 1.0 ", "v1.0"])
async def test_versions_that_are_equal_may_be_written_differently(upload: Try, version: str) -> None:
    assert (await upload(version=version)).added


@pytest.mark.parametrize(
    ("filename", "fault"),
    [
        ("demo-1.0.exe", "content: Filename 'demo-1.0.exe' is not accepted (wheels (.whl) and source distributions"),
        ("", "content: Filename ''"),
        ("../demo-1.0.tar.gz", "content: Filename '../demo-1.0.tar.gz' is a path (send the last part only)"),
        ("demo-1.0.zip", "content: Filename 'demo-1.0.zip' is not accepted"),
        ("Demo-1.0.tar.gz", "content: Filename 'Demo-1.0.tar.gz' is invalid, should be 'demo-1.0.tar.gz'."),
        ("demo-one.tar.gz", "content: Filename 'demo-one.tar.gz' has no valid version"),
        ("demo-1.0-py3.whl", "content: Invalid wheel filename (wrong number of parts): 'demo-1.0-py3.whl'"),
    ],
)
async def test_a_filename_that_is_none_is_refused_before_the_file_is_looked_at(
    upload: Try, filename: str, fault: str
) -> None:
    [found] = await refused(upload(filename, b"anything", filetype="sdist" if "whl" not in filename else "bdist_wheel"))
    assert found.startswith(fault)


async def test_a_file_of_another_kind_than_the_form_says_is_refused(upload: Try) -> None:
    [found] = await refused(upload(filetype="sdist"))
    assert found == f"filetype: Filename '{WHEEL}' is a bdist_wheel, the form says 'sdist'"


async def test_a_file_under_the_name_of_another_is_refused(upload: Try) -> None:
    faults = await refused(upload(build.wheel_filename("other"), name="other"))
    assert any("demo" in fault and "other" in fault for fault in faults)


@pytest.mark.parametrize("filename", [WHEEL, SDIST])
@pytest.mark.parametrize("data", [b"", b"hello", bytes(1000), b"PK\x05\x06" + bytes(18)])
async def test_what_is_no_archive_is_refused_with_a_reason(upload: Try, filename: str, data: bytes) -> None:
    for fault in await refused(upload(filename, data)):
        assert len(fault) > 20


async def test_a_record_that_lies_is_found_although_that_costs_a_read_of_the_whole_file(upload: Try) -> None:
    members = build.wheel_members(files={"demo/__init__.py": b"true", "demo/data.bin": b"x" * 100})
    members["demo/data.bin"] = b"y" * 100
    [fault] = await refused(upload(WHEEL, build.zip_bytes(members)))
    assert fault.startswith("demo/data.bin: ")


async def test_the_longest_filename_that_is_accepted_can_be_stored(upload: Try) -> None:
    """Its companion has a longer name: both must fit into 255 bytes."""
    for length, accepted in ((246, True), (247, False), (255, False)):
        name = "a" * (length - len("-1.0-py3-none-any.whl"))
        attempt = upload(build.wheel_filename(name), build.wheel_bytes(name), name=name)
        if accepted:
            assert (await attempt).added
        else:
            hint = "with .metadata after it, file systems would not take it"
            assert await refused(attempt) == [f"content: Filename is longer than 246 bytes ({hint})"]
    name = "a" * (255 - len("-1.0.tar.gz"))
    assert (await upload(build.sdist_filename(name), build.sdist_bytes(name), name=name)).added


# Who may


async def test_whoever_may_not_is_denied_before_anything_is_said_of_the_file(sink: Hosted) -> None:
    asked: list[ProjectName] = []

    def may_publish(project: ProjectName) -> bool:
        asked.append(project)
        return False

    bad = candidate(sink.staging, WHEEL, b"no wheel", sha256_digest="0" * 64, name="other")
    with pytest.raises(Denied) as raised:
        await publish(bad, sink, Publisher(name="bob", may_publish=may_publish), now=NOW)
    assert str(raised.value) == (
        "bob may not upload to project demo (`entrepot token create --can upload` makes a token that may)"
    )
    assert raised.value.problems == ()
    assert asked == ["demo"]


async def test_permission_is_for_the_project_of_the_file_and_not_of_the_form(sink: Hosted) -> None:
    only_other = Publisher(name="bob", may_publish=lambda project: project == "other")
    with pytest.raises(Denied):
        await publish(candidate(sink.staging, WHEEL, name="other"), sink, only_other, now=NOW)


async def test_a_closed_project_is_denied(sink: Hosted, upload: Try) -> None:
    await upload()
    await sink.mark(DEMO, Status(status="archived"))
    with pytest.raises(Denied, match="is archived and takes no new files"):
        await upload(SDIST)


_fields = st.sampled_from(
    [
        ":action",
        "protocol_version",
        "filetype",
        "name",
        "version",
        "sha256_digest",
        "md5_digest",
        "requires_python",
        "x",
    ]
)


@given(
    st.sampled_from([WHEEL, SDIST]) | st.text(max_size=30),
    st.dictionaries(_fields, st.lists(st.text(max_size=20), max_size=2)),
    st.sampled_from([build.wheel_bytes(), build.sdist_bytes()]) | st.binary(max_size=50),
)
def test_no_upload_leads_to_another_error_than_ours(
    tmp_path_factory: pytest.TempPathFactory, filename: str, fields: dict[str, list[str]], data: bytes
) -> None:
    async def attempt() -> None:
        store = Memory()
        made = candidate(tmp_path_factory.getbasetemp(), WHEEL, data)
        changed = Candidate(
            filename=filename,
            form=Form(fields={**made.form.fields, **fields}),
            staged=made.staged,
            digests=made.digests,
        )
        try:
            await publish(changed, Hosted("main", store), ALICE, now=NOW)
        except EntrepotError as error:
            assert str(error)  # noqa: PT017
        finally:
            made.staged.path.unlink()
            await store.close()

    asyncio.run(attempt())
