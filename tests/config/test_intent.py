"""The statement of intent: what it says, what it leaves alone, and that nobody can edit it on a run unnoticed."""

from __future__ import annotations

import json

import pytest

from bus_mlops.config.intent import INTENT_DIGEST, INTENT_TAG, LONGEST, Intent, intent_of, read_intent
from bus_mlops.project import parse_config


def test_every_limit_stands_in_it_and_every_change_is_named_with_both_values(demo_values):
    first = intent_of(parse_config(demo_values))
    assert {"promotion.alpha", "promotion.metric", "promotion.sensitivity_margin", "promotion.baseline"} <= set(
        first.terms
    )
    assert {"audit.exclude", "cohorts.all", "folds.locked"} <= set(first.terms)
    demo_values["promotion"].update(alpha=0.2, candidates=["approaches"])
    demo_values["audit"] = {"exclude": "conflicts"}
    demo_values["seed"] = 7
    later = intent_of(parse_config(demo_values))
    before = json.dumps(first.terms["promotion.alpha"])
    assert first.changes_to(later) == (
        'audit.exclude was "none" and is "conflicts"',
        f"promotion.alpha was {before} and is 0.2",
    )
    assert first.digest != later.digest
    assert first.changes_to(first) == ()


def test_a_limit_that_came_later_is_no_change_and_one_that_is_gone_is():
    few, more = Intent({"promotion.alpha": 0.05}), Intent({"promotion.alpha": 0.05, "promotion.own": 1})
    assert few.changes_to(more) == ()
    assert more.changes_to(few) == ("promotion.own was 1 and is not stated",)


def test_what_is_too_long_for_a_tag_stands_as_its_digest(demo_values):
    demo_values["cohorts"]["more"] = ["busi"] * 2000
    intent = intent_of(parse_config(demo_values))
    assert str(intent.terms["cohorts.more"]).startswith("sha256:")
    demo_values["cohorts"]["more"][7] = "busis"
    assert len(intent.changes_to(intent_of(parse_config(demo_values)))) == 1
    demo_values["cohorts"].update({f"some_{i}": ["busi", "busis"] * 14 for i in range(40)})
    assert len(intent_of(parse_config(demo_values)).text) <= LONGEST


def test_what_was_edited_on_a_run_is_noticed(demo):
    intent = intent_of(demo)
    params = {INTENT_DIGEST: intent.digest}
    assert read_intent(intent.tags, params) == intent
    assert read_intent({}, {}) is None
    easier = Intent({**intent.terms, "promotion.alpha": 0.9})
    for tags in (easier.tags, {}, {INTENT_TAG: "{"}):
        with pytest.raises(ValueError, match="is not the one whose sha256"):
            read_intent(tags, params)
