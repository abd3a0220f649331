"""What all tests share: nothing end to end may be skipped in CI, and nothing leaves this machine unless told to."""

import os
import signal
from collections.abc import Generator
from pathlib import Path

import pytest


def pytest_configure() -> None:
    """A shell starts what runs in the background deaf to Ctrl-C, and so would be all that tests start and interrupt."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.environ.get("ENTREPOT_NETWORK") != "1":
        for item in items:
            if item.get_closest_marker("network") is not None:
                item.add_marker(pytest.mark.skip(reason="set ENTREPOT_NETWORK=1 to ask the real index"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """On a laptop a test whose tool is missing skips and says which; with CI=true that is a failure."""
    report = yield
    forbidden = os.environ.get("CI") == "true" and item.get_closest_marker("e2e") is not None
    if forbidden and report.skipped and not hasattr(report, "wasxfail"):
        why = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        report.outcome = "failed"
        report.longrepr = f"with CI=true nothing end to end may be skipped, but {Path(item.path).name} was: {why}"
    return report
