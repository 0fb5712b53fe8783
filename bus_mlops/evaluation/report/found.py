"""The findings as lines of one table: a mark, what the paper claims, what these rows say to it, and each test."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from bus_mlops.evaluation.metrics import METRICS
from bus_mlops.evaluation.paper.sentences import points, probability

MARKS = {"shown": "✓", "opposite": "✗", "not shown": "○", "not tested": "–"}
# What the heading of the column says, and what opens with the sentence.
_SAID_ELSEWHERE = re.compile(r"95 % interval |,? significantly (?:for|than) \d+|on average ")
# What stands before the claim in a finding's sentence; the mark says it.
_LEAD = re.compile(
    r"^(It does not show that|The opposite shows:|Not beyond chance among .*?, though alone:|It shows that) "
)


def finding_lines(findings: Sequence[Mapping[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The lines on what the paper claims and this run tests, and all others; in each, what was found stands first."""
    lines = sorted((_line(each) for each in findings), key=lambda line: list(MARKS).index(line["verdict"]))
    first = [line for line in lines if line["claim"] and line["verdict"] != "not tested"]
    return first, [line for line in lines if line not in first]


def tests_made(findings: Sequence[Mapping[str, Any]]) -> str:
    """How many findings and single tests were made, and how many of them chance alone makes significant."""
    judged = sum(each.get("p_adjusted") is not None for each in findings)
    single = [test for each in findings for test in each["tests"] if test["p"] is not None]
    if not judged:
        return ""
    return (
        f"{judged} findings were tested, which is what the adjustment is for; below them stand {len(single)} tests of "
        "single rows, adjusted within their finding only: unadjusted, chance alone would make "
        f"{0.05 * len(single):.0f} of them significant."
    )


def _line(finding: Mapping[str, Any]) -> dict[str, Any]:
    metric = METRICS[finding["metric"]]
    said = str(finding["statement"])
    what, _, result = _LEAD.sub("", said).partition(": ")
    if finding["verdict"] == "not tested":
        what, result = "", result.strip()
    elif set(what) & set("(."):  # no claim that is repeated, but a sentence on a choice
        what, result = "", ""
    chance = "not beyond chance among all findings; " if said.startswith("Not beyond") else ""
    return {
        **finding,
        "mark": MARKS[finding["verdict"]],
        "what": f"{what[:1].upper()}{what[1:]}",
        "result": f"{chance}{_SAID_ELSEWHERE.sub('', result)}" if result else said,
        "heading": (metric.phrase or metric.heading).removeprefix("the "),
        "tests": [_tested(each) for each in finding["tests"]],
    }


def _tested(test: Mapping[str, Any]) -> dict[str, str]:
    return {
        "name": test["name"],
        "difference": points(test["difference"]),
        "interval": "" if test["low"] is None else f"{points(test['low'])} to {points(test['high'])}",
        "p": _p(test["p"]),
        "holm": _p(test["p_adjusted"]),
    }


def _p(value: float | None) -> str:
    return "" if value is None else probability(value).removeprefix("p ").removeprefix("= ")
