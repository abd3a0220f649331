"""Which files of a page are meant by a requirement: the versions as installers choose them, and the wheels that fit."""

from collections.abc import Iterable

from msgspec import Struct
from packaging.version import InvalidVersion, Version

from entrepot.errors import Conflict, NotFound
from entrepot.model import File, Project
from entrepot.wire.requirements import Wanted
from entrepot.wire.targets import Targets

ANYWHERE = Targets()


class Choice(Struct, frozen=True, kw_only=True):
    """How files are chosen: for which environments, and whether pre-releases are as good as releases."""

    targets: Targets = ANYWHERE
    prereleases: bool = False

    def of(self, page: Project, wanted: Wanted) -> tuple[File, ...]:
        """The files that are meant. Raises `NotFound` if there are none, `Conflict` if they have other hashes."""
        if wanted.files:
            return self._locked(page, wanted)
        found = self._versions(page, wanted)
        chosen = [file for files in (found if wanted.every else found[:1]) for file in files]
        if not chosen:
            raise NotFound(f"no file of {page.name} fits {wanted.text!r}", at=wanted.at, hint=_hint(page))
        return _with_hashes(chosen, wanted)

    def missing(self, page: Project, wanted: Wanted) -> tuple[str, ...]:
        """Files that a lock names and the page does not have; of no interest where not all of them are meant."""
        there = {file.filename for file in page.files}
        return () if self.targets else tuple(sorted(wanted.files.keys() - there))

    def _locked(self, page: Project, wanted: Wanted) -> tuple[File, ...]:
        there = [file for file in page.files if file.filename in wanted.files]
        for file in there:
            check(file, wanted)
        chosen = self._fitting(there)
        if not chosen:
            raise NotFound(f"no file that is named for {wanted.text!r} is there", at=wanted.at, hint=_hint(page))
        return chosen

    def _versions(self, page: Project, wanted: Wanted) -> list[tuple[File, ...]]:
        """The files of each version that fits, newest first."""
        releases: dict[Version, list[File]] = {}
        for file in page.files:
            if (version := _version(file.version)) is not None and (wanted.every or not file.is_egg):
                releases.setdefault(version, []).append(file)
        allowed = wanted.specifier.filter(releases, prereleases=True if self.prereleases or wanted.every else None)
        chosen = (self._fitting(_standing(releases[version], wanted)) for version in sorted(allowed, reverse=True))
        return [files for files in chosen if files]

    def _fitting(self, files: Iterable[File]) -> tuple[File, ...]:
        """The wheels that fit, and the sdists where none does; everything if nothing is asked for."""
        fitting = tuple(file for file in files if self.targets.fit(file))
        wheels = tuple(file for file in fitting if file.is_wheel)
        return wheels if wheels and self.targets else fitting


def _standing(files: list[File], wanted: Wanted) -> list[File]:
    """Without yanked ones, unless that very version is asked for (PEP 592)."""
    standing = [file for file in files if file.yanked is None]
    exact = any(one.operator in {"==", "==="} and not one.version.endswith(".*") for one in wanted.specifier)
    return files if (exact and not standing) or wanted.every else standing


def _with_hashes(files: list[File], wanted: Wanted) -> tuple[File, ...]:
    """Those with a wanted hash, or with none that could be compared."""
    if not wanted.hashes:
        return tuple(files)
    kept = tuple(file for file in files if agrees(file, wanted) is not False)
    if not kept:
        raise Conflict(f"no file of {wanted.name}{wanted.specifier} has a hash that is named", at=wanted.at)
    return kept


def agrees(file: File, wanted: Wanted) -> bool | None:
    """Whether the file has a hash that is wanted; None if that cannot be told from its page."""
    pinned = wanted.files.get(file.filename)
    pairs = frozenset(pinned.items()) if pinned is not None else wanted.hashes
    if not pairs:
        return True
    known = {(name, digest) for name, digest in pairs if name in file.hashes}
    return any(file.hashes[name] == digest for name, digest in known) if known else None


def check(file: File, wanted: Wanted) -> None:
    """Raises `Conflict` if the file has another hash than a lock or a line says."""
    if agrees(file, wanted) is False:
        raise Conflict(f"{file.filename} has another hash here than {wanted.at or 'the lock'} says", at=wanted.at)


def _version(text: str) -> Version | None:
    try:
        return Version(text)
    except InvalidVersion:
        return None


def _hint(page: Project) -> str:
    if page.withheld:
        return f"{len(page.withheld)} files are withheld, see `entrepot explain {page.name}`"
    newest = page.files[-1].version if page.files else ""
    return f"the newest here is {newest}" if newest else "there are no files"
