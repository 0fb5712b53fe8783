"""Which rows are trained on image-level folds too: those that are named, with the specs that they have."""

from __future__ import annotations

import pytest

from bus_mlops.config import LeakPremiumConfig
from bus_mlops.errors import ConfigError
from bus_mlops.experiments.plan import make_plans
from bus_mlops.experiments.premium_plan import premium_plans


def test_a_named_row_keeps_its_spec_folds_and_seeds(demo):
    plans = make_plans(demo)
    family = plans["losses"].rows[1]
    asked = LeakPremiumConfig(rows=("transfer_learning/mobilenet", f"losses/mobilenet/{family.variant}"))
    transfer, losses = premium_plans(asked, plans)
    assert [row.spec for row in losses.rows] == [family.spec]
    assert [row.spec for row in transfer.rows] == [
        row.spec for row in plans["transfer_learning"].rows if row.spec.network == "mobilenet"
    ]
    assert (losses.folds, losses.seeds) == (plans["losses"].folds, plans["losses"].seeds)
    assert premium_plans(None, plans) == []


def test_a_row_that_is_named_twice_is_trained_once(demo):
    plans = make_plans(demo)
    asked = LeakPremiumConfig(rows=("losses/mobilenet", f"losses/mobilenet/{plans['losses'].rows[0].variant}"))
    (losses,) = premium_plans(asked, plans)
    assert losses.rows == plans["losses"].rows


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("losses/resnet50", "which is not planned; there are transfer_learning/mobilenet, .*losses/mobilenet"),
        ("no_strategy/mobilenet", "which is not planned; there are"),
        ("losses/mobilenet/nothing", "which is not planned; there are"),
        ("tuned-focal/mobilenet", "whose parameters a search chooses on grouped folds"),
    ],
)
def test_what_cannot_be_trained_is_named(demo, row, words):
    with pytest.raises(ConfigError, match=f"{row}, {words}"):
        premium_plans(LeakPremiumConfig(rows=(row,)), make_plans(demo))
