"""`searches` of params.yaml: what a search may be, and every mistake in one named with its remedy."""

from __future__ import annotations

import pytest
import yaml

from bus_mlops import profiles
from bus_mlops.config import Choices, Range
from bus_mlops.config.parameter_file import parse_parameters
from bus_mlops.errors import ConfigError
from bus_mlops.project import parse_config

# Two paths with a condition, from which each case below changes something.
SPACE = {
    "loss.kind": ["cross_entropy", "focal"],
    "loss.gamma": {"low": 1, "high": 5, "step": 0.5, "when": {"loss.kind": "focal"}},
}


def parse(values, **changes):
    search = {"network": "mt_estan", "strategy": "approaches", "space": SPACE, **changes}
    values["searches"]["mine"] = {key: value for key, value in search.items() if value is not None}
    return parse_config(values).searches["mine"]


def test_the_example_of_the_documentation(demo_values):
    search = parse(demo_values, trials=40, objective="roc_auc")
    assert search.network == ("mt_estan",)
    assert (search.objective, search.sampler, search.nested) == (("roc_auc",), "tpe", True)
    assert search.space["loss.kind"] == Choices(choices=("cross_entropy", "focal"))
    assert search.space["loss.gamma"] == Range(low=1, high=5, step=0.5, when={"loss.kind": "focal"})


def test_several_objectives_with_a_constraint(demo_values):
    search = parse(demo_values, objective=["brier", "roc_auc"], constraint={"roc_auc": 0.9})
    assert search.objective == ("brier", "roc_auc")


@pytest.mark.parametrize(
    ("path", "dimension", "message"),
    [
        ("dropout", {"low": 0.5, "high": 0.5}, "space.dropout = {'low': 0.5, 'high': 0.5}: low must be less than high"),
        ("dropout", {"low": 0.5}, "key 'searches.mine.space.dropout.high' is missing"),
        ("dropout", {"low": 0.1, "high": 0.5, "stepp": 1}, "searches.mine.space.dropout.stepp': did you mean 'step'?"),
        ("dropout", {"low": 0, "high": 0.5, "step": 0.2}, "steps of 0.2 from 0 do not reach 0.5: set high to 0.4"),
        ("dropout", {"low": 0.1, "high": 0.5, "step": 0}, "searches.mine.space.dropout.step = 0"),
        ("dropout", {"low": 0.1, "high": 0.5, "step": -0.1}, "searches.mine.space.dropout.step = -0.1"),
        ("dropout", {"low": "a", "high": 0.5}, "searches.mine.space.dropout.low = 'a': must be a finite number"),
        ("dropout", {"low": 0, "high": 0.5, "log": True}, "low must be more than 0 on a logarithmic scale but got 0"),
        ("dropout", {"low": 0.1, "high": 0.5, "step": 0.1, "log": True}, "log and step exclude each other"),
        ("dropout", [], "searches.mine.space.dropout"),
        ("dropout", {"low": False, "high": 0.5}, "searches.mine.space.dropout.low = False: must be a finite number"),
        ("dropout", [0.1, 0.2, 0.1], "must not repeat a value but got 0.1 twice"),
        ("dropout", 0.5, "searches.mine.space.dropout = 0.5"),
        ("dropout", {"choices": [0.1], "low": 0.1}, "unknown key 'searches.mine.space.dropout.low'"),
        ("dropout", {"low": 0.1, "high": 0.5, "when": {"loss.kin": "focal"}}, "must be another path of the same space"),
        ("dropout", {"low": 0.1, "high": 0.5, "when": {"dropout": 0.1}}, "must be another path of the same space"),
        (
            "dropout",
            {"low": 0.1, "high": 0.5, "when": {"loss.kind": "huber"}},
            "space.dropout.when.loss.kind must be one of the values of space.loss.kind (cross_entropy, focal) but got",
        ),
        ("dropout", {"low": 0.1, "high": 0.5, "when": {"loss.gamma": 1}}, "(a range: list them)"),
        ("loss.kind", {"choices": ["focal"], "when": {"weights": "random"}}, "another path of the same space"),
    ],
)
def test_a_dimension_that_cannot_be_is_named(demo_values, path, dimension, message):
    with pytest.raises(ConfigError) as caught:
        parse(demo_values, space={**SPACE, path: dimension})
    assert message in str(caught.value)


def test_conditions_in_a_circle_are_named(demo_values):
    circle = {"weights": {"choices": ["random"], "when": {"scaling": "unit"}}}
    circle["scaling"] = {"choices": ["unit"], "when": {"weights": "random"}}
    with pytest.raises(ConfigError, match=r"space\.weights\.when depends on weights itself"):
        parse(demo_values, space=circle)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"space": {}}, "searches.mine.space = {}"),
        ({"space": None}, "key 'searches.mine.space' is missing"),
        ({"networks": ["mt_estan"]}, "unknown key 'searches.mine.networks': did you mean 'network'?"),
        ({"network": ["mt_estan", "mt_estan"]}, "network must not name one twice"),
        ({"network": []}, "searches.mine.network"),
        ({"strategy": "magic"}, "searches.mine.strategy = 'magic': must be one of transfer_learning, "),
        ({"engine": "ray"}, "searches.mine.engine = 'ray': Input should be 'optuna' or 'keras-tuner'"),
        ({"sampler": "gp"}, "sampler of optuna must be one of tpe, random, grid, "),
        ({"engine": "keras-tuner", "sampler": "tpe"}, "sampler of keras-tuner must be one of hyperband, bayesian"),
        ({"trials": 0}, "searches.mine.trials = 0"),
        ({"sampler": "tpe", "trials": None, "seeds": 0}, "searches.mine.seeds = 0"),
        ({"objective": "auroc"}, "searches.mine.objective.0 = 'auroc': no such metric of probabilities; there are: "),
        ({"objective": ["roc_auc", "roc_auc"]}, "objective must not name one twice"),
        ({"constraint": {"auroc": 0.9}}, "no such metric of probabilities"),
        ({"folds": [1]}, "folds are those of a search that is not nested"),
        ({"nested": False, "inner_folds": 3}, "which only a nested search has"),
        ({"inner_folds": 1}, "searches.mine.inner_folds = 1"),
        ({"pruning": {"folds": "wilcoxon"}}, "there is one: set inner_folds or seeds"),
        ({"pruning": {"epochs": "median", "rungs": [4, 2]}}, "rungs must rise but got 4, 2"),
        ({"pruning": {"rungs": [2, 4]}}, "pruning.rungs are those of pruning.epochs, which is none"),
        ({"engine": "keras-tuner", "pruning": {"epochs": "median"}}, "pruning is Optuna's"),
        ({"first": {"dropout": 0.5}}, "first.dropout is not a path of its space: loss.kind, loss.gamma"),
        ({"standard_errors": -1}, "searches.mine.standard_errors = -1"),
    ],
)
def test_a_search_that_cannot_be_is_named(demo_values, changes, message):
    with pytest.raises(ConfigError) as caught:
        parse(demo_values, **changes)
    assert message in str(caught.value)


def test_only_a_grid_ends_by_itself(demo_values):
    demo_values["searches"]["mt_estan_loss"]["trials"] = None
    with pytest.raises(ConfigError, match="trials may be null for a grid only"):
        parse_config(demo_values)


@pytest.mark.parametrize("name", ["my search", "a-b", "1st", "", "ä"])
def test_the_name_of_a_search_names_stages_and_files(demo_values, name):
    demo_values["searches"][name] = demo_values["searches"]["focal"]
    with pytest.raises(ConfigError, match="a search's name is a word of letters, digits and _"):
        parse_config(demo_values)


def test_a_search_has_another_name_than_what_is_promoted_without_one(demo_values):
    demo_values["searches"]["approaches"] = demo_values["searches"]["focal"]
    with pytest.raises(ConfigError, match="a search cannot be named approaches"):
        parse_config(demo_values)


def test_no_search_at_all_and_the_section_left_out(demo_values):
    demo_values["promotion"]["candidates"] = ["approaches"]
    assert parse_config({**demo_values, "searches": {}}).searches == {}
    del demo_values["searches"]
    with pytest.raises(ConfigError, match="key 'searches' is missing"):
        parse_config(demo_values)


@pytest.mark.parametrize(
    ("candidates", "network", "message"),
    [
        (["tuned"], "mt_estan", r"tuned is now called by the name of its search; must be .*\(mt_estan_loss\) but got"),
        (["losses"], "mt_estan", r"must be approaches, or a search of mt_estan \(mt_estan_loss\) but got 'losses'"),
        (["focal"], "mt_estan", r"but got 'focal', which searches mobilenet: see promotion.candidate_network"),
        (
            ["mt_estan_loss"],
            "emt_net",
            r"a search of emt_net \(there is none\) but got 'mt_estan_loss', which",
        ),
        ([], "mt_estan", r"promotion.candidates = \[\]"),
    ],
)
def test_a_candidate_is_a_search_of_the_candidate_network(demo_values, candidates, network, message):
    demo_values["promotion"].update(candidates=candidates, candidate_network=network)
    with pytest.raises(ConfigError, match=message):
        parse_config(demo_values)


def test_the_former_section_is_told_in_todays_words(demo_values):
    """What the message says to write, in place of the old section, is valid and says the same."""
    demo_values["search"] = {"trials": 7, "epochs": 3, "losses": ["focal"], "gamma": [1.0, 5.1], "alpha": [0.2, 0.9]}
    del demo_values["searches"]
    demo_values["promotion"]["candidates"] = ["tuned"]
    with pytest.raises(ConfigError, match="unknown key 'search': there may be several searches now") as caught:
        parse_config(demo_values)
    text = str(caught.value)
    del demo_values["search"]
    demo_values |= yaml.safe_load(text[text.index("searches:\n") : text.index("and mt_estan_loss for tuned")])
    demo_values["promotion"]["candidates"] = ["mt_estan_loss"]
    search = parse_config(demo_values).searches["mt_estan_loss"]
    assert (search.trials, search.epochs, search.sampler) == (7, 3, "tpe")
    assert search.space["loss.kind"] == Choices(choices=("focal",))
    assert search.space["loss.gamma"] == Range(low=1, high=5.1)  # no step leads there
    assert "loss.positive_weight" not in search.space


def test_a_mistake_in_a_search_is_told_with_its_line():
    text = profiles.text("busi").replace("loss.gamma: {low: 1, high: 5, step: 0.5", "loss.gamma: {low: 1, high: 1")
    number = next(n for n, line in enumerate(text.splitlines(), 1) if "loss.gamma: {low: 1, high: 1" in line)
    parameters = parse_parameters(text, "params.yaml")
    with pytest.raises(ConfigError, match=rf"line {number}: searches.mt_estan_loss.space.loss.gamma = .*low must be"):
        parse_config(parameters.values, "params.yaml", parameters.lines)
