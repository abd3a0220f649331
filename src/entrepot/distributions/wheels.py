"""Wheels: a ZIP archive with one .dist-info folder that tells the truth about it (PEP 427)."""

from email.parser import HeaderParser
from typing import Final

from entrepot.distributions import agreement, entry_points, records, tars, zip_layout
from entrepot.distributions.contents import Contents
from entrepot.distributions.findings import Findings, shown
from entrepot.distributions.inspection import Inspection
from entrepot.distributions.limits import Limits
from entrepot.distributions.zips import Zip
from entrepot.errors import Invalid
from entrepot.model import normalise
from entrepot.wire.filenames import Distribution
from entrepot.wire.metadata import parsed_version

_SUFFIX: Final = ".dist-info"
# gzip, bzip2, xz and zstd: a ZIP reader that starts at the end would not notice.
_OTHER_MAGIC: Final = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd")


def inspect(
    contents: Contents, distribution: Distribution, findings: Findings, limits: Limits, *, thorough: bool
) -> Inspection:
    """Everything about a wheel. Raises `Invalid` where there is no metadata to speak of."""
    refuse_polyglot(contents)
    archive = Zip(contents, limits, findings)
    zip_layout.check(archive)
    folder = _dist_info(archive, distribution, findings)
    _check_folder(folder, distribution, findings)
    data = _metadata(archive, folder)
    metadata = agreement.judged(data, distribution, findings, at="METADATA")
    names = frozenset(archive.by_name)
    for licence in agreement.missing_licences(metadata, f"{folder}/licenses", names):
        findings.malformed("the file is missing", at=shown(f"{folder}/licenses/{licence}"))
    _check_wheel_file(archive, folder, findings)
    _check_entry_points(archive, folder, findings)
    records.check(archive, folder, findings, thorough=thorough)
    return Inspection(
        distribution=distribution,
        metadata=metadata,
        metadata_bytes=data,
        safety=tuple(findings.safety),
        form=tuple(findings.form),
    )


def read_metadata(contents: Contents, distribution: Distribution, findings: Findings, limits: Limits) -> bytes:
    """The bytes of METADATA. Raises `Invalid`; safety problems are noted."""
    refuse_polyglot(contents)
    archive = Zip(contents, limits, findings)
    return _metadata(archive, _dist_info(archive, distribution, findings))


def refuse_polyglot(contents: Contents) -> None:
    """Two readers that take one file for different archives install different things."""
    head = contents.read(0, tars.BLOCK)
    if head.startswith(_OTHER_MAGIC) or tars.is_header(head):
        raise Invalid("the file is another archive as well as, or instead of, a ZIP archive", at="content")


def _dist_info(archive: Zip, distribution: Distribution, findings: Findings) -> str:
    """The one .dist-info folder; of several, the one that belongs to the project (as pip does)."""
    tops = (member.name.partition("/") for member in archive.members)
    folders = sorted({top for top, slash, _ in tops if slash and top.endswith(_SUFFIX)})
    if not folders:
        hint = "is it a wheel?"
        raise Invalid("there is no .dist-info folder", at=f"*{_SUFFIX}", hint=hint)
    if len(folders) > 1:
        findings.malformed(f"there are {len(folders)} .dist-info folders", at=shown(", ".join(folders)))
    ours = (folder for folder in folders if normalise(folder.partition("-")[0]) == distribution.project)
    return next(ours, folders[0])


def _check_folder(folder: str, distribution: Distribution, findings: Findings) -> None:
    name, _, version = folder.removesuffix(_SUFFIX).partition("-")
    if normalise(name) != distribution.project or parsed_version(version) != distribution.version:
        findings.malformed(
            f"the folder is not that of {distribution.project} {distribution.version_text} of the filename",
            at=shown(folder),
            hint="build the wheel again instead of renaming it",
        )


def _metadata(archive: Zip, folder: str) -> bytes:
    name = f"{folder}/METADATA"
    if name not in archive.by_name:
        raise Invalid("the file is missing", at=shown(name))
    return archive.unpack(name, archive.limits.metadata)


def _check_wheel_file(archive: Zip, folder: str, findings: Findings) -> None:
    """WHEEL must be of version 1 (PEP 427, "File contents").

    Its tags are not compared with the filename's: installers go by the filename, PyPI does not compare either, and
    popular wheels (playwright, ray) differ.
    """
    at = f"{folder}/WHEEL"
    if at not in archive.by_name:
        findings.malformed("the file is missing", at=shown(at))
        return
    # Headers only: read as mail, a body could nest without end.
    text = archive.unpack(at, archive.limits.small).decode("utf-8", "replace")
    headers = HeaderParser().parsestr(text)
    version = str(headers.get("Wheel-Version", "")).strip()
    if version.partition(".")[0] != "1":
        findings.malformed(f"Wheel-Version {shown(version)!r} is not 1.x", at=shown(at))


def _check_entry_points(archive: Zip, folder: str, findings: Findings) -> None:
    at = f"{folder}/entry_points.txt"
    if at in archive.by_name:
        entry_points.check(archive.unpack(at, archive.limits.small), findings, at=shown(at))
