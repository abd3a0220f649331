"""Distribution files, opened and judged: what their metadata is, and what is wrong with them.

Everything here is synchronous and reads a local file, or few bytes from memory, in bounded memory; run it in a
thread. Hostile bytes lead to `Invalid`, never to another exception.
"""

from pathlib import Path

from entrepot.distributions import sdists, wheels
from entrepot.distributions.contents import Contents
from entrepot.distributions.findings import Findings
from entrepot.distributions.inspection import Inspection
from entrepot.distributions.limits import DEFAULT, Limits
from entrepot.distributions.naming import current_name
from entrepot.errors import Invalid, collected
from entrepot.wire import filenames

__all__ = ["DEFAULT", "Inspection", "Limits", "current_name", "inspect", "read_metadata"]

_ZIPPED = (".zip", ".egg")  # with PKG-INFO in its one folder, or in EGG-INFO


def inspect(
    file: Path | bytes, filename: str, *, limits: Limits = DEFAULT, thorough: bool = True, renamed: bool = False
) -> Inspection:
    """Everything that is wrong with the file, given by its path or whole, which is called `filename`; its metadata.

    `thorough` unpacks every member of a wheel to compare it with RECORD; without it, a wheel costs its
    headers and metadata only. `renamed`: it had another name when it was built, which an sdist's folder may still have.
    Raises `Invalid`, with all problems found so far, where no metadata can be
    read or a limit is passed; `OSError` if the file cannot be opened.
    """
    findings = Findings()
    try:
        with Contents(file) as contents:
            return _inspect(contents, filename, findings, limits, thorough=thorough, renamed=renamed)
    except Invalid as problem:
        earlier = [*findings.safety, *findings.form]
        if not earlier:
            raise
        raise collected([*earlier, problem], filename) or problem from problem


def _inspect(
    contents: Contents, filename: str, findings: Findings, limits: Limits, *, thorough: bool, renamed: bool
) -> Inspection:
    distribution = filenames.parse(filename)
    try:
        filenames.check(filename, kind=distribution.kind)
    except Invalid as problem:
        findings.add_form((problem,))
    if distribution.kind == "bdist_wheel":
        return wheels.inspect(contents, distribution, findings, limits, thorough=thorough)
    if filename.endswith(_ZIPPED):
        return sdists.inspect_zip(contents, distribution, findings, limits)
    top = filename.removesuffix(".tar.gz")
    return sdists.inspect(contents, distribution, findings, limits, top=top, renamed=renamed)


def read_metadata(path: Path, filename: str, *, limits: Limits = DEFAULT) -> bytes:
    """The exact bytes of METADATA or PKG-INFO, for files that were published under older rules.

    Only safety is judged, and of an sdist only what stands in front of PKG-INFO. Raises `Invalid`;
    `OSError` if the file cannot be opened.
    """
    distribution = filenames.parse(filename)
    findings = Findings()
    with Contents(path) as contents:
        if distribution.kind == "bdist_wheel":
            data = wheels.read_metadata(contents, distribution, findings, limits)
        elif filename.endswith(_ZIPPED):
            data = sdists.read_zip_metadata(contents, findings, limits)
        else:
            data = sdists.read_metadata(contents, findings, limits)
    if problem := collected([*findings.safety], filename):
        raise problem
    return data
