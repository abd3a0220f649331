"""Which files a command means: NAME, NAME==VERSION or a filename."""

from typing import TYPE_CHECKING, Annotated, Protocol

import typer
from msgspec import Struct

from entrepot.errors import Invalid, NotFound
from entrepot.model import File, ProjectName, is_valid_name, normalise

if TYPE_CHECKING:
    from entrepot.assembly import Assembled
    from entrepot.index import Mounted, Sink

SelectionArgument = Annotated[str, typer.Argument(metavar="WHAT", help="NAME==VERSION, NAME or a filename.")]
ProjectArgument = Annotated[str, typer.Argument(metavar="NAME", help="The project.")]


class Named(Protocol):
    """What a file says of itself."""

    @property
    def filename(self) -> str: ...
    @property
    def version(self) -> str: ...


class Selection(Struct, frozen=True):
    """What was asked for; with neither version nor filename it is the whole project."""

    project: ProjectName
    version: str | None = None
    filename: str | None = None

    def among(self, files: tuple[File, ...]) -> frozenset[str]:
        """The filenames that are meant. Raises `NotFound` if there is none."""
        found = frozenset(file.filename for file in files if self.means(file))
        if not found:
            raise NotFound(f"{self} is not here", hint=f"`entrepot show {self.project}` lists what is")
        return found

    def means(self, file: Named) -> bool:
        if self.filename is not None:
            return file.filename == self.filename
        return self.version is None or _are_equal(file.version, self.version)

    def __str__(self) -> str:
        if self.filename is not None:
            return self.filename
        return f"{self.project}=={self.version}" if self.version is not None else self.project


def _are_equal(one: str, other: str) -> bool:
    """As installers see it: 1, 1.0 and 1.0.0 are one version (PEP 440)."""
    from packaging.version import InvalidVersion, Version

    try:
        return Version(one) == Version(other)
    except InvalidVersion:
        return one == other


def parse(text: str) -> Selection:
    """Raises `Invalid` for what is none of the three."""
    from entrepot.wire import filenames

    if text.endswith((".whl", ".tar.gz", ".zip", ".egg")):
        return Selection(filenames.parse(text).project, filename=text)
    name, equals, version = text.partition("==")
    if not is_valid_name(name.strip()):
        raise Invalid(f"{text!r} is not NAME, NAME==VERSION or a filename")
    if not equals:
        return Selection(normalise(name.strip()))
    return Selection(normalise(name.strip()), version=version.strip())


def mounted(assembled: "Assembled", index: str | None, *, at: str = "--index") -> "Mounted":
    """The index that the option `at` names, else the default one. Raises `NotFound`."""
    name = index or assembled.catalog.default
    try:
        return assembled.catalog.indexes[name]
    except KeyError:
        known = ", ".join(assembled.catalog.indexes)
        raise NotFound(f"no index {name!r}", at=at, hint=f"known: {known}") from None


def sink(assembled: "Assembled", index: str | None, *, at: str = "--index") -> "Sink":
    """What the index writes to. Raises `Invalid` if it cannot be written to. `at` is the option that named it."""
    found = mounted(assembled, index, at=at)
    if found.sink is None:
        raise Invalid(f"index {found.name!r} cannot be changed", at=at, hint="name a hosted one")
    return found.sink
