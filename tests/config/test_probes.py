"""The section `probes`: on by default, off when empty, and what it refuses."""

from __future__ import annotations

import pytest

from bus_mlops.config import ProbesConfig
from bus_mlops.errors import ConfigError
from bus_mlops.project import parse_config


def test_it_is_on_unless_it_is_empty(demo_values):
    del demo_values["probes"]
    assert parse_config(demo_values).probes == ProbesConfig()
    assert parse_config({**demo_values, "probes": {}}).probes is None
    assert parse_config({**demo_values, "probes": None}).probes is None


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("rows", ["mt_estan"], "candidate, rival or STRATEGY/NETWORK but got 'mt_estan'"),
        ("strengths", [0.5, 0.25], "must ascend"),
        ("strengths", [0], "greater than 0"),
        ("corruptions", ["rain"], "corruptions"),
    ],
)
def test_what_cannot_be_probed_is_named(demo_values, key, value, words):
    demo_values["probes"][key] = value
    with pytest.raises(ConfigError, match=words):
        parse_config(demo_values)
