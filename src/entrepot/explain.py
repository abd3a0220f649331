"""Why a page is as it is: which index was asked for the name, which one owns it, and what withholds each file."""

from collections.abc import AsyncIterator, Iterator
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from entrepot import rules
from entrepot.errors import Denied, EntrepotError, NotFound
from entrepot.index import Layer, Mounted
from entrepot.model import File, Project, ProjectName
from entrepot.wire import filenames

# owns: its page is the answer, or part of it. keeps: likewise, with no file, so that no other index answers.
# unknown: it does not know the name. not-asked, refuses, fails: see `why`.
Says = Literal["owns", "keeps", "unknown", "not-asked", "refuses", "fails"]


class Step(Struct, frozen=True, kw_only=True):
    """What one index says of the name, and its members, in the order in which they are asked."""

    index: str
    type: str
    says: Says
    why: str
    members: tuple["Step", ...] = ()


class Verdict(Struct, frozen=True, kw_only=True):
    """What becomes of one file. `by` is the rule that withholds it, as the configuration names it."""

    filename: str
    version: str
    origin: str
    shown: bool
    why: str
    by: str = ""


class Explanation(Struct, frozen=True, kw_only=True):
    """The whole answer. `valid_until` is when it may change by itself, in RFC 3339."""

    project: ProjectName
    index: str
    step: Step
    files: tuple[Verdict, ...] = ()
    valid_until: str | None = None


async def explain(mounted: Mounted, name: ProjectName) -> Explanation:
    """Asks the indexes that a client's request for the page would ask, and no other."""
    layer = mounted.layer or Layer(name=mounted.name, kind="", index=mounted.index)
    step = await _step(layer, name, owned=_matching(layer.own, name))
    if step.says == "unknown" and mounted.fallback is not None:
        step = replace(step, why=f"clients are sent to {await mounted.fallback(name)}")
    if step.says not in {"owns", "keeps"}:
        return Explanation(project=name, index=mounted.name, step=step)
    page = await mounted.index.project(name)
    until = page.valid_until.isoformat() if page.valid_until is not None else None
    return Explanation(
        project=name, index=mounted.name, step=step, files=tuple(_verdicts(page)), valid_until=until
    )  # fmt: skip


def _matching(patterns: tuple[str, ...], name: ProjectName) -> str:
    """The first pattern that the name matches, "" if none does."""
    return next((text for text in patterns if rules.names((text,))(name)), "")


async def _step(layer: Layer, name: ProjectName, *, owned: str) -> Step:
    if not layer.members:
        return await _asked(layer, name)
    merged = _matching(layer.merge, name)
    members = [step async for step in _members(layer, name, owned=owned, merged=bool(merged))]
    return replace(_outcome(layer, members, owned=owned, merged=merged), members=tuple(members))


async def _asked(layer: Layer, name: ProjectName) -> Step:
    says, why = await _said(layer, name)
    return Step(index=layer.name, type=layer.kind, says=says, why=why)


async def _said(layer: Layer, name: ProjectName) -> tuple[Says, str]:
    try:
        page = await layer.index.project(name)
    except NotFound:
        return "unknown", "it does not know the name"
    except EntrepotError as error:
        return ("refuses" if isinstance(error, Denied) else "fails"), error.message
    if not page.files and not page.withheld:
        return "keeps", "its page is empty, and the name stays with it"
    return "owns", f"{len(page.files)} shown, {len(page.withheld)} withheld"


async def _members(layer: Layer, name: ProjectName, *, owned: str, merged: bool) -> AsyncIterator[Step]:
    stopped = ""
    for member in layer.members:
        why = stopped
        if owned and member.kind == "mirror":
            why = f"`own` has {owned!r}, so that no mirror is asked"
        if why:
            yield Step(index=member.name, type=member.kind, says="not-asked", why=why)
            continue
        step = await _step(member, name, owned=owned)
        yield step
        if step.says in {"refuses", "fails"}:
            stopped = f"the search stops at {member.name}"
        elif step.says in {"owns", "keeps"} and not merged:
            stopped = f"{member.name} owns the name"


def _outcome(layer: Layer, members: list[Step], *, owned: str, merged: str) -> Step:
    """What the members' answers come to."""
    made = Step(index=layer.name, type=layer.kind, says="unknown", why="none of its members knows the name")
    if stopping := next((step for step in members if step.says in {"refuses", "fails"}), None):
        return replace(made, says=stopping.says, why=f"because of {stopping.index}")
    found = [step for step in members if step.says in {"owns", "keeps"}]
    if not found and owned:
        return replace(made, says="keeps", why=f"`own` has {owned!r}, and nothing of the name was published yet")
    if not found:
        return made
    names = " and ".join(step.index for step in found)
    says: Says = "owns" if any(step.says == "owns" for step in found) else "keeps"
    return replace(made, says=says, why=f"merged of {names}, as `merge` has {merged!r}" if merged else f"by {names}")


def _verdicts(page: Project) -> Iterator[Verdict]:
    """In the order of the files' versions."""
    held = {id(withheld.file): withheld for withheld in page.withheld}
    for file in filenames.ordered((*page.files, *(withheld.file for withheld in page.withheld))):
        withheld = held.get(id(file))
        if withheld is None:
            yield _verdict(file, shown=True, why="no rule withholds it")
        else:
            yield _verdict(file, shown=False, why=withheld.why, by=withheld.by)


def _verdict(file: File, *, shown: bool, why: str, by: str = "") -> Verdict:
    return Verdict(filename=file.filename, version=file.version, origin=file.origin, shown=shown, why=why, by=by)
