"""Every hostile or broken file is refused, for the reason that it was made for."""

from pathlib import Path

import pytest

from entrepot.distributions import inspect, read_metadata
from entrepot.errors import EntrepotError, Invalid
from tests.distributions import hostile_sdists, hostile_wheels, hostile_zips
from tests.distributions.cases import Case

CASES = [*hostile_zips.CASES, *hostile_wheels.CASES, *hostile_sdists.CASES]


def _judged(file: Path | bytes, case: Case) -> dict[str, list[str]]:
    """The messages by the way in which they come."""
    try:
        inspection = inspect(file, case.filename, limits=case.limits)
    except Invalid as error:
        return {"raised": [str(problem) for problem in error.problems or (error,)]}
    return {
        "safety": [str(problem) for problem in inspection.safety],
        "form": [str(problem) for problem in inspection.form],
    }


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.what)
def test_a_hostile_file_is_refused_with_its_reason(case: Case, tmp_path: Path) -> None:
    path = tmp_path / "upload"
    path.write_bytes(case.data)
    judged = _judged(path, case)
    assert any(case.message in message for message in judged.get(case.outcome, ())), judged
    assert _judged(case.data, case) == judged


@pytest.mark.parametrize("case", [case for case in CASES if case.outcome == "safety"], ids=lambda case: case.what)
def test_safety_is_judged_for_old_files_too(case: Case, tmp_path: Path) -> None:
    path = tmp_path / "old"
    path.write_bytes(case.data)
    with pytest.raises(EntrepotError) as caught:
        read_metadata(path, case.filename, limits=case.limits)
    assert case.message in "".join(map(str, (caught.value, *caught.value.problems)))
