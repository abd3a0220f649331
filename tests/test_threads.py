"""Blocking work: its outcome comes back, and nobody who is cancelled leaves it behind."""

import asyncio
import gc
import threading

import pytest

from entrepot.threads import _Work, finished


async def test_a_result_and_an_error_come_back() -> None:
    assert await finished(int, "10", base=2) == 2
    with pytest.raises(ZeroDivisionError):
        await finished(divmod, 1, 0)


async def test_a_hundred_calls_at_once_all_come_back() -> None:
    assert await asyncio.gather(*(finished(abs, -n) for n in range(100))) == list(range(100))


@pytest.mark.parametrize("fails", [False, True])
async def test_who_is_cancelled_twice_waits_for_the_thread_all_the_same(
    fails: bool, caplog: pytest.LogCaptureFixture
) -> None:
    go, ended = threading.Event(), []

    def work() -> None:
        go.wait()
        ended.append(True)
        if fails:
            raise ValueError

    task = asyncio.create_task(finished(work))
    await asyncio.sleep(0)
    for _ in range(2):
        task.cancel()
        await asyncio.wait({task}, timeout=0.01)
        assert not task.done()
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended
    gc.collect()
    assert not caplog.records


async def test_a_cancellation_that_comes_with_the_outcome_loses_no_error(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fail = _Work.fail

    def fail_and_cancel(work: _Work[object], error: BaseException) -> None:
        fail(work, error)
        running[0].cancel()

    monkeypatch.setattr(_Work, "fail", fail_and_cancel)
    running = [asyncio.create_task(finished(divmod, 1, 0))]
    with pytest.raises(asyncio.CancelledError):
        await running[0]
    running.clear()
    gc.collect()
    assert not caplog.records
