"""The table of what the paper does not have: its rows, and that the paper's tables have none of them."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from documented import blocks

from bus_mlops.config import Config
from bus_mlops.errors import ConfigError, NetworkError
from bus_mlops.experiments.left_out import planned
from bus_mlops.experiments.plan import make_plans
from bus_mlops.experiments.strategies import STRATEGIES
from bus_mlops.project import parse_config
from bus_mlops.testing.strategies import check_strategy

DIGESTS = "0" * 64, "1" * 64


@pytest.fixture
def values(demo_values: dict[str, Any]) -> dict[str, Any]:
    demo_values["networks"] |= {"linear_probe_mobilenet": {}, "linear_probe_densenet121": {"input_size": 96}}
    demo_values["strategies"] = [*demo_values["strategies"], "since_the_paper"]
    return demo_values


def fingerprints(config: Config, strategy: str) -> list[str]:
    return [row.spec.fingerprint(*DIGESTS) for row in make_plans(config)[strategy].rows]


def test_probes_are_rows_of_their_own_table_and_of_no_other(values):
    config = parse_config(values)
    check_strategy(STRATEGIES["since_the_paper"], config)
    plans = make_plans(config)
    rows = plans["since_the_paper"].rows
    assert [row.model for row in rows] == ["Linear probe of MobileNet", "Linear probe of DenseNet121"]
    assert all(row.paper is None for row in rows)
    assert {row.spec.cohort for row in rows} == {config.cohorts["multitask"]}
    others = {row.spec.network for name, plan in plans.items() if name != "since_the_paper" for row in plan.rows}
    assert not any(network.startswith("linear_probe") for network in others)
    assert max(plan.order for plan in plans.values()) == plans["since_the_paper"].order


def test_only_what_features_and_regression_depend_on_is_in_a_fingerprint(values):
    before = fingerprints(parse_config(values), "since_the_paper")
    values["training"] |= {"epochs": 77, "batch_size": 5, "dropout": 0.1, "optimizer": {"name": "sgd"}}
    values["training"]["loss"] = {"positive_weight": 4}
    assert fingerprints(parse_config(values), "since_the_paper") == before
    values["networks"]["linear_probe_mobilenet"] = {"scaling": "unit"}
    after = fingerprints(parse_config(values), "since_the_paper")
    assert after[0] != before[0]
    assert after[1] == before[1]


@pytest.mark.parametrize("key", [{"epochs": 3}, {"dropout": 0.5}, {"loss": {"positive_weight": 2}}])
def test_a_setting_that_a_probe_does_not_feel_is_an_error(values, key):
    values["networks"]["linear_probe_mobilenet"] = key
    with pytest.raises(ConfigError, match=rf"linear_probe_mobilenet\.{next(iter(key))} has no effect.*input_size"):
        make_plans(parse_config(values))


def test_a_table_of_the_paper_refuses_a_probe_by_name(values):
    values["strategy_settings"]["losses"]["networks"] = ["linear_probe_mobilenet"]
    with pytest.raises(ConfigError, match="classifiers outside the table since_the_paper but names 'linear_probe"):
        make_plans(parse_config(values))


def test_a_profile_without_such_networks_cannot_have_the_table(demo_values):
    demo_values["strategies"] = ["since_the_paper"]
    with pytest.raises(ConfigError, match="needs networks since the paper, such as linear_probe_mobilenet"):
        make_plans(parse_config(demo_values))


def test_rows_from_radimagenets_weights_stand_there_and_beside_no_number_of_the_paper(values):
    values["networks"] |= {"resnet50": {}, "mt_estan": {"options": {"encoder": "resnet50"}}}
    values["networks"] |= {"linear_probe_resnet50": {"weights": "radimagenet", "scaling": "radimagenet"}}
    values["strategy_settings"]["since_the_paper"] = {"radimagenet": ["resnet50", "mt_estan", "linear_probe_resnet50"]}
    config = parse_config(values)
    check_strategy(STRATEGIES["since_the_paper"], config)
    rows = {row.model: row for row in make_plans(config)["since_the_paper"].rows if "RadImageNet" in row.variant}
    assert {name: row.variant for name, row in rows.items()} == {
        "ResNet50": "Single, RadImageNet",
        "MT-ESTAN (resnet50)": "Multi, RadImageNet",
        "Linear probe of ResNet50": "Single, RadImageNet",
    }
    for row in rows.values():
        assert (row.spec.training.weights, row.spec.training.scaling, row.paper) == ("radimagenet", "radimagenet", None)
    values["strategy_settings"]["since_the_paper"] = {"radimagenet": ["vgg16"]}
    with pytest.raises(ConfigError, match="radimagenet must be among the networks"):
        make_plans(parse_config(values))
    values["strategy_settings"]["since_the_paper"] = {"radimagenet": ["mobilenet"]}
    with pytest.raises(NetworkError, match="no RadImageNet weights of mobilenet"):
        make_plans(parse_config(values))


def test_a_table_of_the_paper_has_no_number_of_the_paper_beside_radimagenets_weights(values):
    values["networks"]["mt_estan"] = {
        "options": {"encoder": "resnet50"},
        "weights": "radimagenet",
        "scaling": "radimagenet",
    }
    (row,) = [row for row in make_plans(parse_config(values))["approaches"].rows if row.spec.network == "mt_estan"]
    assert (row.variant, row.paper) == ("Multi, RadImageNet", None)


def test_rows_whose_radimagenet_weights_are_missing_are_left_out_by_name(values, tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    values["networks"] |= {"resnet50": {}}
    values["strategy_settings"]["since_the_paper"] = {"radimagenet": ["resnet50"]}
    values["missing_weights"] = "leave_out"
    left = [each for each in planned(parse_config(values)).left_out if each.strategy == "since_the_paper"]
    assert [(each.network, each.variant) for each in left] == [("ResNet50", "Single, RadImageNet")]
    assert "no RadImageNet weights of resnet50 in Keras's cache" in left[0].reason


def test_the_page_of_the_documentation_plans_what_it_says(demo_values):
    for block in blocks("how-to/compare-with-networks-of-today.md"):
        for section, given in yaml.safe_load(block.code).items():
            demo_values[section] = {**demo_values[section], **given} if section == "training" else given
    demo_values |= {"searches": {}, "probes": None, "leak_premium": None}
    demo_values["promotion"] |= {"candidates": ["approaches"], "challengers": []}
    config = parse_config(demo_values)
    assert {row.model: row.variant.split(" ")[0] for row in make_plans(config)["since_the_paper"].rows} == {
        "Linear probe of MobileNet": "Single,",
        "Linear probe of DenseNet121": "Single,",
        "ConvNeXtTiny": "Single,",
        "EfficientNetV2B0": "Single,",
        "MT-ESTAN (resnet50)": "Multi,",
        "Ensemble both": "Mean",
    }
