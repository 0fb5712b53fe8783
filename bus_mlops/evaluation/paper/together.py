"""All findings of a page as one family of tests: of many, some are significant by chance alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from bus_mlops.evaluation.comparison import holm
from bus_mlops.evaluation.metrics import METRICS
from bus_mlops.evaluation.paper.findings import Finding
from bus_mlops.evaluation.paper.sentences import ALPHA, probability

TESTED = ("shown", "not shown", "opposite")


def together(findings: Sequence[Finding]) -> list[Finding]:
    """The same findings with `p_adjusted`, Holm's over all of them; what is then not below 5 % is not shown.

    Each finding counts once, by the p that its verdict rests on (`_deciding`).
    """
    adjusted = holm([_deciding(finding) for finding in findings])
    count = sum(p == p for p in adjusted)
    return [_judged(finding, p, count) for finding, p in zip(findings, adjusted, strict=True)]


def _deciding(finding: Finding) -> float:
    """That of the mean over networks; else of the least significant test where all are needed, or of the best.

    NaN where nothing was tested: a choice of parameters that is the paper's is no test.
    """
    if finding.verdict not in TESTED or (finding.verdict == "shown" and finding.by_equality):
        return float("nan")
    if finding.overall is not None:
        return finding.overall.p
    if not finding.tests:
        return float("nan")
    if finding.needs_all and finding.verdict != "opposite":
        return max(test.p for test in finding.tests)
    return min(test.p_adjusted for test in finding.tests)


def _judged(finding: Finding, p: float, count: int) -> Finding:
    finding = replace(finding, p_adjusted=p)
    if finding.verdict == "not shown" or not p >= ALPHA:
        return finding
    first = finding.statement.split()[0]
    named = {metric.phrase or metric.heading for metric in METRICS.values()}
    # A name, such as Dice or SGD, keeps its capital.
    kept = first in named or first[1:2].isupper()
    said = finding.statement if kept else first[0].lower() + finding.statement[1:]
    said = f"Not beyond chance among {count} findings ({probability(p)} after Holm), though alone: {said}"
    return replace(finding, verdict="not shown", statement=said)
