"""G6, the package: it loads and answers in a process that has the consumer's install and nothing more."""

from __future__ import annotations

from pydantic import Field

from bus_mlops.config.base import Strict
from bus_mlops.errors import EvaluationError
from bus_mlops.gate.comparison import Comparison
from bus_mlops.gate.rule import Verdict, rule


class PackageLimits(Strict):
    """How far its answer to its own example may be from the stored one."""

    example_tolerance: float = Field(
        default=1e-4,
        gt=0,
        lt=1,
        description="difference between the stored and the repeated probability of the example [probability]",
    )


@rule("G6", "package", needs_package=True)
def package(comparison: Comparison, limits: PackageLimits) -> Verdict:
    """The package has a signature and repeats its example; one that does not load fails with the reason."""
    check, tolerance = comparison.package, limits.example_tolerance
    if check is None:
        raise EvaluationError("there is no package yet")
    problems = [f"its signature has no {part}" for part in check.unsigned]
    values: dict[str, float | int | str] = {"signature": "no" if check.unsigned else "yes"}
    if check.error:
        problems.append(check.error)
    else:
        values = {"difference": check.difference, "tolerance": tolerance, "members": check.members, **values}
        if check.importable:
            problems.append(f"the clean process could import {', '.join(check.importable)}")
        if not check.difference <= tolerance:
            problems.append(f"its example comes out {check.difference:.2g} away from the stored prediction")
    sentence = "; ".join(problems) or (
        f"Loads with {check.members} members in a process without TensorFlow, has a signature, and repeats its stored "
        f"example to {check.difference:.1g}"
    )
    return Verdict(
        passed=not problems,
        limit=f"signature; example within {tolerance:g} without {', '.join(check.forbidden[:4])}",
        sentence=f"{sentence[0].upper()}{sentence[1:]}.",
        values=values,
    )
