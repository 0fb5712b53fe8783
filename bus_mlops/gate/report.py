"""What the gate found: rules with their numbers, the verdict, as JSON for programs and markdown for people."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class RuleResult:
    """What a rule found: its numbers (fractions), the limit in words, the outcome and a sentence for people.

    `power` says what it could have seen; empty where the rule does not know, and in reports of earlier versions. A rule
    that had nothing to look at is not `judged`, and is no evidence of anything.
    """

    id: str
    title: str
    values: dict[str, float | int | str]
    limit: str
    passed: bool
    sentence: str
    power: str = ""
    judged: bool = True

    @property
    def outcome(self) -> str:
        """Passed, failed or not judged, for people."""
        return "FAILED" if not self.passed else "passed" if self.judged else "not judged"

    @property
    def said(self) -> str:
        """The sentence, and what the rule could have seen."""
        return f"{self.sentence} {self.power}".rstrip()


@dataclass(frozen=True)
class GateReport:
    """The outcome of all rules for one candidate against one baseline."""

    candidate: str
    baseline: str
    model_name: str
    metric: str
    threshold: str
    rules: tuple[RuleResult, ...]
    notes: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether no rule refuses."""
        return all(rule.passed for rule in self.rules)

    @property
    def failed(self) -> tuple[RuleResult, ...]:
        """The rules that did not pass."""
        return tuple(rule for rule in self.rules if not rule.passed)

    @property
    def verdict(self) -> str:
        """Which rules refuse, or which passed, and which had nothing to judge."""
        if self.failed:
            return f"refused by {', '.join(rule.id for rule in self.failed)}"
        passed, idle = (", ".join(rule.id for rule in self.rules if rule.judged is each) for each in (True, False))
        return f"passed {passed}" + (f"; not judged: {idle}" if idle else "")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as stored in gate.json."""
        values = asdict(self)
        for rule in values["rules"]:
            # JSON has no infinity, which a t statistic without variance is.
            rule["values"] = {k: v if _is_finite(v) else str(v) for k, v in rule["values"].items()}
        return {"passed": self.passed, "failed": [rule.id for rule in self.failed], **values}

    def to_json(self) -> str:
        """gate.json."""
        return json.dumps(self.to_dict(), indent=2) + "\n"

    def to_lines(self) -> list[str]:
        """The report for a terminal: who against whom, one line a rule, notes."""
        rules = [f"  {rule.id} {rule.title}: {rule.outcome} (limit: {rule.limit}). {rule.said}" for rule in self.rules]
        return [f"{self.candidate} against {self.baseline}", *rules, *(f"  note: {note}" for note in self.notes)]

    def to_markdown(self) -> str:
        """The report for people: verdict, one row a rule, notes."""
        verdict = "PROMOTED" if self.passed else f"REFUSED by {', '.join(rule.id for rule in self.failed)}"
        lines = [
            f"# Gate of {self.model_name}: {verdict}",
            "",
            f"Candidate: **{self.candidate}**. Baseline: **{self.baseline}**. "
            f"Metric: {self.metric}. Threshold: {self.threshold}.",
            "",
            "| rule | passed | limit | what was found |",
            "|---|---|---|---|",
        ]
        lines += [f"| {rule.id} {rule.title} | {_yes(rule)} | {rule.limit} | {rule.said} |" for rule in self.rules]
        lines += ["", *(f"- {note}" for note in self.notes)] if self.notes else []
        return "\n".join(lines) + "\n"


def _is_finite(value: float | int | str) -> bool:
    return isinstance(value, str) or math.isfinite(value)


def _yes(rule: RuleResult) -> str:
    return "**no**" if not rule.passed else "yes" if rule.judged else "not judged"
