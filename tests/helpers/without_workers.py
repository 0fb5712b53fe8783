"""What engines of tests have in common that have no worker processes: nothing to start, and nothing to stop."""

from __future__ import annotations

from types import TracebackType
from typing import Self


class WithoutWorkers:
    """An engine but for `run`."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        return None
