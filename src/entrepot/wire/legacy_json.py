"""The legacy JSON API, `/pypi/{name}/json` and `/pypi/{name}/{version}/json`, for Renovate and Dependabot.

The shape is PyPI's, documented only there. What an index of ours has no notion of (downloads, roles, serials)
has PyPI's value for "nothing".
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec
from msgspec import UNSET, Struct, UnsetType

from entrepot.errors import Invalid, NotFound
from entrepot.model import File, Project
from entrepot.wire import filenames
from entrepot.wire.metadata import CoreMetadata
from entrepot.wire.simple_json import href, timestamp


class _File(Struct, rename={"core_metadata": "core-metadata"}):
    filename: str
    packagetype: filenames.Kind
    python_version: str
    md5_digest: str | None
    digests: Mapping[str, str]
    core_metadata: Mapping[str, str] | bool
    upload_time: str | None
    upload_time_iso_8601: str | None
    url: str
    requires_python: str | None
    yanked: bool  # not the reason, unlike in the Simple API: Renovate's schema insists
    yanked_reason: str | None
    size: int | UnsetType = UNSET  # not known yet: left out, as on Simple pages
    has_sig: bool = False
    comment_text: str = ""
    downloads: int = -1


class _Downloads(Struct):
    last_day: int = -1
    last_week: int = -1
    last_month: int = -1


class _Info(Struct):
    name: str
    version: str
    package_url: str
    project_url: str
    release_url: str
    requires_python: str | None
    yanked: bool
    yanked_reason: str | None
    summary: str
    description: str
    description_content_type: str | None
    keywords: str | None
    license: str | None
    license_expression: str | None
    license_files: tuple[str, ...] | None
    classifiers: tuple[str, ...]
    author: str
    author_email: str
    maintainer: str
    maintainer_email: str
    platform: str
    project_urls: Mapping[str, str] | None
    requires_dist: tuple[str, ...] | None
    provides_extra: tuple[str, ...] | None
    dynamic: tuple[str, ...] | None
    home_page: str
    download_url: str
    docs_url: None = None
    bugtrack_url: None = None
    downloads: _Downloads = msgspec.field(default_factory=_Downloads)


class _Ownership(Struct):
    roles: tuple[()] = ()
    organization: None = None


class _Release(Struct):
    """The document of one version."""

    info: _Info
    urls: list[_File]
    last_serial: int = 0
    vulnerabilities: tuple[()] = ()
    ownership: _Ownership = msgspec.field(default_factory=_Ownership)


class _Project(_Release, kw_only=True):
    """The document of a project: that of its latest version, and the files of all."""

    releases: dict[str, list[_File]]


class Links(NamedTuple):
    """Absolute URLs: where files lie (a prefix, ending in "/"), and the project's page for people (too)."""

    files: str
    project: str


_ENCODER = msgspec.json.Encoder()


def render_project(project: Project, metadata: CoreMetadata | None, *, links: Links) -> bytes:
    """The project's document. `metadata` is that of the version `filenames.latest` names, if it is known.

    Raises `NotFound` if the project has no files: there is no version to speak of.
    """
    latest = filenames.latest(project.files)
    if latest is None:
        raise NotFound(f"project {project.name} has no files", at=project.name)
    releases: dict[str, list[_File]] = {}
    for file in project.files:
        releases.setdefault(file.version, []).append(_file(file, project, links))
    info = _info(project, latest, metadata, links)
    return _ENCODER.encode(_Project(info=info, urls=releases[latest], releases=releases))


def render_release(project: Project, version: str, metadata: CoreMetadata | None, *, links: Links) -> bytes:
    """The document of one version, given as files have it (PEP 440 normal form). Raises `NotFound`."""
    urls = [_file(file, project, links) for file in project.files if file.version == version]
    if not urls:
        raise NotFound(f"project {project.name} has no version {version}", at=project.name)
    return _ENCODER.encode(_Release(info=_info(project, version, metadata, links), urls=urls))


def _file(file: File, project: Project, links: Links) -> _File:
    kind, python_version = _kind(file, project)
    moment = None if file.uploaded is None else timestamp(file.uploaded)
    known = {name: file.hashes[name] for name in ("md5", "sha256", "blake2b_256") if name in file.hashes}
    return _File(
        filename=file.filename,
        packagetype=kind,
        python_version=python_version,
        md5_digest=known.get("md5"),
        digests=known,
        core_metadata=file.core_metadata,
        upload_time=moment and moment.partition(".")[0],
        upload_time_iso_8601=moment,
        url=href(links.files, file.filename),
        requires_python=file.requires_python,
        yanked=file.yanked is not None,
        yanked_reason=file.yanked or None,
        size=UNSET if file.size is None else file.size,
        has_sig=bool(file.gpg_sig),
    )


def _kind(file: File, project: Project) -> tuple[filenames.Kind, str]:
    """PyPI's `packagetype` and `python_version`: "source", a wheel's Python tag, or the Python of an egg."""
    try:
        found = filenames.parse(file.filename, project=project.name)
    except Invalid:  # a source may list what no longer parses; the extension still tells
        return ("bdist_wheel", "") if file.is_wheel else ("sdist", "source")
    return found.kind, found.pyversion


def _info(project: Project, version: str, metadata: CoreMetadata | None, links: Links) -> _Info:
    files = [file for file in project.files if file.version == version]
    # A release is yanked when all of it is: PyPI, whose notion this is, yanks nothing less.
    yanked = all(file.yanked is not None for file in files)
    given = metadata or CoreMetadata()
    return _Info(
        name=given.name or project.name,
        version=version,
        package_url=links.project,
        project_url=links.project,
        release_url=f"{links.project}#{version}",
        requires_python=given.requires_python or _first(file.requires_python for file in files),
        yanked=yanked,
        yanked_reason=_first(file.yanked for file in files) if yanked else None,
        summary=given.summary,
        description=given.description,
        description_content_type=given.description_content_type or None,
        keywords=given.keywords or None,
        license=given.license or None,
        license_expression=given.license_expression or None,
        license_files=given.license_files or None,
        classifiers=given.classifiers,
        author=given.author,
        author_email=given.author_email,
        maintainer=given.maintainer,
        maintainer_email=given.maintainer_email,
        platform=given.platforms[0] if given.platforms else "",
        project_urls=given.project_urls or None,
        requires_dist=given.requires_dist or None,
        provides_extra=given.provides_extra or None,
        dynamic=given.dynamic or None,
        home_page=given.home_page,
        download_url=given.download_url,
    )


def _first(texts: Iterable[str | None]) -> str | None:
    return next((text for text in texts if text), None)


# Reading: what another index tells of its files that its pages may leave out.


class Told(Struct, frozen=True):
    """Of one file; None where nothing is said."""

    size: int | None
    uploaded: datetime | None


class _FileIn(Struct):
    filename: str
    size: int | None = None
    upload_time_iso_8601: datetime | None = None


class _DocumentIn(Struct):
    releases: dict[str, list[_FileIn]] = {}
    urls: list[_FileIn] = []


def told(data: bytes) -> dict[str, Told]:
    """Sizes and upload times by filename. Raises `Invalid`."""
    try:
        document = msgspec.json.decode(data, type=_DocumentIn)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Invalid(f"the document is no legacy JSON: {error}") from error
    files = (file for group in (*document.releases.values(), document.urls) for file in group)
    return {file.filename: Told(file.size, _utc(file.upload_time_iso_8601)) for file in files}


def _utc(moment: datetime | None) -> datetime | None:
    if moment is None:
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
