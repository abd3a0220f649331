"""The Simple API in JSON, version 1.4 (PEP 691, 700, 714, 740, 792), in both directions."""

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated, Final, TypeVar
from urllib.parse import quote, urljoin

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from entrepot.errors import EntrepotError, Invalid, collected
from entrepot.model import ACTIVE, File, Project, ProjectName, Status, StatusName, is_valid_name, normalise
from entrepot.wire import filenames

API_VERSION: Final = "1.4"
# From 1.1 on every file has a size (PEP 700). A page that cannot give one calls itself 1.0, where the newer
# keys are extra ones that clients read all the same.
API_VERSION_WITHOUT_SIZES: Final = "1.0"


class Page(Struct, frozen=True):
    """A page read from elsewhere: the project, and the absolute URL of each of its files by filename."""

    project: Project
    urls: Mapping[str, str]


# What is written. Keys that equal their default are left out.


class _FileOut(Struct, rename="kebab", omit_defaults=True, gc=False):
    filename: str
    url: str
    hashes: Mapping[str, str]  # MUST be present, may be {}
    yanked: bool | str
    size: int | UnsetType = UNSET
    upload_time: datetime | str | UnsetType = UNSET
    requires_python: str | UnsetType = UNSET
    # Never as "dist-info-metadata": released pips misread it in JSON, hence the new name (PEP 714).
    core_metadata: Mapping[str, str] | bool = False
    gpg_sig: bool | UnsetType = UNSET
    provenance: str | UnsetType = UNSET


class _MetaOut(Struct, rename={"api_version": "api-version"}):
    api_version: str = API_VERSION


class _StatusOut(Struct, omit_defaults=True):
    status: StatusName
    reason: str | None = None


class _DetailOut(Struct, rename="kebab", omit_defaults=True):
    meta: _MetaOut
    name: str
    versions: tuple[str, ...]
    files: list[_FileOut]
    # A dict at the top level: the example in the specification still shows it in `meta`, the text decides.
    project_status: _StatusOut | UnsetType = UNSET


class _NameOut(Struct):
    name: str


class _ListOut(Struct):
    meta: _MetaOut
    projects: list[_NameOut]


_ENCODER = msgspec.json.Encoder()


def render(project: Project, *, prefix: str) -> bytes:
    """The project's page. The URL of a file is `prefix` and its percent-encoded filename.

    The status is left out where it is plainly "active", which is what its absence means (PEP 792): nearly
    every page is, and the key would be a quarter of a page of one file.
    """
    sized = all(file.size is not None for file in project.files)
    status = project.status
    return _ENCODER.encode(
        _DetailOut(
            meta=_MetaOut(API_VERSION if sized else API_VERSION_WITHOUT_SIZES),
            name=project.name,
            project_status=UNSET if status == ACTIVE else _StatusOut(status.status, status.reason),
            # The files are ordered (see `Project`), so this is `filenames.versions` without comparing anew.
            versions=tuple(dict.fromkeys([file.version for file in project.files])),
            files=[_file_out(file, prefix) for file in project.files],
        )
    )


def _file_out(file: File, prefix: str) -> _FileOut:
    filename, hashes, metadata, size = file.filename, file.hashes, file.core_metadata, file.size
    requires_python, gpg_sig, provenance = file.requires_python, file.gpg_sig, file.provenance
    # By position, in the order of the fields: by name it takes half as long again, and pages have thousands.
    return _FileOut(
        filename,
        prefix + filename if _PLAIN(filename) else href(prefix, filename),
        hashes if len(hashes) == 1 else shown(hashes),
        # "Either a boolean or an arbitrary string" (PEP 691): the empty reason is `true`.
        file.yanked is not None and (file.yanked or True),
        UNSET if size is None else size,
        _time_out(file.uploaded),
        requires_python or UNSET,
        metadata if isinstance(metadata, bool) else shown(metadata) or True,
        UNSET if gpg_sig is None else gpg_sig,
        provenance or UNSET,
    )


def _time_out(moment: datetime | None) -> datetime | str | UnsetType:
    """As `timestamp`. msgspec writes the same ten times as fast, but leaves zero microseconds out."""
    if moment is None:
        return UNSET
    return moment if moment.microsecond and moment.tzinfo is UTC else timestamp(moment)


def render_list(names: Iterable[ProjectName]) -> bytes:
    """The list of projects."""
    return _ENCODER.encode(_ListOut(_MetaOut(), [_NameOut(name) for name in names]))


# What both forms of the Simple API and the legacy JSON share.

_PLAIN = re.compile(r"[A-Za-z0-9._~-]+\Z").match
_STRONGEST_FIRST = ("sha512", "sha384", "sha3_512", "blake2b", "sha224", "sha1", "md5")


def href(prefix: str, filename: str) -> str:
    """The URL of a file. Its name is percent-encoded whole: a "+" decodes to itself everywhere only so."""
    return prefix + (filename if _PLAIN(filename) else quote(filename, safe=""))


def shown(hashes: Mapping[str, str]) -> Mapping[str, str]:
    """What a page says of the hashes: sha256 alone, as uv compares the first; else all, best first."""
    if len(hashes) < 2:
        return hashes
    if "sha256" in hashes:
        return {"sha256": hashes["sha256"]}
    rank = {name: place for place, name in enumerate(_STRONGEST_FIRST)}
    return dict(sorted(hashes.items(), key=lambda item: (rank.get(item[0], len(rank)), item[0])))


def timestamp(moment: datetime) -> str:
    """yyyy-mm-ddThh:mm:ss.ffffffZ (PEP 700), always with the six digits."""
    if moment.tzinfo is not UTC:
        moment = moment.astimezone(UTC)
    return moment.isoformat(timespec="microseconds")[:26] + "Z"


# What is read: any 1.x. Unknown keys are ignored, `null` is taken for absence.

_Companion = bool | dict[str, str] | None


class _FileIn(Struct, rename="kebab", gc=False):
    filename: str
    url: str
    hashes: dict[str, str] | None = None
    size: Annotated[int, Meta(ge=0)] | None = None
    upload_time: datetime | None = None
    requires_python: str | None = None
    core_metadata: _Companion | UnsetType = UNSET
    dist_info_metadata: _Companion | UnsetType = UNSET  # its name before PEP 714
    data_dist_info_metadata: _Companion | UnsetType = UNSET  # PyPI's slip, which uv reads as well
    yanked: bool | str | None = None
    gpg_sig: bool | None = None
    provenance: str | None = None


class _MetaIn(Struct, rename="kebab", frozen=True):
    api_version: str = "1.0"


class _StatusIn(Struct):
    status: str = "active"
    reason: str | None = None


class _DetailIn(Struct, rename="kebab"):
    name: str
    files: list[_FileIn]
    meta: _MetaIn = _MetaIn()
    project_status: _StatusIn | None = None


class _NameIn(Struct):
    name: str


class _ListIn(Struct):
    projects: list[_NameIn]
    meta: _MetaIn = _MetaIn()


_Document = TypeVar("_Document", _DetailIn, _ListIn)
_DETAIL = msgspec.json.Decoder(_DetailIn)
_LIST = msgspec.json.Decoder(_ListIn)


def parse(data: bytes, *, base: str) -> Page:
    """The page in `data`, which came from the URL `base`.

    A file whose name is no distribution's is left out, as pip does; of two with one name (which the standard
    forbids) the first counts. Raises `Invalid` with every fault and the path to it.
    """
    detail = _decoded(_DETAIL, data)
    check_version(detail.meta.api_version)
    name = normalise(detail.name)
    problems: list[EntrepotError] = []
    files: list[File] = []
    urls: dict[str, str] = {}
    for number, entry in enumerate(detail.files):
        version = filenames.version_of(entry.filename, name)
        if version is None or entry.filename in urls:
            continue
        try:
            urls[entry.filename] = absolute(base, entry.url)
            files.append(_file_in(entry, version, base))
        except Invalid as problem:
            problems.append(Invalid(problem.message, at=f"$.files[{number}].{problem.at}"))
    if fault := collected(problems, "the page"):
        raise fault
    given = detail.project_status or _StatusIn()
    project = Project(
        name=name,
        files=filenames.ordered(files),
        status=status_of(given.status, given.reason),
    )
    return Page(project, urls)


def _file_in(entry: _FileIn, version: str, base: str) -> File:
    companion = entry.core_metadata
    if companion is UNSET:
        companion = entry.data_dist_info_metadata if entry.dist_info_metadata is UNSET else entry.dist_info_metadata
    yanked = entry.yanked
    return File(
        filename=entry.filename,
        version=version,
        size=entry.size,
        hashes=checked(entry.hashes, at="hashes") if entry.hashes else {},
        uploaded=utc(entry.upload_time),
        requires_python=entry.requires_python or None,
        # JSON may hold true or false or the reason (PEP 691).
        yanked=None if yanked is False or yanked is None else "" if yanked is True else yanked,
        core_metadata=(
            checked(companion, at="core-metadata") or True if isinstance(companion, dict) else companion is True
        ),
        provenance=web_url(base, entry.provenance),
        gpg_sig=entry.gpg_sig,
    )


def parse_list(data: bytes) -> tuple[ProjectName, ...]:
    """The names in a list of projects: normal, each once, in the order given; what is no name is left out."""
    listing = _decoded(_LIST, data)
    check_version(listing.meta.api_version)
    return tuple(dict.fromkeys(normalise(entry.name) for entry in listing.projects if is_valid_name(entry.name)))


# Reading, shared with HTML.

_VERSION = re.compile(r"([0-9]+)\.[0-9]+\Z")
_HEX = re.compile(r"[0-9a-f]+\Z")
_STATUSES: Mapping[str, StatusName] = {
    "active": "active",
    "archived": "archived",
    "quarantined": "quarantined",
    "deprecated": "deprecated",
}


def check_version(given: str, *, at: str = "$.meta.api-version") -> None:
    """Raises `Invalid` unless the document is 1.x: a client MUST fail on another major version (PEP 629)."""
    match = _VERSION.match(given)
    if match is None:
        raise Invalid(f"{given!r} is no version of the Simple API", at=at)
    if match.group(1) != "1":
        raise Invalid(f"the Simple API of version {given} is not supported, only 1.x is", at=at)


def status_of(given: str, reason: str | None) -> Status:
    """The project's status. One of a later version has a meaning we cannot know, and is taken for none."""
    known = _STATUSES.get(given)
    return Status(status=known, reason=reason or None) if known else ACTIVE


# On the page's own host: nothing in front that could name another, or a scheme.
_FOLDER = re.compile(r"/?(?:[A-Za-z0-9._+~-]+/)*\Z").match
_FILENAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+~-]*\Z").match


def absolute(base: str, url: str) -> str:
    """`url` resolved against `base`, without its fragment. Raises `Invalid`."""
    url = url.partition("#")[0]
    # Nearly all have one of two forms that need no look at each part, which is slow.
    if url.startswith(("https://", "http://")) and "[" not in url:
        return url
    folder, slash, filename = url.rpartition("/")
    if _FOLDER(folder + slash) and _FILENAME(filename):
        return _folder(base, folder + slash or ".") + filename
    try:
        return urljoin(base, url)
    except ValueError as error:  # "http://[" and the like
        raise Invalid(f"{url!r} is no URL: {error}", at="url") from error


@lru_cache(maxsize=256)
def _folder(base: str, url: str) -> str:
    return urljoin(base, url)


def web_url(base: str, url: str | None) -> str | None:
    """An absolute http(s) URL for a link that pages repeat; None for any other scheme."""
    if not url:
        return None
    try:
        resolved = urljoin(base, url)
    except ValueError as error:
        raise Invalid(f"{url!r} is no URL: {error}", at="provenance") from error
    return resolved if resolved.startswith(("https://", "http://")) else None


def checked(hashes: Mapping[str, str], *, at: str) -> Mapping[str, str]:
    """The hashes in lower case, without empty ones. Raises `Invalid` for what can be no digest."""
    if len(hashes) == 1 and "sha256" in hashes and _HEX.match(hashes["sha256"]):  # nearly all of them
        return hashes
    result = {name.lower(): digest.lower() for name, digest in hashes.items() if digest}
    for name, digest in result.items():
        if not _HEX.match(digest):
            raise Invalid(f"{digest!r} is no hexadecimal digest", at=f"{at}.{name}")
    return result


def utc(moment: datetime | None) -> datetime | None:
    """Aware and in UTC. "Z" is required (PEP 700); what lacks it can mean nothing else."""
    if moment is None or moment.tzinfo is UTC:
        return moment
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


# Decoding. When the quick decoder stumbles, the document is gone through slowly, to name every fault.


def _decoded(decoder: msgspec.json.Decoder[_Document], data: bytes) -> _Document:
    try:
        try:
            return decoder.decode(data)
        except msgspec.ValidationError as error:
            problems = _faults(msgspec.json.decode(data), decoder.type)
            raise collected(problems, "the page") or Invalid(str(error)) from error
    # Also of the second decoding: the first stops at a wrong type, with worse to come.
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Invalid(f"the page is not JSON: {error}") from error


def _faults(document: object, shape: type[_DetailIn] | type[_ListIn]) -> list[EntrepotError]:
    """Everything of the wrong type, with its path. Of another major version only that is said."""
    if not isinstance(document, dict):
        return [Invalid(f"expected an object, not {type(document).__name__}", at="$")]
    meta = document.get("meta")
    if isinstance(meta, dict) and isinstance(given := meta.get("api-version"), str):
        check_version(given)
    key, item = ("files", _FileIn) if shape is _DetailIn else ("projects", _NameIn)
    entries = document.get(key)
    if not isinstance(entries, list):
        return _misfits(document, shape, "$")
    problems = _misfits({**document, key: []}, shape, "$")
    for number, entry in enumerate(entries):
        problems += _misfits(entry, item, f"$.{key}[{number}]")
    return problems


def _misfits(value: object, shape: type[Struct], at: str) -> list[EntrepotError]:
    try:
        msgspec.convert(value, shape)
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at ")
        return [Invalid(message, at=at + path.replace("`", "").removeprefix("$"))]
    return []
