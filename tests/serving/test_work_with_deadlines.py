"""Work counts until it has ended, and ends soon after nobody waits for it any more."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import MutableMapping
from typing import Any

import pytest

from bus_mlops.serving.limits import Limits
from bus_mlops.serving.requests import RefusedError
from bus_mlops.serving.work import Budget, ClientLeftError, Request, Work


async def stays() -> MutableMapping[str, Any]:
    """A client that waits for its answer."""
    await asyncio.Event().wait()
    raise AssertionError


async def leaves() -> MutableMapping[str, Any]:
    return {"type": "http.disconnect"}


class Steps:
    """A call of many short steps, as the runs of networks are, that says how far it came."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.begun = threading.Event()
        self.ended = threading.Event()

    def __call__(self) -> str:
        self.begun.set()
        try:
            while True:
                self.request.require_wanted()
                time.sleep(0.001)
        finally:
            self.ended.set()


def refused(status: int, seconds: float, receive: Any) -> tuple[Work, Request, Steps]:
    """A request whose work never ends by itself, up to the moment when its client knows."""
    work = Work(Limits(requests=1, seconds=seconds))
    request = Request(work)
    request.begin()
    steps = Steps(request)
    error = RefusedError if status else ClientLeftError
    with pytest.raises(error) as caught:
        asyncio.run(request.run(False, steps, receive))
    assert getattr(caught.value, "status", 0) == status
    return work, request, steps


@pytest.mark.parametrize(("status", "seconds", "receive"), [(504, 0.05, stays), (0, 60, leaves)])
def test_work_that_nobody_waits_for_ends_and_counts_until_then(status, seconds, receive):
    work, request, steps = refused(status, seconds, receive)
    assert work.requests.held == 1
    request.end()
    if steps.begun.is_set():  # a client that left at once may have been faster than the thread
        assert steps.ended.wait(10)
    other = Request(work)
    for _ in range(1000):  # given back by the thread that did the work, right after its last step
        if not work.requests.held:
            break
        time.sleep(0.001)
    other.begin()
    with pytest.raises(RefusedError, match="1 requests are under way"):
        Request(work).begin()


def test_what_waits_when_its_time_is_over_is_never_begun():
    work = Work(Limits(seconds=0.05))
    first, second = Request(work), Request(work)
    for each in (first, second):
        each.begin()
    blocked = threading.Event()
    work.batches.submit(blocked.wait)
    steps = Steps(second)
    with pytest.raises(RefusedError, match=r"longer than 0\.05 s"):
        asyncio.run(second.run(False, steps, stays))
    second.end()
    blocked.set()
    work.batches.submit(lambda: None).result(10)
    assert not steps.begun.is_set()


def test_a_single_image_does_not_wait_for_a_batch():
    work = Work(Limits())
    blocked = threading.Event()
    work.batches.submit(blocked.wait)
    request = Request(work)
    request.begin()
    assert asyncio.run(request.run(True, lambda: "answered", stays)) == "answered"
    blocked.set()


def test_not_ready_while_single_images_are_stuck(monkeypatch):
    work = Work(Limits())
    assert work.is_ready()
    blocked = threading.Event()
    stuck = work.submit(True, blocked.wait)
    assert work.is_ready()
    monkeypatch.setattr("bus_mlops.serving.work.STUCK_SECONDS", 0)
    assert not work.is_ready()
    blocked.set()
    stuck.result(10)
    work.submit(True, lambda: None).result(10)
    assert work.is_ready()


def test_not_ready_when_all_requests_are_taken():
    work = Work(Limits(requests=1))
    request = Request(work)
    request.begin()
    assert not work.is_ready()
    request.end()
    assert work.is_ready()


def test_a_budget_is_never_exceeded_by_many_threads_and_all_of_it_comes_back():
    budget = Budget(7, "seven")
    most, refusals = [], []

    def take_and_give() -> None:
        for _ in range(300):
            try:
                budget.take(2)
            except RefusedError as error:
                refusals.append(error.status)
                continue
            most.append(budget.held)
            budget.give(2)

    threads = [threading.Thread(target=take_and_give) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) <= 7
    assert budget.held == 0
    assert set(refusals) <= {503}


def test_a_refused_share_is_not_held():
    work = Work(Limits(megabytes=1))
    request = Request(work)
    request.take(work.bytes, 4 * 2**20)
    with pytest.raises(RefusedError):
        Request(work).take(work.bytes, 1)
    request.end()
    assert work.bytes.held == 0
