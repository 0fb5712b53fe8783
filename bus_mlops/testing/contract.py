"""`ContractError` and `require`: how a contract suite says what was broken; no test framework is needed."""

from __future__ import annotations

from bus_mlops.errors import BusMlopsError


class ContractError(BusMlopsError, AssertionError):
    """A source, network or strategy does not keep its contract; a failure, not an error, to a test framework."""


def require(condition: bool, message: str) -> None:
    """Raise ContractError with the message unless the condition holds."""
    if not condition:
        raise ContractError(message)
