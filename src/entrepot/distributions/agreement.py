"""Whether the metadata inside a file is sound and speaks of the same project and version as its filename."""

from entrepot.distributions.findings import Findings
from entrepot.errors import Invalid
from entrepot.model import normalise
from entrepot.wire import metadata as core
from entrepot.wire.filenames import Distribution
from entrepot.wire.metadata import CoreMetadata


def judged(data: bytes, distribution: Distribution, findings: Findings, *, at: str) -> CoreMetadata:
    """The metadata in `data`; what is wrong with it is noted as a form problem."""
    try:
        metadata, problems = core.check(data, at=at)
    except Invalid as problem:
        findings.add_form((problem,))
        return core.parse(data)
    findings.add_form(problems)
    if metadata.name and normalise(metadata.name) != distribution.project:
        findings.malformed(
            f"the metadata's name {metadata.name[:80]!a} is not that of the filename, {distribution.project}",
            at=f"{at}: Name",
            hint="build the file again instead of renaming it",
        )
    version = core.parsed_version(metadata.version)
    if version is not None and version != distribution.version:
        findings.malformed(
            f"the metadata's version {metadata.version[:80]!a} is not that of the filename, "
            f"{distribution.version_text}",
            at=f"{at}: Version",
            hint="build the file again instead of renaming it",
        )
    return metadata


def missing_licences(metadata: CoreMetadata, folder: str, names: frozenset[str]) -> list[str]:
    """License-File entries without a file under `folder`; none before metadata 2.4 (PEP 639)."""
    if metadata.format < (2, 4):
        return []
    return [path for path in metadata.license_files if f"{folder}/{path}" not in names]
