"""A sign of life while something long runs, so that other machines can tell it from something dead."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

# Seconds between two signs of life; silence of `processes.SILENCE_SECONDS` counts as death.
INTERVAL_SECONDS = 60.0


@contextmanager
def heartbeat(beat: Callable[[], None], interval: float = INTERVAL_SECONDS) -> Iterator[None]:
    """Call `beat` every `interval` seconds from a thread of its own; a beat that fails is left out."""
    stop = threading.Event()

    def run() -> None:
        while not stop.wait(interval):
            # A store that cannot be reached is met, and dealt with, by whoever records results.
            with suppress(Exception):
                beat()

    thread = threading.Thread(target=run, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
