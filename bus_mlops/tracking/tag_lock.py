"""One process at a time, on a store that has tags and no locks: for moving aliases, and for training a cell.

MLflow can neither lock nor compare and set, but who reads it sees every write that has returned. That is all that
Burns's one-bit algorithm needs (Burns and Lynch, "Bounds on shared memory for mutual exclusion", Information and
Computation 107, 1993): everybody announces himself before he looks; who sees an announcement before his own, in the
order of the keys, stands back; who sees only later ones waits for them to stand back or to end; who sees none is alone.
Two cannot both be alone: of two announcements one was written first, and the other's author looks after that.

It was chosen over Fischer's timed algorithm, which needs the same announcements and one write less, because it rests on
no bound of the time that a write takes, and nobody sits out such a time when nobody else is there. It is not fair: the
least key goes first. Keys are random and what they guard is short, or is given up at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, TypeVar

Who = TypeVar("Who", covariant=True)


class Announcement(Protocol[Who]):
    """A process's own mark on the store, and its view of the others'."""

    @property
    def key(self) -> str:
        """Its place in the order; no two are equal."""

    def announce(self) -> None:
        """Make the mark that others see; it must stand when this returns."""

    def withdraw(self) -> None:
        """Take the mark away."""

    def others(self) -> Mapping[str, Who]:
        """Who else is announced and alive, by key; `pause` lets a wait end that takes too long."""

    def pause(self) -> None:
        """Wait for a moment before the next look; may raise to give up."""


def enter(own: Announcement[Who], give_way: bool = False) -> Who | None:
    """Announce and wait until nobody else is there.

    Args:
        own: What others see of this process.
        give_way: A process that must stand back does so for good.

    Returns:
        None once this process is alone, until it withdraws; the one who was before it if it gave way.
    """
    own.announce()
    while others := own.others():
        first = min(others)
        if first > own.key:
            own.pause()
            continue
        own.withdraw()
        if give_way:
            return others[first]
        while any(key < own.key for key in own.others()):
            own.pause()
        own.announce()
    return None
