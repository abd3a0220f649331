"""What was measured: lines of values in rows, and the targets they are held against."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from statistics import median

from bench.processes import FAILURES


@dataclass(slots=True, kw_only=True)
class Line:
    """One contender's values in the order of the rounds; none, and the reason in `note`, if unmeasured."""

    name: str
    values: list[float] = field(default_factory=list)
    note: str = ""

    @property
    def median(self) -> float:
        return median(self.values)


@dataclass(slots=True, kw_only=True)
class Row:
    """One table of the report; `baseline` names the line to which the others are compared."""

    title: str
    unit: str
    about: str = ""
    baseline: str = ""
    lines: list[Line] = field(default_factory=list)

    def line(self, name: str) -> Line:
        return next((line for line in self.lines if line.name == name), Line(name=name, note="not measured"))


@dataclass(slots=True, kw_only=True)
class Target:
    """One promise; `met` is None where nothing could be measured, and `measured` then says why."""

    what: str
    wanted: str
    measured: str
    spread: str = ""
    met: bool | None = None


def interleaved(contenders: Mapping[str, Callable[[], float]], rounds: int) -> list[Line]:
    """Each contender once per round (A B C A B C …); one that cannot be measured drops out."""
    lines = [Line(name=name) for name in contenders]
    for number in range(rounds):
        for line in lines:
            if len(line.values) < number:
                continue
            try:
                line.values.append(contenders[line.name]())
            except FAILURES as error:
                line.note = f"not measured: {error}"
    return lines


def ratio_target(row: Row, ours: str, factor: float) -> Target:
    """`ours` must reach `factor` × the row's baseline; the spread is that of the rounds' own ratios."""
    mine, base = row.line(ours), row.line(row.baseline)
    what, wanted = f"{row.title}: {ours}", f"≥ {factor:g} × {row.baseline}"
    if not mine.values or not base.values:
        return _missing(what, wanted, mine if not mine.values else base)
    ratio = mine.median / base.median
    each = [one / other for one, other in zip(mine.values, base.values, strict=False)]
    return Target(
        what=what,
        wanted=wanted,
        measured=f"{ratio:.2f} ×",
        spread=f"{min(each):.2f}–{max(each):.2f}",
        met=ratio >= factor,
    )


def least_target(row: Row, ours: str, limit: float, wanted: str) -> Target:
    line = row.line(ours)
    if not line.values:
        return _missing(f"{row.title}: {ours}", wanted, line)
    return _valued(row, line, wanted, met=line.median >= limit)


def most_target(row: Row, ours: str, limit: float, wanted: str) -> Target:
    line = row.line(ours)
    if not line.values:
        return _missing(f"{row.title}: {ours}", wanted, line)
    return _valued(row, line, wanted, met=line.median < limit)


def shown(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _valued(row: Row, line: Line, wanted: str, *, met: bool) -> Target:
    return Target(
        what=f"{row.title}: {line.name}",
        wanted=wanted,
        measured=f"{shown(line.median)} {row.unit}",
        spread=f"{shown(min(line.values))}–{shown(max(line.values))}",
        met=met,
    )


def _missing(what: str, wanted: str, line: Line) -> Target:
    return Target(what=what, wanted=wanted, measured=f"{line.name}: {line.note or 'not measured'}")
