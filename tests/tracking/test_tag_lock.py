"""Never two at once, whatever the timing: threads on a store in memory whose every call may be overtaken."""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass, field

import pytest

from bus_mlops.tracking.tag_lock import enter


@dataclass
class Marks:
    """A store of announcements whose single calls are atomic, as a database's are."""

    keys: set[str] = field(default_factory=set)
    held: set[str] = field(default_factory=set)
    guard: threading.Lock = field(default_factory=threading.Lock)


@dataclass
class Mark:
    """An announcement that dawdles before and after each call."""

    marks: Marks
    key: str
    draw: random.Random

    def announce(self) -> None:
        self._dawdle()
        with self.marks.guard:
            self.marks.keys.add(self.key)
        self._dawdle()

    def withdraw(self) -> None:
        self._dawdle()
        with self.marks.guard:
            self.marks.keys.discard(self.key)

    def others(self) -> dict[str, str]:
        with self.marks.guard:
            # A holder who will not withdraw stands before everybody, as that of a cell does.
            others = self.marks.keys - {self.key}
            found = {"" if key in self.marks.held else key: f"who has {key}" for key in others}
        self._dawdle()
        return found

    def pause(self) -> None:
        self._dawdle()

    def _dawdle(self) -> None:
        time.sleep(self.draw.random() * 0.002)


@dataclass
class Scripted:
    """An announcement to which the others are as given, look by look."""

    key: str
    views: list[dict[str, str]]
    asked: list[str] = field(default_factory=list)

    def announce(self) -> None:
        self.asked.append("announce")

    def withdraw(self) -> None:
        self.asked.append("withdraw")

    def others(self) -> dict[str, str]:
        self.asked.append("look")
        return self.views.pop(0)

    def pause(self) -> None:
        self.asked.append("pause")


def test_who_comes_later_in_the_order_is_waited_for():
    own = Scripted("b", [{"c": "third"}, {"c": "third", "d": "fourth"}, {}])
    assert enter(own) is None
    assert own.asked == ["announce", "look", "pause", "look", "pause", "look"]


def test_who_has_others_before_stands_back_until_they_are_gone():
    own = Scripted("b", [{"a": "first", "c": "third"}, {"a": "first"}, {"c": "third"}, {}])
    assert enter(own) is None
    assert own.asked == ["announce", "look", "withdraw", "look", "pause", "look", "announce", "look"]


def test_who_gives_way_learns_who_goes_first():
    own = Scripted("c", [{"d": "fourth"}, {"b": "second", "a": "first", "d": "fourth"}])
    assert enter(own, give_way=True) == "first"
    assert own.asked == ["announce", "look", "pause", "look", "withdraw"]


def together(count: int, seed: int, work) -> None:
    """Run `work(mark)` in threads with keys in any order."""
    marks, draw = Marks(), random.Random(seed)
    keys = draw.sample([f"{n:02d}" for n in range(20)], count)
    threads = [
        threading.Thread(target=work, daemon=True, args=(Mark(marks, key, random.Random(seed + int(key))),))
        for key in keys
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert not any(thread.is_alive() for thread in threads)


@pytest.mark.parametrize("seed", range(10))
def test_everybody_gets_in_and_nobody_meets_another(seed):
    inside, met, entered = threading.Semaphore(1), [], []

    def work(mark: Mark) -> None:
        for _ in range(3):
            assert enter(mark) is None
            alone = inside.acquire(blocking=False)
            met.append(not alone)
            time.sleep(0.001)
            if alone:
                inside.release()
            entered.append(mark.key)
            mark.withdraw()

    together(5, seed, work)
    assert not any(met)
    assert len(entered) == 15


@pytest.mark.parametrize("seed", range(10))
def test_of_those_who_give_way_one_stays(seed):
    answers = []

    def work(mark: Mark) -> None:
        answer = enter(mark, give_way=True)
        answers.append(answer)
        if answer is None:
            mark.marks.held.add(mark.key)

    together(6, seed, work)
    assert answers.count(None) == 1
    assert all(answer is None or answer.startswith("who has ") for answer in answers)
