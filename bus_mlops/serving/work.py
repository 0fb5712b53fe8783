"""Work that the service has taken on: counted until it has ended, stopped when nobody waits for it any more.

The loop that talks to clients never computes. Two threads do: one for requests of a single image, one for all others,
so that whoever asks for one answer does not wait for somebody else's batch.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from bus_mlops.serving.limits import Limits
from bus_mlops.serving.requests import RefusedError

Result = TypeVar("Result")
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
# A quick request waits for other quick ones only: when one waits this long, the service is not well.
STUCK_SECONDS = 10.0


class StoppedError(Exception):
    """Nobody waits for this work any more."""


class ClientLeftError(Exception):
    """Whoever asked has closed the connection."""


class Budget:
    """A quantity of which all requests together may hold so much; used from several threads."""

    def __init__(self, most: int, what: str) -> None:
        self.most = most
        self.what = what
        self.held = 0
        self._lock = threading.Lock()

    def take(self, amount: int) -> None:
        """Hold more of it.

        Raises:
            RefusedError: There is not so much left (status 503).
        """
        with self._lock:
            if self.held + amount > self.most:
                raise RefusedError(503, f"{self.what} are under way. Try again in a moment.")
            self.held += amount

    def give(self, amount: int) -> None:
        """Hold less of it."""
        with self._lock:
            self.held -= amount


class Work:
    """The two threads, and what they may be asked at once."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.requests = Budget(limits.requests, f"{limits.requests} requests")
        self.bytes = Budget(limits.bytes_in_all, "too many large requests")
        self.pixels = Budget(limits.pixels_in_all, "too many pixels")
        self.quick = ThreadPoolExecutor(1, "single-images")
        self.batches = ThreadPoolExecutor(1, "batches")
        self._waiting: dict[int, float] = {}

    def is_ready(self) -> bool:
        """Whether a request of one image would be taken on and answered soon."""
        now = time.monotonic()
        is_stuck = any(now - since > STUCK_SECONDS for since in tuple(self._waiting.values()))
        return self.requests.held < self.requests.most and not is_stuck

    def submit(self, quick: bool, call: Callable[[], Result]) -> Future[Result]:
        """Put a call into one of the two queues."""
        if not quick:
            return self.batches.submit(call)
        key = id(call)
        self._waiting[key] = time.monotonic()
        future = self.quick.submit(call)
        future.add_done_callback(lambda _: self._waiting.pop(key, None))
        return future


class Request:
    """One request's share of the budgets; given back when the request is over and its work has ended."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self.ends = float("inf")
        self._stopped = threading.Event()
        self._running: Future[Any] | None = None
        self._taken: list[tuple[Budget, int]] = []

    def take(self, budget: Budget, amount: int) -> None:
        """Take from a budget, until the end of this request.

        Raises:
            RefusedError: There is not so much left (status 503).
        """
        budget.take(amount)
        self._taken.append((budget, amount))

    def begin(self) -> None:
        """The body is complete: from here on the request counts, and its time runs.

        Raises:
            RefusedError: Too many are under way (status 503).
        """
        self.take(self.work.requests, 1)
        self.ends = time.monotonic() + self.work.limits.seconds

    def require_wanted(self) -> None:
        """Raise unless somebody still waits for the answer; called between two steps of the work.

        Raises:
            StoppedError: Nobody does.
        """
        if self._stopped.is_set() or time.monotonic() > self.ends:
            raise StoppedError

    async def run(self, quick: bool, call: Callable[[], Result], receive: Receive) -> Result:
        """Run a call in one of the two threads, while somebody waits for it.

        Raises:
            RefusedError: It took too long (status 504); the call is stopped at its next step.
            ClientLeftError: Whoever asked is gone; likewise.
        """

        def wanted() -> Result:
            self.require_wanted()
            return call()

        self._running = self.work.submit(quick, wanted)
        result = asyncio.wrap_future(self._running)
        result.add_done_callback(lambda each: each.cancelled() or each.exception())  # else it is logged as forgotten
        left = asyncio.ensure_future(_gone(receive))
        try:
            await asyncio.wait({result, left}, timeout=self.ends - time.monotonic(), return_when="FIRST_COMPLETED")
        finally:
            left.cancel()
        if result.done():
            try:
                answer: Result = result.result()
                return answer
            except StoppedError:
                pass
        elif left.done():
            raise ClientLeftError
        seconds = self.work.limits.seconds
        raise RefusedError(504, f"the answer took longer than {seconds:g} s. Send fewer images, or none to explain.")

    def end(self) -> None:
        """Nobody waits any more: stop the work, and give back what was taken once it has stopped."""
        self._stopped.set()
        if self._running is None:
            self._give_back(None)
        else:
            self._running.cancel()  # if it has not begun
            self._running.add_done_callback(self._give_back)

    def _give_back(self, _: Future[Any] | None) -> None:
        while self._taken:
            budget, amount = self._taken.pop()
            budget.give(amount)


async def _gone(receive: Receive) -> None:
    """Returns when the client has closed the connection."""
    while (await receive())["type"] != "http.disconnect":
        pass
