"""The upload, one function: every check, all problems together, then the sink. `keep` is the same for old files."""

import hashlib
import hmac
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Protocol

from msgspec import Struct
from msgspec.structs import replace

from entrepot import distributions
from entrepot.distributions import Inspection
from entrepot.errors import Denied, EntrepotError, Invalid, NotFound, Unavailable, collected
from entrepot.index import Addition, Sink, Staged, Upstreamed
from entrepot.model import File, ProjectName
from entrepot.threads import finished
from entrepot.wire import filenames, metadata, upload_form
from entrepot.wire.filenames import Distribution
from entrepot.wire.upload_form import Form


class Hashing(Protocol):
    """What the hashes of `hashes` have in common."""

    def update(self, data: bytes, /) -> None: ...
    def hexdigest(self) -> str: ...


def hashes(*, only_sha256: bool = False) -> dict[str, Hashing]:
    """Fresh ones of all kinds that a record holds, by name."""
    if only_sha256:
        return {"sha256": hashlib.sha256()}
    return {
        "sha256": hashlib.sha256(),
        "md5": hashlib.md5(usedforsecurity=False),
        "blake2b_256": hashlib.blake2b(digest_size=32),
    }


_LONGEST_WHEEL = 255 - len(".metadata")


class Candidate(Struct, frozen=True, kw_only=True):
    """A file that came in, complete and hashed, and what its form says of it."""

    filename: str
    form: Form
    staged: Staged
    digests: Mapping[str, str]  # of its bytes: sha256, md5 and blake2b_256, lower-case hex
    action: str | None = None  # `:action` of the query
    renamed: bool = False  # it may have been built under another name


class Publisher(Struct, frozen=True, kw_only=True):
    """On whose behalf. What they may publish to is asked when the file itself has told its project."""

    name: str
    may_publish: Callable[[ProjectName], bool]
    # The mirrors whose project of that name would be hidden by a first file here; none if they may do so.
    rivals: Callable[[ProjectName], Sequence[Upstreamed]] = lambda _: ()


class Published(Struct, frozen=True, kw_only=True):
    """What became of a candidate. `added` is False if identical bytes were there already."""

    project: ProjectName
    filename: str
    added: bool
    legacy: str | None = None  # why it would be refused as an upload


class Old(Struct, frozen=True, kw_only=True):
    """A file that was published elsewhere, complete and hashed."""

    project: ProjectName
    filename: str
    staged: Staged
    digests: Mapping[str, str]  # of its bytes: sha256, md5 and blake2b_256, lower-case hex
    uploaded: datetime
    yanked: str | None = None


async def publish(candidate: Candidate, sink: Sink, publisher: Publisher, *, now: datetime) -> Published:
    """Check everything about the candidate and add it. Raises one error that names every problem found.

    Costs a full read of the file in a thread, since its RECORD is verified.
    """
    problems = [*upload_form.check_control(candidate.form, action=candidate.action), *_digest_problems(candidate)]
    distribution = _distribution(candidate, problems)
    if distribution is not None:
        _permit(publisher, distribution.project)
        await _refuse_takeover(publisher, distribution.project, sink)
    inspection = await _inspection(candidate, problems) if distribution is not None else None
    if error := collected(problems, candidate.filename):
        raise error
    assert distribution is not None
    assert inspection is not None
    file = _file(candidate.filename, distribution, candidate.staged, candidate.digests, inspection)
    added = await _added(
        sink, distribution, replace(file, uploaded=now, by=publisher.name), candidate.staged, inspection
    )
    return Published(project=distribution.project, filename=candidate.filename, added=added)


async def keep(old: Old, sink: Sink, *, by: str) -> Published:
    """Check an old file and add it with the time that it has. Raises one error that names every problem of safety.

    What only today's form checks would refuse is kept and marked `legacy` with the reason. Nobody is asked whether a
    mirror has a project of that name. Costs what `publish` does.
    """
    distribution = filenames.parse(old.filename, project=old.project)
    problems = _length_problems(old.filename, distribution)
    inspection = await _inspected(old.staged, old.filename, problems)
    problems.extend(inspection.safety if inspection is not None else ())
    if error := collected(problems, old.filename):
        raise error
    assert inspection is not None
    legacy = str(inspection.form[0]) if inspection.form else None
    file = _file(old.filename, distribution, old.staged, old.digests, inspection)
    file = replace(file, uploaded=old.uploaded, yanked=old.yanked, by=by, legacy=legacy)
    added = await _added(sink, distribution, file, old.staged, inspection)
    return Published(project=distribution.project, filename=old.filename, added=added, legacy=legacy)


def _permit(publisher: Publisher, project: ProjectName) -> None:
    # Before anything about the content is said: to strangers a refusal tells nothing of a project.
    if not publisher.may_publish(project):
        hint = "`entrepot token create --can upload` makes a token that may"
        raise Denied(f"{publisher.name} may not upload to project {project}", hint=hint)


async def _refuse_takeover(publisher: Publisher, project: ProjectName, sink: Sink) -> None:
    """The first file of a project hides those of the same name that mirrors have: that must be meant."""
    rivals = publisher.rivals(project)
    if not rivals or await _is_there(sink, project):
        return
    hint = f"`own` in the configuration, a token made for --project {project}, or one that may manage allows it"
    for mirror in rivals:
        hidden = f"project {project} of index {mirror.name}"
        try:
            if await mirror.knows(project):
                raise Denied(f"this would hide {hidden}", hint=hint)
        except Unavailable as error:
            raise Denied(f"this may hide {hidden}, which cannot be asked: {error.message}", hint=hint) from error


async def _is_there(sink: Sink, project: ProjectName) -> bool:
    try:
        await sink.files(project)
    except NotFound:
        return False
    return True


def _digest_problems(candidate: Candidate) -> list[EntrepotError]:
    try:
        given = upload_form.digests(candidate.form)
    except Invalid as error:
        return list(error.problems or (error,))
    return [
        Invalid(
            "The digest supplied does not match a digest calculated from the uploaded file.",
            at=f"{algorithm} {digest}",
            hint=f"the bytes that arrived have {candidate.digests[algorithm]}",
        )
        for algorithm, digest in given.items()
        if not hmac.compare_digest(digest, candidate.digests[algorithm])
    ]


def _distribution(candidate: Candidate, problems: list[EntrepotError]) -> Distribution | None:
    """What the filename tells; None, with the reason among the problems, if it is no distribution's."""
    try:
        found = filenames.check(candidate.filename, kind=candidate.form.one("filetype") or "")
    except Invalid as error:
        problems.extend(error.problems or (error,))
        return None
    problems.extend(_length_problems(candidate.filename, found))
    return found


def _length_problems(filename: str, distribution: Distribution) -> list[EntrepotError]:
    if distribution.kind != "bdist_wheel" or len(filename) <= _LONGEST_WHEEL:
        return []
    hint = "with .metadata after it, file systems would not take it"
    return [Invalid(f"Filename is longer than {_LONGEST_WHEEL} bytes", at="content", hint=hint)]


async def _inspection(candidate: Candidate, problems: list[EntrepotError]) -> Inspection | None:
    found = await _inspected(candidate.staged, candidate.filename, problems, renamed=candidate.renamed)
    if found is None:
        return None
    problems.extend([*found.safety, *found.form])
    if found.metadata.name:  # without it there was nothing to read, which is said already
        problems.extend(metadata.disagreements(found.metadata, candidate.form.fields))
    return found


async def _inspected(
    staged: Staged, filename: str, problems: list[EntrepotError], *, renamed: bool = False
) -> Inspection | None:
    """What reading the file tells; None, with the reason among the problems, if it cannot be read or is a trap."""
    try:
        inspect = partial(distributions.inspect, renamed=renamed)
        return await finished(inspect, staged.path if staged.held is None else staged.held, filename)
    except Invalid as error:
        problems.extend(error.problems or (error,))
        return None


def _file(
    filename: str, distribution: Distribution, staged: Staged, digests: Mapping[str, str], inspection: Inspection
) -> File:
    """What the file's bytes tell of it."""
    companion = inspection.metadata_bytes  # wheels only, as PyPI does
    return File(
        filename=filename,
        version=distribution.version_text,
        size=staged.size,
        hashes=digests,
        requires_python=inspection.metadata.requires_python or None,
        core_metadata={"sha256": hashlib.sha256(companion).hexdigest()} if companion is not None else False,
    )


async def _added(sink: Sink, distribution: Distribution, file: File, staged: Staged, inspection: Inspection) -> bool:
    return await sink.add(
        Addition(project=distribution.project, file=file, staged=staged, metadata=inspection.metadata_bytes)
    )
