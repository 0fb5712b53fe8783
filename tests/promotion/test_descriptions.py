"""What the registry says of a version fits into it, whatever the rules have to say, and holds numbers alone."""

from __future__ import annotations

import math

import pytest

from bus_mlops.gate.report import GateReport, RuleResult
from bus_mlops.promotion.descriptions import MOST_OF_NOTE, MOST_OF_TEXT, numbers, record_note, version_text


def report(sentence: str, **values: float | str) -> GateReport:
    rules = [
        RuleResult(f"G{number}", "a rule", values, "x | y > 0", number != 2, sentence, judged=number != 7)
        for number in range(8)
    ]
    return GateReport("MT-ESTAN", "ResNet50", "bus-mt-estan", "roc_auc", "youden", tuple(rules))


@pytest.mark.parametrize("length", [10, 700, 5000])
def test_the_table_has_every_rule_and_fits(length):
    found = report("w" * length)
    text = version_text(found)
    assert len(text) <= MOST_OF_TEXT
    assert text.startswith("Refused by G2. Candidate: **MT-ESTAN**")
    assert [line.split(" ")[1] for line in text.splitlines() if line.startswith("| G")] == [f"G{n}" for n in range(8)]
    assert all(line.count("|") == 5 for line in text.splitlines() if line.startswith("| G"))
    assert "| FAILED |" in text
    assert "| not judged |" in text
    assert len(record_note(found)) <= MOST_OF_NOTE


def test_numbers_are_rounded_and_words_left_out():
    found = numbers(report("", difference=1 / 3, t=math.inf, method="clustered"))
    assert found == {f"G{number}/difference": 0.3333 for number in range(7)}  # G7 had nothing to judge
