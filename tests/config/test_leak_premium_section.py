"""The section `leak_premium`: off unless rows are named, refused where folds are not grouped."""

from __future__ import annotations

import pytest

from bus_mlops.errors import ConfigError
from bus_mlops.project import parse_config

ROWS = {"rows": ["losses/mobilenet"]}


def test_it_is_off_unless_rows_are_named(demo_values):
    assert parse_config({**demo_values, "leak_premium": {}}).leak_premium is None
    asked = parse_config({**demo_values, "leak_premium": ROWS}).leak_premium
    assert asked is not None
    assert asked.rows == ("losses/mobilenet",)
    del demo_values["leak_premium"]
    assert parse_config(demo_values).leak_premium is None


@pytest.mark.parametrize("row", ["mobilenet", "losses/", "/mobilenet", "losses/mobilenet/"])
def test_a_row_is_named_by_strategy_and_network(demo_values, row):
    with pytest.raises(ConfigError, match=f"STRATEGY/NETWORK/VARIANT but got {row!r}"):
        parse_config({**demo_values, "leak_premium": {"rows": [row]}})


@pytest.mark.parametrize(
    ("folds", "words"),
    [
        ({"kind": "image-level"}, "folds.kind is image-level: these leak already"),
        ({"kind": "official", "count": 5}, "folds.kind is official: these leak by themselves"),
        ({"kind": "source"}, "folds.kind is source: these test other sources"),
    ],
)
def test_only_grouped_folds_can_be_held_against_image_level_ones(demo_values, folds, words):
    demo_values["folds"].update(folds)
    with pytest.raises(ConfigError, match=f"{words}.*or leak_premium to {{}}"):
        parse_config({**demo_values, "leak_premium": ROWS})
    assert parse_config({**demo_values, "leak_premium": {}}).leak_premium is None
