"""The findings' table: what was found stands before what was not, and the paper's order is kept among equals."""

from __future__ import annotations

from bus_mlops.evaluation.report.found import finding_lines


def finding(verdict: str, number: int, claim: str = "a claim") -> dict[str, object]:
    said = f"It does not show that weight {number} helps: +1.0 points."
    return {"metric": "roc_auc", "verdict": verdict, "statement": said, "claim": claim, "tests": [], "number": number}


def test_what_was_found_stands_first():
    verdicts = ("not shown", "shown", "not tested", "opposite", "not shown", "shown")
    claims, others = finding_lines([finding(verdict, i) for i, verdict in enumerate(verdicts)])
    assert [line["number"] for line in claims] == [1, 5, 3, 0, 4]
    assert [line["number"] for line in others] == [2]
