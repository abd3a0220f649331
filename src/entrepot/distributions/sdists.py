"""Source distributions: one folder in a .tar.gz, with PKG-INFO and something to build from (PEP 625)."""

import unicodedata
from collections.abc import Iterator
from typing import Final

from entrepot.distributions import agreement, zips
from entrepot.distributions.contents import Contents
from entrepot.distributions.findings import Findings, is_plain, path_fault, shown
from entrepot.distributions.inflate import Gunzipped
from entrepot.distributions.inspection import Inspection
from entrepot.distributions.limits import Limits
from entrepot.distributions.tars import REFUSED, Member, Tar
from entrepot.errors import Invalid
from entrepot.wire import filenames
from entrepot.wire.filenames import Distribution
from entrepot.wire.metadata import CoreMetadata

_PKG_INFO: Final = "PKG-INFO"


class _Tree:
    """What the names of an sdist's members say together, gathered in one pass over them."""

    def __init__(self, findings: Findings) -> None:
        self.names: set[str] = set()
        self.tops: set[str] = set()
        self._symlinks: set[str] = set()
        self._findings = findings

    def add(self, member: Member) -> None:
        name = _plain(member.name)
        if fault := path_fault(member.name):
            self._unsafe(f"the name {fault}", member.name)
            return
        if not is_plain(member.name):
            self._findings.malformed(f'{REFUSED}a folder in the name is empty or "."', at=shown(member.name))
        if member.kind == "special":
            self._unsafe("a member is a device or a pipe", name)
        elif member.kind in {"symlink", "hardlink"}:
            self._check_link(name, member)
        if name in self.names and member.kind != "folder":
            self._findings.malformed(f"{REFUSED}two members have this name", at=shown(name))
        if name:
            self.names.add(name)
            self.tops.add(name.partition("/")[0])

    def _check_link(self, name: str, member: Member) -> None:
        """A link must name something in the same top folder, with ".." only in front: names may be links."""
        target = member.target
        if member.kind == "symlink":
            self._symlinks.add(_folded(name))
            up = 0
            while target == ".." or target.startswith("../"):
                target, up = target[3:], up + 1
            # At least the top folder must remain above the target.
            inside = up < name.count("/")
        else:
            inside = _plain(target).partition("/")[0] == name.partition("/")[0]
        if not inside or (target and path_fault(target)):
            self._unsafe(f"the link to {shown(member.target)} leaves the archive's folder", name)

    def check_links(self) -> None:
        """Nothing may lie below a symbolic link, which could lead it elsewhere while it is unpacked."""
        if self._symlinks:
            for name in self.names:
                if not self._symlinks.isdisjoint(_folders(_folded(name))):
                    self._unsafe("the member lies below a symbolic link", name)

    def _unsafe(self, message: str, name: str) -> None:
        self._findings.unsafe(REFUSED + message, at=shown(name) or "content")


def _plain(name: str) -> str:
    """`tar c ./demo-1.0` and `tar c .` write names that begin with "./"."""
    if is_plain(name):
        return name.removesuffix("/")
    return "/".join(segment for segment in name.split("/") if segment not in {"", "."})


def _folded(name: str) -> str:
    """What two names share that are one to a file system of macOS or Windows."""
    return name.casefold() if name.isascii() else unicodedata.normalize("NFKC", name).casefold()


def _folders(name: str) -> Iterator[str]:
    at = name.find("/")
    while at > 0:
        yield name[:at]
        at = name.find("/", at + 1)


def inspect(
    contents: Contents,
    distribution: Distribution,
    findings: Findings,
    limits: Limits,
    *,
    top: str,
    renamed: bool = False,
) -> Inspection:
    """Everything about an sdist whose one folder should be `top`, or if it was `renamed` mean the same.

    Without a PKG-INFO its metadata is empty.
    """
    refuse_zip(contents)
    tree = _Tree(findings)
    stream = Gunzipped(contents, limits)
    data = _walk(Tar(stream, findings), tree, limits)
    if stream.has_trailing_data:
        findings.malformed("there is data behind the gzip stream")
    tree.check_links()
    if renamed:
        top = next((found for found in sorted(tree.tops) if _means(found, distribution)), top)
    metadata = _judged(data, distribution, findings, at=f"{top}/{_PKG_INFO}")
    _check_tree(tree, top, findings)
    for licence in agreement.missing_licences(metadata, top, frozenset(tree.names)):
        findings.malformed("the file is missing", at=shown(f"{top}/{licence}"))
    return Inspection(
        distribution=distribution,
        metadata=metadata,
        pkg_info=data,
        safety=tuple(findings.safety),
        form=tuple(findings.form),
    )


def _means(folder: str, distribution: Distribution) -> bool:
    """Whether it is the folder of that project and version in any spelling."""
    try:
        found = filenames.parse(f"{folder}.tar.gz", project=distribution.project)
    except Invalid:
        return False
    return (found.project, found.version) == (distribution.project, distribution.version)


def _judged(data: bytes | None, distribution: Distribution, findings: Findings, *, at: str) -> CoreMetadata:
    if data is None:  # as in the oldest sdists, which still install
        findings.malformed("the file is missing", at=at, hint="build the sdist with a build backend")
        return CoreMetadata()
    return agreement.judged(data, distribution, findings, at=_PKG_INFO)


def _walk(tar: Tar, tree: _Tree, limits: Limits) -> bytes | None:
    """Look at every member; returns the PKG-INFO of the top folder, if there is one."""
    found: bytes | None = None
    for member in tar.members():
        tree.add(member)
        if is_pkg_info(member) and found is None:
            found = tar.contents(member, limits.metadata)
    return found


def is_pkg_info(member: Member) -> bool:
    top, slash, rest = _plain(member.name).partition("/")
    return member.kind == "file" and bool(top and slash) and rest == _PKG_INFO


def _check_tree(tree: _Tree, top: str, findings: Findings) -> None:
    if tree.tops != {top}:
        tops = ", ".join(sorted(tree.tops)[:5])
        findings.malformed(f"the folders at the top are not just {top}/", at=shown(tops), hint="see PEP 625")
    if not {f"{top}/pyproject.toml", f"{top}/setup.py"} & tree.names:
        findings.malformed("there is neither pyproject.toml nor setup.py", at=f"{top}/", hint="see PEP 517")


def refuse_zip(contents: Contents) -> None:
    """A .tar.gz that is a ZIP archive: by mistake at its beginning, or on purpose at its end."""
    head = contents.read(0, 4)
    if head == b"PK\x03\x04":
        raise Invalid("the file is a ZIP archive, not a .tar.gz", at="content", hint="build the sdist as .tar.gz")
    if head[:2] != b"\x1f\x8b":
        raise Invalid("the file is no gzip file", at="content", hint="build the sdist as .tar.gz")
    if zips.is_zip(contents):
        raise Invalid("the file is a ZIP archive as well as a .tar.gz", at="content")


def read_metadata(contents: Contents, findings: Findings, limits: Limits) -> bytes:
    """The bytes of PKG-INFO. Reads no further than that; safety problems up to there are noted."""
    refuse_zip(contents)
    tree = _Tree(findings)
    tar = Tar(Gunzipped(contents, limits), findings)
    for member in tar.members():
        tree.add(member)
        if is_pkg_info(member):
            tree.check_links()
            return tar.contents(member, limits.metadata)
    raise Invalid("the file is missing", at=_PKG_INFO)


def inspect_zip(contents: Contents, distribution: Distribution, findings: Findings, limits: Limits) -> Inspection:
    """A .zip sdist, as they were made before PEP 625: its names, and the metadata in it."""
    data = _zip_metadata(contents, findings, limits)
    metadata = _judged(data, distribution, findings, at=_PKG_INFO)
    return Inspection(
        distribution=distribution,
        metadata=metadata,
        pkg_info=data,
        safety=tuple(findings.safety),
        form=tuple(findings.form),
    )


def read_zip_metadata(contents: Contents, findings: Findings, limits: Limits) -> bytes:
    """The bytes of PKG-INFO of a .zip sdist."""
    data = _zip_metadata(contents, findings, limits)
    if data is None:
        raise Invalid("the file is missing", at=_PKG_INFO)
    return data


def _zip_metadata(contents: Contents, findings: Findings, limits: Limits) -> bytes | None:
    archive = zips.Zip(contents, limits, findings)
    for name in archive.by_name:
        if name.count("/") == 1 and name.endswith(f"/{_PKG_INFO}"):
            return archive.unpack(name, limits.metadata)
    return None
