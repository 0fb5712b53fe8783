"""G6, the package: it loads and answers in a process that has the consumer's install and nothing more."""

from __future__ import annotations

from pydantic import Field

from bus_mlops.config.base import Strict
from bus_mlops.errors import EvaluationError
from bus_mlops.gate.comparison import Comparison
from bus_mlops.gate.rule import Verdict, rule


class PackageLimits(Strict):
    """How far its answers may be: to its own example from the stored one, to test images from what runs recorded."""

    example_tolerance: float = Field(
        default=1e-4,
        gt=0,
        lt=1,
        description="difference between the stored and the repeated probability of the example [probability]",
    )
    answer_tolerance: float = Field(
        default=1e-3,
        gt=0,
        lt=1,
        description="difference between what packaged members answer and what their runs recorded [probability]",
    )


@rule("G6", "package", needs_package=True)
def package(comparison: Comparison, limits: PackageLimits) -> Verdict:
    """The package has a signature, repeats its example, and answers test images as its networks did when trained.

    One that does not load fails with the reason. Where nobody could ask it about test images, only the former count.
    """
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
    if check.asked:
        values |= {"asked": check.asked, "distance": check.distance, "answer_tolerance": limits.answer_tolerance}
        if not check.distance <= limits.answer_tolerance:
            problems.append(
                f"its members answer test images up to {check.distance:.3g} away from what their runs recorded"
            )
    sentence = "; ".join(problems) or (
        f"Loads with {check.members} members in a process without TensorFlow, has a signature, and repeats its stored "
        f"example to {check.difference:.1g}"
        + (f" and {check.asked} recorded answers to test images to {check.distance:.1g}" if check.asked else "")
    )
    return Verdict(
        passed=not problems,
        limit=f"signature; example within {tolerance:g}, answers within {limits.answer_tolerance:g}, "
        f"without {', '.join(check.forbidden[:4])}",
        sentence=f"{sentence[0].upper()}{sentence[1:]}.",
        values=values,
    )
