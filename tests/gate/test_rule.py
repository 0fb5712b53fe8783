"""The registry of rules: what a rule must be, whose keys are whose, and the order of reports."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from projects import ROOT
from pydantic import Field

from bus_mlops.config import PromotionConfig
from bus_mlops.config.base import Strict
from bus_mlops.errors import ConfigError
from bus_mlops.gate.comparison import Comparison
from bus_mlops.gate.gate import in_order
from bus_mlops.gate.rule import RULES, Verdict, rule
from bus_mlops.project import parse_config


class OwnLimits(Strict):
    own_margin: float = 0.1


class NoLimits(Strict):
    pass


class Required(Strict):
    own_margin: float


class Taken(Strict):
    alpha: float = 0.1


class OfPromotion(Strict):
    bootstrap: int = Field(default=3)


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    yield
    RULES.forget(__name__)


def judging(limits: Any) -> Any:
    def judge(comparison: Comparison, limits: Any) -> Verdict:
        return Verdict(True, "", "")

    judge.__annotations__["limits"] = limits
    return judge


def test_reports_are_in_the_order_of_ids_with_numbers_as_numbers():
    for identifier in ("G10", "H1", "A"):
        rule(identifier, "own")(judging(NoLimits))
    assert [each.id for each in in_order()] == ["A", *(f"G{i}" for i in range(8)), "G10", "H1"]


@pytest.mark.parametrize(
    ("identifier", "limits", "message"),
    [
        ("G0", OwnLimits, "gate rule 'G0' is registered twice"),
        ("H1", Required, "limit 'own_margin' of the gate rule H1 needs a default"),
        ("H1", Taken, "has a limit 'alpha', which belongs to G2 superiority"),
        ("H1", dict, "the second annotated with a subclass of"),
    ],
)
def test_a_rule_that_cannot_be_is_named(identifier, limits, message):
    with pytest.raises(ConfigError, match=message):
        rule(identifier, "own")(judging(limits))
    assert "H1" not in RULES


def test_a_limit_that_the_section_has_already_is_an_error(demo_values):
    rule("H1", "own")(judging(OfPromotion))
    with pytest.raises(ConfigError, match="gate rule H1 own has a limit 'bootstrap', which promotion has already"):
        parse_config(demo_values)


def test_the_section_has_the_keys_of_every_rule(demo_values):
    rule("H1", "own")(judging(OwnLimits))
    rule("H2", "none")(judging(NoLimits))
    promotion = parse_config(demo_values).promotion
    assert promotion.model_dump()["own_margin"] == 0.1
    assert {key for each in in_order() for key in each.limits.model_fields} < set(type(promotion).model_fields)
    demo_values["promotion"]["alhpa"] = 0.1
    with pytest.raises(ConfigError, match=r"'promotion.alhpa': did you mean 'alpha'\?.*own_margin"):
        parse_config(demo_values)


def test_the_page_names_each_rule_by_its_title_and_its_limits_with_their_defaults():
    page = (ROOT / "docs" / "how-to" / "promote-a-model.md").read_text("utf-8")
    rows = re.findall(r"^\| ([a-z -]+) \| [^|]+ \| ([^|]+) \|$", page, re.MULTILINE)[1:]
    assert [title for title, _ in rows] == [each.title for each in in_order()]
    for each, (_, text) in zip(in_order(), rows, strict=True):
        said = dict(re.findall(r"`(\w+)`(?: \(([^)]+)\))?", text))
        of_promotion = said.keys() - each.limits.model_fields.keys()
        assert of_promotion <= PromotionConfig.model_fields.keys()
        defaults = {
            **each.limits().model_dump(),
            **{key: PromotionConfig.model_fields[key].default for key in of_promotion},
        }
        assert said == {key: "" if value == {} else str(value).lower() for key, value in defaults.items()}


def test_ids_stand_in_the_modules_of_their_rules_and_nowhere_else():
    """So that a rule that is added, dropped or renamed makes no text wrong."""
    files = [*(ROOT / "bus_mlops").rglob("*"), *(ROOT / "docs").rglob("*.md"), ROOT / "README.md", ROOT / "params.yaml"]
    # The page of the study prints a decision as it was taken.
    texts = [
        file
        for file in files
        if file.suffix in (".py", ".yaml", ".md")
        and file.parent.name != "rules"
        and file != ROOT / "docs/study/index.md"
    ]
    assert len(texts) > 150
    assert [str(file) for file in texts if re.search(r"\bG[0-9]\b", file.read_text("utf-8"))] == []
