"""A tool that is missing skips a test on a laptop, and fails it in CI."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.processes import clean_environment

RULE = Path(__file__).parent.parent / "conftest.py"
TESTS = """
import pytest

@pytest.fixture
def tool() -> None:
    pytest.skip("frobnicator is not installed")

@pytest.mark.e2e
def test_with_the_tool(tool: None) -> None: ...

@pytest.mark.e2e
def test_that_looks_for_the_tool_itself() -> None:
    pytest.skip("frobnicator is not installed")

@pytest.mark.e2e
@pytest.mark.skipif(True, reason="frobnicator is not installed")
def test_with_a_condition() -> None: ...

def test_of_another_kind(tool: None) -> None: ...

@pytest.mark.e2e
def test_that_needs_nothing() -> None: ...
"""


@pytest.mark.parametrize(
    ("ci", "code", "summary"), [("", 0, "1 passed, 4 skipped"), ("true", 1, "1 passed, 1 skipped")]
)
def test_a_skip_end_to_end_is_a_failure_in_ci(tmp_path: Path, ci: str, code: int, summary: str) -> None:
    (tmp_path / "conftest.py").write_text(RULE.read_text())
    (tmp_path / "test_some.py").write_text(TESTS)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n    e2e: as ours\n")
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", str(tmp_path)], cwd=tmp_path, check=False,
        env={**clean_environment(), "CI": ci}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert ran.returncode == code, ran.stdout
    assert summary in ran.stdout
    if ci:
        assert ran.stdout.count("nothing end to end may be skipped") >= 3
        assert "frobnicator is not installed" in ran.stdout
