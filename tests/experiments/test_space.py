"""Spaces of searches: every proposal is a valid spec, the start stays itself, a mistake is named with what there is."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from projects import small_profile
from pydantic import TypeAdapter

from bus_mlops.config import Choices, Config, CrossEntropy, Dimension, Focal, Range, Sgd, Training
from bus_mlops.errors import ConfigError
from bus_mlops.experiments.settings import settings_of
from bus_mlops.experiments.space import Space
from bus_mlops.experiments.strategies import make_spec
from bus_mlops.models.zoo import entry
from bus_mlops.project import parse_config
from bus_mlops.spec import RunSpec

CROSS, FOCAL = {"loss.kind": "cross_entropy"}, {"loss.kind": "focal"}
# Of each kind of path one, with conditions that stand on others.
WIDE: dict[str, Any] = {
    "loss.alpha": {"low": 0.2, "high": 0.9, "step": 0.05, "when": FOCAL},  # before what it depends on
    "loss.classification_weight": {"low": 0.5, "high": 5, "step": 0.25},
    "loss.kind": ["cross_entropy", "focal"],
    "loss.positive_weight": {"low": 1, "high": 5, "when": CROSS},
    "loss.gamma": {"low": 1, "high": 5, "step": 0.5, "when": FOCAL},
    "optimizer.name": ["adam", "sgd"],
    "optimizer.learning_rate": {"low": 1e-5, "high": 1e-2, "log": True},
    "optimizer.momentum": {"choices": [0.5, 0.9], "when": {"optimizer.name": "sgd"}},
    "augmentation.horizontal_flip": [True, False],
    "augmentation.rotation": {"low": 0, "high": 90},
    "batch_size": {"low": 8, "high": 32, "step": 8},
    "input_size": [64, 96],
    "dropout": [0.25, 0.5],
    "kept_epoch": ["best", "last"],
    "options.width": {"low": 0.125, "high": 0.5},
    "options.units_1": {"low": 16, "high": 1024, "log": True},
}


@lru_cache
def demo() -> Config:
    return parse_config(small_profile())


@lru_cache
def start(network: str = "mt_estan") -> RunSpec:
    cohort = "all" if network == "mobilenet" else "multitask"
    return make_spec(demo(), network, cohort)


def space(values: dict[str, Any], network: str = "mt_estan") -> Space:
    dimensions = TypeAdapter(dict[str, Dimension]).validate_python(values)
    return Space.of(dimensions, start(network), "searches.mine.space")


@lru_cache
def wide() -> Space:
    return space(WIDE)


@st.composite
def proposals(draw: st.DrawFn) -> dict[str, Any]:
    """What a sampler may propose: in the space, floats for everything, steps with the digits that adding leaves."""
    found: dict[str, Any] = {}
    for path, dimension in wide().dimensions:
        if path not in wide().active(found):
            continue
        if isinstance(dimension, Choices):
            found[path] = draw(st.sampled_from(dimension.choices))
        elif dimension.step is not None:
            steps = round((dimension.high - dimension.low) / dimension.step)
            found[path] = float(dimension.low + draw(st.integers(0, steps)) * dimension.step)
        elif isinstance(dimension.low, int):
            found[path] = float(draw(st.integers(dimension.low, int(dimension.high))))
        else:
            found[path] = draw(st.floats(dimension.low, dimension.high))
    return found


@given(proposals())
def test_every_proposal_is_a_valid_spec_that_has_its_values(values):
    proposed = wide().proposal(values)
    spec = wide().spec(proposed)
    assert Training.model_validate(spec.training.model_dump()) == spec.training
    assert entry("mt_estan").resolve(spec.options) == spec.options
    assert wide().read(spec) == proposed
    assert wide().proposal(proposed) == proposed
    assert RunSpec.model_validate_json(spec.model_dump_json()) == spec
    whole = ("batch_size", "input_size", "options.units_1")
    assert {type(proposed[path]) for path in whole} == {int}
    assert proposed.keys() == set(wide().active(proposed))
    assert spec.training.loss.mask_weight == start().training.loss.mask_weight
    if "loss.alpha" in proposed:
        assert len(str(proposed["loss.alpha"])) <= 4  # 0.35, not 0.35000000000000003


def test_the_start_stays_itself():
    for network in ("mt_estan", "mobilenet", "mobilenet_multitask", "vakanski", "emt_net", "sha_mtl"):
        space_of = space({"dropout": [0.1, 0.2], "loss.kind": ["focal"], "options.units_1": [64, 128]}, network)
        assert space_of.spec(space_of.start()) == start(network)
    assert wide().spec(wide().start()) == start()
    assert wide().spec({}) == start()


def test_another_kind_begins_with_its_defaults_and_keeps_what_both_have():
    training = wide().spec({"loss.kind": "focal", "optimizer.name": "sgd", "loss.gamma": 4}).training
    own = start().training
    loss = Focal(gamma=4, classification_weight=own.loss.classification_weight, mask_weight=own.loss.mask_weight)
    assert training.loss == loss
    assert training.optimizer == Sgd(learning_rate=own.optimizer.learning_rate)
    assert training.model_copy(update={"loss": own.loss, "optimizer": own.optimizer}) == own
    assert wide().spec({"loss.kind": "cross_entropy", "loss.positive_weight": 2}).training.loss == CrossEntropy(
        positive_weight=2, classification_weight=own.loss.classification_weight, mask_weight=own.loss.mask_weight
    )


def test_units_that_nobody_sets_follow_the_width():
    """As `networks.mt_estan.options.width` does, so that a searched width is the cell of a table with that width."""
    wider = space({"options.width": [0.25, 1.0]}).spec({"options.width": 1.0})
    assert wider.options == entry("mt_estan").resolve({**start().options, "width": 1.0})


def test_parents_come_before_what_depends_on_them():
    order = [path for path, _ in wide().dimensions]
    assert set(order) == set(WIDE)
    assert all(order.index(other) < order.index(path) for path, each in wide().dimensions for other in each.when)


def test_a_grid_is_every_combination_that_applies():
    grid = space(
        {
            "loss.kind": ["cross_entropy", "focal"],
            "loss.positive_weight": {"low": 1, "high": 3, "step": 1, "when": CROSS},
            "loss.gamma": {"choices": [2, 3], "when": FOCAL},
            "loss.alpha": {"low": 0.25, "high": 0.35, "step": 0.05, "when": FOCAL},
        }
    ).grid()
    assert grid == [
        *({"loss.kind": "cross_entropy", "loss.positive_weight": weight} for weight in (1.0, 2.0, 3.0)),
        *({"loss.kind": "focal", "loss.gamma": g, "loss.alpha": a} for g in (2.0, 3.0) for a in (0.25, 0.3, 0.35)),
    ]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"dropout": {"low": 0.1, "high": 0.5}}, "space.dropout: a grid needs a step, or a list of values"),
        ({"options.units_1": {"low": 16, "high": 512, "log": True}}, "options.units_1: a grid needs a step"),
        ({"options.width": {"low": 0.1, "high": 1.1, "step": 1e-6}}, "width: has 1,000,001 steps, too many for a grid"),
        (
            {path: {"low": 1, "high": 50} for path in ("batch_size", "epochs", "options.units_1")},
            "the grid has more than 100,000 points",
        ),
    ],
)
def test_what_is_no_grid_is_named(values, message):
    with pytest.raises(ConfigError) as caught:
        space(values).grid()
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("network", "path", "dimension", "message"),
    [
        ("mt_estan", "loss.gam", [1], "leads to nothing that mt_estan can be trained with. There are: augmentation."),
        ("mt_estan", "loss", [1], "leads to nothing"),
        ("mt_estan", "loss.kind.gamma", [1], "leads to nothing"),
        ("mt_estan", "", [1], "leads to nothing"),
        ("mt_estan", "seed", [1, 2], "leads to nothing"),
        ("mt_estan", "network", ["mobilenet"], "leads to nothing"),
        ("mt_estan", "options.widht", [1], "options.encoder, options.units_1, options.units_2, options.width, scaling"),
        ("mt_estan", "plateau.factor", [0.1, 0.2], "leads to nothing"),
        (
            "mt_estan",
            "validation",
            [0.1, 0.2],
            "cannot be searched, since all trials must be judged on",
        ),
        ("mobilenet", "loss.mask_weight", [1], "loss.mask_weight: has no effect on mobilenet. There are: "),
        ("estan", "loss.positive_weight", [1, 2], "loss.positive_weight: has no effect on estan"),
        ("estan", "head_initializer", ["he_normal"], "head_initializer: has no effect on estan"),
        ("mobilenet", "options.width", [0.5], "leads to nothing that mobilenet can be trained with"),
        ("mobilenet", "head_initializer", ["glorot_uniform"], ""),
        (
            "mt_estan",
            "loss.gamma",
            {"low": 1, "high": 2},
            "loss.gamma: is for loss.kind focal, but loss.kind is cross_entropy: add `loss.kind: [focal]` to the space",
        ),
        ("mt_estan", "optimizer.momentum", [0.5], "is for optimizer.name sgd, but optimizer.name is adam"),
        ("mt_estan", "dropout", {"low": 0, "high": 1}, "space.dropout = 1.0: Input should be less than 1"),
        ("mt_estan", "dropout", [0.5, 2], "space.dropout = 2.0: Input should be less than 1"),
        ("mt_estan", "dropout", ["much"], "space.dropout = 'much': must be a number"),
        ("mt_estan", "dropout", [True], "space.dropout = True: must be a number"),
        (
            "mt_estan",
            "loss.classification_weight",
            {"low": 0, "high": 1},
            "weight = 0.0: Input should be",
        ),
        ("mt_estan", "optimizer.learning_rate", {"low": 0.1, "high": 2}, "learning_rate = 2.0: Input should be less"),
        ("mt_estan", "batch_size", {"low": 1.5, "high": 4}, "space.batch_size = 1.5: must be a whole number"),
        (
            "mt_estan",
            "batch_size",
            {"low": 1, "high": 4, "step": 0.5},
            "batch_size = 0.5: must be a whole number",
        ),
        ("mt_estan", "weights", ["random", "radiology"], "weights = 'radiology': must be one of random, imagenet"),
        (
            "mt_estan",
            "weights",
            {"low": 1, "high": 2},
            "needs choices: list the values, such as [random, imagenet, radimagenet]",
        ),
        ("mt_estan", "augmentation.horizontal_flip", [True, 0], "horizontal_flip = 0: must be one of False, True"),
        ("mt_estan", "options.encoder", {"low": 1, "high": 2}, "needs choices: list the values, such as [resnet50,"),
        ("mt_estan", "options.encoder", ["vgg16"], "options.encoder = 'vgg16': must be one of resnet50, "),
        ("mt_estan", "options.width", [0.5, 40], "options.width must be a number between 0.0625 and 2 but got 40"),
        ("mt_estan", "options.units_1", [0.5], "options.units_1 = 0.5: must be a whole number"),
        ("mt_estan", "input_size", {"low": 64, "high": 128, "step": 32}, "input_size: is a range, and needs choices"),
        (
            "mt_estan",
            "input_size",
            [64, 100],
            "must be a multiple of 32, 64 or more but got 100",
        ),
        ("estan", "weights", ["imagenet"], "weights of estan cannot be imagenet, since no part of it is pretrained"),
    ],
)
def test_a_path_or_value_that_cannot_be_is_named(network, path, dimension, message):
    if not message:
        assert space({path: dimension}, network).spec({path: dimension[0]}) is not None
        return
    with pytest.raises(ConfigError) as caught:
        space({path: dimension}, network)
    assert str(caught.value).startswith(f"searches.mine.space{'.' + path if path else ''}")
    assert message in str(caught.value)


def test_a_path_of_one_kind_needs_its_condition():
    kinds = {"loss.kind": ["cross_entropy", "focal"]}
    with pytest.raises(ConfigError, match=r"loss\.kind may be cross_entropy: add `when: {loss\.kind: focal}`"):
        space({**kinds, "loss.gamma": [1, 2]})
    both = {"loss.alpha": {"choices": [0.5], "when": FOCAL}, "loss.gamma": [1, 2]}
    with pytest.raises(ConfigError, match=r"loss\.gamma: is for loss\.kind focal"):
        space({**kinds, **both})
    assert space({"loss.kind": ["focal"], "loss.gamma": [1, 2]}).grid()[1] == {"loss.kind": "focal", "loss.gamma": 2.0}


def test_a_path_all_of_whose_values_are_the_same_training_has_no_effect():
    with_plateau = start().training.model_copy(update={"plateau": {"patience": 50}})
    spec = start().model_copy(update={"training": Training.model_validate(with_plateau.model_dump(warnings=False))})
    dimensions = TypeAdapter(dict[str, Dimension]).validate_python({"plateau.factor": [0.1, 0.5]})
    with pytest.raises(ConfigError, match=r"plateau\.factor: has no effect: all its values are the same training"):
        Space.of(dimensions, spec)
    longer = TypeAdapter(dict[str, Dimension]).validate_python({"plateau.patience": [2, 3]})
    plateau = Space.of(longer, spec).spec({"plateau.patience": 3}).training.plateau
    assert plateau is not None
    assert plateau.patience == 3


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"dropout": 0.25}, "applies, but has no value"),
        ({**WIDE, "options.encoder": "resnet50"}, "options.encoder: is not a path of this space"),
    ],
)
def test_parameters_that_are_no_proposal_are_named(parameters, message):
    with pytest.raises(ConfigError, match=message):
        wide().spec(parameters) if len(parameters) > 1 else wide().proposal(parameters)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("loss.classification_weight", 5.5, "= 5.5: lies outside 0.5 to 5"),
        ("loss.classification_weight", 0.6, "= 0.6: is none of the steps of 0.25 from 0.5"),
        ("dropout", 0.3, "= 0.3: is not one of its choices: 0.25, 0.5"),
        ("batch_size", 12, "= 12: is none of the steps of 8 from 8"),
    ],
)
def test_a_value_outside_the_space_is_named(path, value, message):
    inside = wide().proposal({**wide().start(), "dropout": 0.5, "kept_epoch": "best", path: wide().start()[path]})
    with pytest.raises(ConfigError, match=f"searches.mine.space.{path} {message}"):
        wide().proposal({**inside, path: value})


def test_sizes_that_may_be_chosen_are_known_beforehand():
    assert wide().sizes() == {64, 96}
    assert space({"dropout": [0.1]}).sizes() == {64}


@pytest.mark.parametrize("network", ["mobilenet", "mt_estan", "estan"])
def test_every_path_that_messages_list_can_be_searched(network):
    """With each of its values where it has some, else with its own one and another."""
    for path, setting in settings_of(start(network)).items():
        values = setting.values or (
            (64, 96) if path == "input_size" else (1, 2) if setting.type is int else (0.25, 0.5)
        )
        if path in ("weights", "scaling"):
            values = tuple(each for each in values if each not in ("imagenet", "radimagenet"))
        chosen = {path: list(values)}
        if setting.key and path != setting.kind_path:
            chosen[setting.kind_path] = [setting.kinds[0]]
        assert space(chosen, network).dimensions


def test_dimensions_have_the_types_of_their_fields():
    typed = dict(wide().dimensions)
    assert typed["batch_size"] == Range(low=8, high=32, step=8)
    assert isinstance(typed["batch_size"], Range)
    assert {type(typed["batch_size"].low), type(typed["batch_size"].step)} == {int}
    assert isinstance(typed["augmentation.rotation"], Range)
    assert type(typed["augmentation.rotation"].low) is float
    whole = dict(space({"epochs": {"low": 2, "high": 9}}).dimensions)["epochs"]
    assert whole == Range(low=2, high=9, step=1)
