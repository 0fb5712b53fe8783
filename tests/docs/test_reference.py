"""What the reference says of `params.yaml` and of the command line, made from the schema and the parser themselves."""

from __future__ import annotations

import sys

import pytest
from projects import ROOT

from bus_mlops import profiles
from bus_mlops.config import Config
from bus_mlops.project import profile_config

sys.path.insert(0, str(ROOT / "docs" / "generate"))

import commands
import parameters

SECTIONS = list(parameters.sections())
KEYS = [key for _, _, keys in SECTIONS for key in keys]


def test_every_key_says_what_it_means_and_numbers_in_which_unit():
    assert [key.path for key in KEYS if not key.text or not key.values] == []
    assert [key.path for key in KEYS if key.numeric and not key.unit] == []
    assert [name for name, text, _ in SECTIONS if name and not text] == []


def test_every_key_of_the_profiles_is_there():
    """With the names that the user gives taken for what they stand for."""
    told = {key.path for key in KEYS} | {name for name, _, _ in SECTIONS}
    training = {path.removeprefix("training.") for path in told if path.startswith("training.")}
    for name in profiles.NAMES:
        values = profile_config(name).model_dump(mode="json")
        missing = set(values) - told
        for section in ("data", "phantom", "audit", "folds", "training", "package", "tracking", "engine", "promotion"):
            missing |= {f"{section}.{key}" for key in values[section]} - told
        for network in values["networks"].values():
            missing |= set(network) - training - {"options"}
        for search in values["searches"].values():
            missing |= {f"searches.NAME.{key}" for key in search} - told
        assert missing == set()


def test_defaults_and_ranges_are_those_of_the_schema():
    said = {key.path: (key.unit, key.values, key.default) for key in KEYS}
    assert said["folds.count"] == ("folds", "whole number ≥ 2, ≤ 10", "5")
    assert said["folds.run"] == ("fold numbers", "list: whole number, or `null`", "null")
    assert said["data.kind"] == ("", "`phantom`, `real`", None)
    assert said["training.loss.kind"] == ("", "`cross_entropy`, `focal`", "cross_entropy")
    assert said["promotion.alpha"] == ("probability", "number > 0, < 1", "0.05")
    only = {key.path: key.only for key in KEYS}
    assert only["training.loss.gamma"] == "kind: focal"
    assert only["engine.num_gpus"] == "kind: ray"


def test_sections_are_those_of_the_configuration():
    singles = {key.path for key in SECTIONS[0][2]}
    assert singles | {name for name, _, _ in SECTIONS if name} == set(Config.model_fields)


@pytest.mark.parametrize(
    "words", ["### `bus-mlops predict`", "### `bus-mlops folds import`", "| `-m, --model <str>` |", "| `--version` |"]
)
def test_the_command_line_is_the_parsers(words):
    assert words in commands.page()
