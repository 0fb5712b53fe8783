"""Signs of life come while the work goes on, whatever becomes of one of them, and stop with it."""

from __future__ import annotations

import time

from bus_mlops.tracking.heartbeat import INTERVAL_SECONDS, heartbeat
from bus_mlops.tracking.processes import SILENCE_SECONDS


def test_beats_go_on_after_one_that_failed_and_stop_at_the_end():
    beats = []

    def beat() -> None:
        beats.append(time.monotonic())
        if len(beats) == 1:
            raise OSError("the store is away")

    with heartbeat(beat, interval=0.02):
        deadline = time.monotonic() + 20
        while len(beats) < 3 and time.monotonic() < deadline:
            time.sleep(0.02)
    assert len(beats) >= 3
    time.sleep(0.1)  # one may be under way
    count = len(beats)
    time.sleep(0.1)
    assert len(beats) == count


def test_a_few_lost_beats_are_not_a_death():
    assert SILENCE_SECONDS >= 10 * INTERVAL_SECONDS
