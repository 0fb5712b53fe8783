"""The mutual exclusion over tags, step by step in many orders: never two at once, and always somebody."""

from __future__ import annotations

import random
import threading

import pytest

from bus_mlops.tracking.tag_lock import enter

# Far more steps than any order needs that lets everybody go on at times.
MOST_STEPS = 5_000


class Process(threading.Thread):
    """Enters a few times, or for good; each look at the marks, and each change of them, waits to be let on."""

    def __init__(self, key: str, marks: dict[str, bool], inside: list[str], rounds: int) -> None:
        super().__init__(daemon=True)
        self.key, self.marks, self.inside, self.rounds = key, marks, inside, rounds
        self.most, self.ended = 0, False
        self._go, self._back = threading.Semaphore(0), threading.Semaphore(0)

    def let_on(self) -> None:
        self._go.release()
        assert self._back.acquire(timeout=10)

    def run(self) -> None:
        self._go.acquire()
        # Without rounds as for cells: who stands back does so for good, and who has entered says so and stays.
        for _ in range(self.rounds or 1):
            if enter(self, give_way=not self.rounds) is None:
                self.inside.append(self.key)
                self.most = max(self.most, len(self.inside))
                self._step()
                if self.rounds:
                    self.inside.remove(self.key)
                    self.withdraw()
                else:
                    self.marks[self.key] = True
        self.ended = True
        self._back.release()

    def announce(self) -> None:
        self._step()
        self.marks[self.key] = False

    def withdraw(self) -> None:
        self._step()
        del self.marks[self.key]

    def others(self) -> dict[str, str]:
        self._step()
        return {"" if held else key: key for key, held in self.marks.items() if key != self.key}

    def pause(self) -> None:
        self._step()

    def _step(self) -> None:
        self._back.release()
        self._go.acquire()


@pytest.mark.parametrize("rounds", [0, 2])
@pytest.mark.parametrize("seed", range(150))
def test_one_at_a_time_and_everybody_in_the_end(seed, rounds):
    rng = random.Random(seed)
    marks: dict[str, bool] = {}
    inside: list[str] = []
    waiting = processes = [Process(key, marks, inside, rounds) for key in "abc"]
    for process in processes:
        process.start()
    steps = 0
    while waiting := [process for process in waiting if not process.ended]:
        steps += 1
        assert steps < MOST_STEPS
        rng.choice(waiting).let_on()
    assert max(process.most for process in processes) == 1
    assert len(inside) == (0 if rounds else 1)
