"""From `searches` to plans: any network and any path, the paper's parameters first, the cells of Table 6 its own."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from bus_mlops import profiles
from bus_mlops.config import Config
from bus_mlops.errors import ConfigError, DatasetError, EvaluationError, NetworkError
from bus_mlops.evaluation.searched import FLAT, Choice, SearchResult
from bus_mlops.experiments.plan import make_plans
from bus_mlops.experiments.plan_files import input_sizes, read_plan, read_search_plan, write_plans
from bus_mlops.experiments.plan_status import describe_plan
from bus_mlops.experiments.search_plan import SearchPlan, make_search_plans
from bus_mlops.project import parse_config
from bus_mlops.search.chosen import with_choices

RATE = {"low": 0.00001, "high": 0.01, "log": True}
# Three that nothing in the code knows of.
UNKNOWN: dict[str, dict[str, Any]] = {
    "pair": {
        "network": "mobilenet",
        "strategy": "losses",
        "space": {"loss.kind": ["focal"], "loss.gamma": {"low": 1, "high": 5, "step": 0.5}, "loss.alpha": [0.5, 0.8]},
    },
    "rate": {
        "network": "vgg16",
        "strategy": "transfer_learning",
        "space": {"optimizer.learning_rate": RATE, "dropout": {"low": 0, "high": 0.6, "step": 0.1}},
    },
    "wide": {"network": "mt_estan", "strategy": "approaches", "space": {"options.width": [0.5, 1, 1.5]}},
}


def config_with(searches: dict[str, Any], name: str = "paper") -> Config:
    values = yaml.safe_load(profiles.text(name))
    values["searches"] = searches
    values["promotion"]["candidates"] = ["approaches"]
    return parse_config(values)


def plan_of(search: dict[str, Any], name: str = "paper") -> SearchPlan:
    return make_search_plans(config_with({"mine": search}, name))["mine"]


def changed(of: str, **changes: Any) -> dict[str, Any]:
    return {**UNKNOWN[of], **changes}


@pytest.fixture(scope="module")
def paper() -> Config:
    return parse_config(yaml.safe_load(profiles.text("paper")))


def test_three_searches_that_no_code_knows_of(tmp_path):
    config = config_with(UNKNOWN)
    write_plans(config, tmp_path)
    plans = {name: read_search_plan(tmp_path, name) for name in UNKNOWN}
    assert plans == make_search_plans(config)
    firsts = {name: plan.networks[0].first for name, plan in plans.items()}
    assert firsts == {
        "pair": {"loss.kind": "focal", "loss.gamma": 3.0, "loss.alpha": 0.8},  # as the paper prints for MobileNet
        "rate": {"optimizer.learning_rate": 1e-5, "dropout": 0.3},
        "wide": {"options.width": 1.0},
    }
    for name, plan in plans.items():
        (start,) = plan.networks
        table = make_plans(config)[UNKNOWN[name]["strategy"]]
        assert start.start == next(row.spec for row in table.rows if row.spec.network == start.network)
        assert plan.space(start).spec(plan.space(start).start()) == start.start
        assert plan.folds == (1, 2, 3, 4, 5)
        tuned = read_plan(tmp_path, f"tuned-{name}")
        assert [row.spec for row in tuned.rows] == [start.start]
        assert name in tuned.title
        assert [row.choice for row in tuned.rows] == ["nested"]


def test_the_papers_grids_are_the_cells_of_table_6(paper):
    def fingerprint(spec):
        return spec.fingerprint("data", "folds")

    losses = make_plans(paper)["losses"]
    table = {fingerprint(row.spec) for row in losses.rows}
    searches = make_search_plans(paper)
    found = {
        fingerprint(plan.space(start).spec(cell))
        for plan in (searches["weighted_cross_entropy"], searches["focal"])
        for start in plan.networks
        for cell in plan.space(start).grid()
    }
    assert found == table
    assert [searches[name].trials(searches[name].networks[0]) for name in ("weighted_cross_entropy", "focal")] == [5, 9]


def test_the_first_trial_is_what_the_paper_prints(paper):
    searches = make_search_plans(paper)
    weights = {each.network: each.first["loss.positive_weight"] for each in searches["weighted_cross_entropy"].networks}
    assert weights.pop("densenet121") == 4
    assert set(weights.values()) == {3}
    pairs = {each.network: (each.first["loss.gamma"], each.first["loss.alpha"]) for each in searches["focal"].networks}
    twos = {"vgg16", "xception", "inceptionv3", "efficientnetb0"}
    assert pairs == {name: (2.0 if name in twos else 3.0, 0.8) for name in pairs}
    (mt_estan,) = searches["mt_estan_loss"].networks
    assert mt_estan.first == {
        "loss.classification_weight": 3.0,
        "loss.kind": "cross_entropy",
        "loss.positive_weight": 3.0,
    }
    rows = make_plans(paper)["tuned-weighted_cross_entropy"].rows
    assert {row.paper.variant for row in rows if row.paper} == {"WBCE(w_z=3)", "WBCE(w_z=4)"}
    assert {row.variant for row in rows} == {"WBCE, tuned"}


def test_the_papers_values_are_known_where_the_profiles_table_leaves_them_out():
    values = yaml.safe_load(profiles.text("paper"))
    values["strategy_settings"]["losses"] = {"networks": ["vgg16"], "positive_weights": [5], "gammas": [], "alphas": []}
    plans = make_search_plans(parse_config(values))
    first = plans["weighted_cross_entropy"].networks[0]
    assert (first.network, first.first) == ("mobilenet", {"loss.positive_weight": 3.0})


@pytest.mark.parametrize(
    ("first", "expected"),
    [
        ({"dropout": 0.5}, {"optimizer.learning_rate": 1e-5, "dropout": 0.5}),
        ({"dropout": 0.5, "optimizer.learning_rate": 0.001}, {"optimizer.learning_rate": 0.001, "dropout": 0.5}),
    ],
)
def test_a_first_trial_may_be_named_also_in_part(first, expected):
    assert plan_of(changed("rate", first=first)).networks[0].first == expected
    pair = plan_of(changed("pair", first={"loss.gamma": 2})).networks[0].first
    assert pair == {"loss.kind": "focal", "loss.gamma": 2.0, "loss.alpha": 0.8}  # the rest as the paper prints


@pytest.mark.parametrize(
    ("search", "message"),
    [
        (
            changed("rate", first={"dropout": 0.9}),
            "searches.mine: the first trial of vgg16 (first) lies outside the space: searches.mine.space.dropout = "
            "0.9: lies outside 0 to 0.6. Widen the space, or name the values in searches.mine.first",
        ),
        (changed("wide", space={"options.width": [0.25, 0.5]}), "(what it starts from) lies outside the space"),
        (changed("wide", space={"options.widht": [0.5]}), "searches.mine.space.options.widht: leads to nothing"),
        (changed("wide", network="estan"), "searches.mine.network: estan only draws masks, and roc_auc is of a class"),
        (
            changed("wide", strategy="losses"),
            "searches.mine.network: mt_estan has no row in the strategy losses, whose networks are mobilenet, ",
        ),
        (
            changed("wide", nested=False, folds=[7]),
            "searches.mine.folds must be among the folds that are trained (1, 2, 3, 4, 5) but got 7",
        ),
        (
            changed("wide", pruning={"epochs": "median", "rungs": [10, 70]}),
            "searches.mine.pruning.rungs must be less than the 70 epochs of a trial of mt_estan but got 70",
        ),
    ],
)
def test_what_cannot_be_planned_is_named(search, message):
    with pytest.raises(ConfigError) as caught:
        plan_of(search)
    assert message in str(caught.value)


def test_a_network_that_nobody_has_registered_is_named():
    with pytest.raises(NetworkError, match=r"unknown network 'mt_eston'; the zoo has .*mt_estan"):
        plan_of(changed("wide", network="mt_eston"))


def test_a_network_that_was_taken_out_is_not_searched_and_the_plan_says_so(monkeypatch, tmp_path):
    config = config_with({"wide": changed("wide", network="emt_net"), "pair": UNKNOWN["pair"]}, "busi")
    plans = make_search_plans(config)
    assert plans["wide"].networks == ()
    assert make_plans(config)["tuned-wide"].rows == ()
    monkeypatch.chdir(tmp_path)
    table, notes = describe_plan(config)
    assert "no search wide: emt_net is not among the networks of params.yaml" in notes
    told = "search pair of mobilenet (optuna, tpe) on 5 folds, the validation part of each: up to 100 cells"
    assert told in str(notes)
    assert "tuned-pair" in list(table.columns[0].cells)
    both = changed("pair", network=["mobilenet", "resnet50"])
    assert [each.network for each in plan_of(both, "busi").networks] == ["mobilenet"]


@pytest.mark.parametrize(
    ("changes", "cells"),
    [
        ({}, 20 * 5),
        ({"trials": 4, "seeds": 2}, 4 * 5 * 2),
        ({"trials": 4, "inner_folds": 3}, 4 * 5 * 3),
        ({"trials": 4, "nested": False}, 4),
        ({"trials": 4, "nested": False, "folds": [1, 2], "seeds": 2}, 4 * 2 * 2),
        ({"trials": None, "sampler": "grid"}, 3 * 5),
        ({"trials": 2, "sampler": "grid"}, 2 * 5),
        ({"trials": 50, "sampler": "grid"}, 3 * 5),
        ({"trials": 50, "sampler": "brute_force"}, 3 * 5),
    ],
)
def test_the_trainings_of_a_search_are_counted(changes, cells):
    plan = plan_of(changed("wide", **changes))
    assert sum(map(plan.cells, plan.networks)) == cells


def test_every_combination_of_what_cannot_be_listed_is_refused():
    plan = plan_of({**UNKNOWN["rate"], "sampler": "brute_force", "space": {"dropout": {"low": 0.1, "high": 0.3}}})
    with pytest.raises(ConfigError, match="dropout: a grid needs a step, or a list of values"):
        plan.trials(plan.networks[0])


def test_image_sizes_that_may_be_chosen_are_assembled(tmp_path):
    config = config_with({"size": changed("pair", space={"input_size": [64, 96, 128]})}, "busi")
    write_plans(config, tmp_path)
    assert json.loads((tmp_path / "sizes.json").read_text())["sizes"] == [64, 96, 128]
    assert input_sizes(make_plans(config), {}) == [96]


def test_what_was_chosen_is_trained_on_its_fold():
    config = config_with({"wide": UNKNOWN["wide"]})
    search, plan = make_search_plans(config)["wide"], make_plans(config)["tuned-wide"]
    widths = {1: 0.5, 2: 1.5, 3: 1.0, 4: 0.5, 5: 1.0}
    row = with_choices(plan, search, SearchResult(search="wide", choices=choices(widths))).rows[0]
    assert {fold: row.spec_of(fold).options["width"] for fold in plan.folds} == widths
    assert row.spec_of(3) == row.spec  # the start's own
    assert row.parameters[2] == {"options.width": 1.5}
    flat = with_choices(plan, search, SearchResult(search="wide", nested=False, choices=choices({FLAT: 0.5}))).rows[0]
    assert {flat.spec_of(fold).options["width"] for fold in plan.folds} == {0.5}
    with pytest.raises(EvaluationError, match=r"chosen nothing for fold 2 of mt_estan.*dvc repro search@wide"):
        with_choices(plan, search, SearchResult(search="wide", choices=choices({1: 0.5})))


def choices(widths: dict[int, float]) -> tuple[Choice, ...]:
    values = {"network": "mt_estan", "trial": 0, "best": 0, "value": 0.5, "first_value": 0.5, "difference": 0}
    beside = {"standard_error": 0.1, "reason": "", "images": "", "image_count": 1}
    made = [{**values, **beside, "fold": fold, "parameters": {"options.width": w}} for fold, w in widths.items()]
    return tuple(map(Choice.model_validate, made))


def test_a_search_that_is_not_planned_is_told(tmp_path):
    write_plans(config_with({}, "busi"), tmp_path)
    with pytest.raises(DatasetError, match=r"no plan 'search-mine' in .* Put 'mine' into `searches` of params.yaml"):
        read_search_plan(tmp_path, "mine")


def test_a_search_without_a_choice_names_a_variant(demo_values):
    grid = {"network": ["mt_estan"], "strategy": "approaches", "sampler": "grid", "trials": None}
    demo_values["searches"] = {
        "in_haste": {**grid, "space": {"epochs": [2]}, "first": {"epochs": 2}},
        "choosing": {**grid, "space": {"epochs": [2], "loss.mask_weight": [1, 2]}, "first": {"epochs": 2}},
    }
    demo_values["promotion"].update(candidates=["approaches"])
    plans = make_plans(parse_config(demo_values))
    variant, chosen = (plans[f"tuned-{name}"] for name in ("in_haste", "choosing"))
    assert [row.variant.removesuffix(", from scratch") for row in variant.rows] == ["Multi, in haste"]
    assert variant.title == "MT-ESTAN, in_haste"
    assert variant.explanation == "As in the strategy approaches, with what the search in_haste sets: epochs."
    assert [row.variant.removesuffix(", from scratch") for row in chosen.rows] == ["Multi, tuned"]
    assert chosen.title == "MT-ESTAN after the search choosing"
