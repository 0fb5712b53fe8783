"""A run is what it computes: equal computations share a fingerprint, different ones never do."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from bus_mlops.config import Augmentation, CrossEntropy, Focal, Plateau, Sgd
from bus_mlops.config.base import Strict
from bus_mlops.errors import ConfigError
from bus_mlops.experiments.strategies import make_spec
from bus_mlops.project import parse_config
from bus_mlops.spec import Inner, RunSpec, Task


def fingerprint(spec: RunSpec) -> str:
    return spec.fingerprint("data", "folds")


def test_cross_entropy_is_weighted_cross_entropy_of_weight_one(demo):
    plain = make_spec(demo, "mobilenet", "all")
    weighted = make_spec(demo, "mobilenet", "all", loss=CrossEntropy(positive_weight=1.0))
    assert fingerprint(plain) == fingerprint(weighted)


def test_mask_weight_does_not_matter_without_a_mask(demo):
    a = make_spec(demo, "mobilenet", "all", loss=CrossEntropy(mask_weight=1))
    b = make_spec(demo, "mobilenet", "all", loss=CrossEntropy(mask_weight=2))
    assert fingerprint(a) == fingerprint(b)
    c = make_spec(demo, "mt_estan", "multitask", loss=CrossEntropy(mask_weight=1))
    d = make_spec(demo, "mt_estan", "multitask", loss=CrossEntropy(mask_weight=2))
    assert fingerprint(c) != fingerprint(d)


def test_the_momentum_of_sgd_matters(demo):
    a, b = (make_spec(demo, "mobilenet", "all", optimizer=Sgd(momentum=momentum)) for momentum in (0.5, 0.9))
    assert fingerprint(a) != fingerprint(b)


def test_order_of_the_cohort_does_not_matter(demo):
    spec = make_spec(demo, "mobilenet", "all")
    assert fingerprint(spec) == fingerprint(spec.model_copy(update={"cohort": spec.cohort[::-1]}))


def test_whatever_changes_the_numbers_changes_the_fingerprint(demo):
    base = make_spec(demo, "mobilenet", "all")
    others = [
        base.model_copy(update={"seed": base.seed + 1}),
        make_spec(demo, "mobilenet", "multitask"),
        make_spec(demo, "mobilenet", "all", weights="imagenet"),
        make_spec(demo, "mobilenet", "all", augmentation=Augmentation()),
        make_spec(demo, "mobilenet", "all", loss=CrossEntropy(positive_weight=3)),
        make_spec(demo, "mobilenet", "all", epochs=9),
        make_spec(demo, "mobilenet", "all", input_size=96),
        make_spec(demo, "mobilenet", "all", batch_norm_momentum=0.5),
    ]
    prints = [fingerprint(spec) for spec in (base, *others)]
    prints += [base.fingerprint("other data", "folds"), base.fingerprint("data", "other folds")]
    assert all(a != b for a, b in itertools.combinations(prints, 2))


FIELDS = {
    "network": "emt_net",
    "options": {"width": 0.5},
    "cohort": ("busi",),
    "task": Task.CLASSIFICATION,
    "seed": 1,
    "code": "a" * 64,
    "inner": Inner(fold=1, count=3),
    "training": {
        "input_size": 96,
        "scaling": "none",
        "weights": "imagenet",
        "dropout": 0.1,
        "batch_norm_momentum": 0.5,
        "loss": Focal(),
        "optimizer": Sgd(),
        "epochs": 10,
        "batch_size": 5,
        "steps_per_epoch": 7,
        "plateau": Plateau(patience=1),
        "kept_epoch": "last",
        "head_initializer": "he_normal",
        "validation": 0.3,
        "augmentation": {
            "horizontal_flip": False,
            "height_shift": 0.3,
            "width_shift": 0.3,
            "zoom": 0.3,
            "shear": 3.0,
            "rotation": 30.0,
        },
    },
}


def changed(model: Strict, changes: dict[str, Any]) -> list[Any]:
    """A copy of a model for each of its fields, in which that one is different; fields of a field one by one."""
    assert set(changes) == set(type(model).model_fields), "say here how a new field is changed"
    copies = []
    for name, value in changes.items():
        former = getattr(model, name)
        nested = isinstance(value, dict) and isinstance(former, Strict)
        values = changed(former, value) if nested else [value]
        assert former not in values, name
        copies += [model.model_copy(update={name: each}) for each in values]
    return copies


def test_every_field_of_a_run_counts(demo):
    base = make_spec(demo, "mt_estan", "multitask", epochs=9)
    specs = [base, *changed(base, FIELDS)]
    assert len({fingerprint(spec) for spec in specs}) == len(specs) == 28


def test_an_inner_fold_says_who_validates_whatever_the_training_says(demo):
    base, other = (make_spec(demo, "mobilenet", "all", validation=each) for each in (None, 0.3))
    inner = {"inner": Inner(fold=2, count=3)}
    assert fingerprint(base) != fingerprint(other)
    assert fingerprint(base.model_copy(update=inner)) == fingerprint(other.model_copy(update=inner))
    assert base.model_copy(update=inner).program_key() == base.program_key()
    with pytest.raises(ValueError, match="inner fold 4 of 3"):
        Inner(fold=4, count=3)


def test_trainings_of_one_course_differ_in_their_epochs_alone(demo):
    """What begins as another training does, to the last bit, and nothing else, may take up its state."""
    plateau = {"plateau": Plateau(patience=5), "optimizer": Sgd(learning_rate=1e-2)}
    base = make_spec(demo, "mt_estan", "multitask", epochs=3, **plateau)
    others = [base.model_copy(update={name: FIELDS[name]}) for name in FIELDS if name != "training"]
    assert len({spec.course("d", "f") for spec in (base, *others)}) == 1 + len(others)
    longer = base.model_copy(update={"training": base.training.model_copy(update={"epochs": 9})})
    assert longer.course("d", "f") == base.course("d", "f")
    assert longer.course("d", "other") != base.course("d", "f")
    # Over three epochs a plateau does nothing, over nine it may: the course knows of it from the start.
    flat = base.model_copy(update={"training": base.training.model_copy(update={"plateau": None})})
    assert fingerprint(flat) == fingerprint(base)
    assert flat.course("d", "f") != base.course("d", "f")


def test_loss_and_augmentation_share_a_program_but_size_does_not(demo):
    base = make_spec(demo, "mobilenet", "all")
    same = make_spec(demo, "mobilenet", "all", loss=CrossEntropy(positive_weight=3), augmentation=Augmentation())
    assert base.program_key() == same.program_key()
    assert base.program_key() != make_spec(demo, "mobilenet", "all", input_size=96).program_key()


def test_learning_rates_share_a_program(demo):
    one, other = (make_spec(demo, "mobilenet", "all", optimizer=Sgd(learning_rate=rate)) for rate in (0.1, 0.2))
    assert one.program_key() == other.program_key()
    assert fingerprint(one) != fingerprint(other)


@pytest.mark.parametrize(
    "change",
    [
        {"input_size": 96},
        {"scaling": "imagenet"},
        {"dropout": 0.25},
        {"batch_norm_momentum": 0.5},
        {"optimizer": Sgd()},
        {"optimizer": Sgd(momentum=0.5)},
    ],
    ids=str,
)
def test_all_that_shapes_the_graph_makes_another_program(demo, change):
    """Two cells on one program that was built for the first would train the wrong network, silently."""
    base = make_spec(demo, "mobilenet", "all", scaling="unit", dropout=0.5, batch_norm_momentum=0.9)
    training = base.training.model_copy(update=change)
    other = base.model_copy(update={"training": training})
    assert base.program_key() != other.program_key()
    assert fingerprint(base) != fingerprint(other)


@pytest.mark.parametrize("change", [{"options": {"width": 0.5}}, {"code": "a" * 64}, {"network": "vgg16"}], ids=str)
def test_another_network_option_or_file_is_another_program(demo, change):
    base = make_spec(demo, "mobilenet", "all")
    other = base.model_copy(update=change)
    assert base.program_key() != other.program_key()
    assert fingerprint(base) != fingerprint(other)


def test_every_parameter_of_a_loss_matters(demo):
    losses = (CrossEntropy(), CrossEntropy(positive_weight=3), Focal(), Focal(gamma=3), Focal(alpha=0.5))
    assert len({fingerprint(make_spec(demo, "mobilenet", "all", loss=loss)) for loss in losses}) == len(losses)


EFFECTIVE = {
    "steps_per_epoch": 7,
    "plateau": Plateau(patience=1),
    "kept_epoch": "last",
    "head_initializer": "he_normal",
    "validation": 0.3,
}


def test_what_came_later_counts_where_it_changes_a_number(demo):
    base = make_spec(demo, "mobilenet", "all", epochs=9)
    others = [make_spec(demo, "mobilenet", "all", epochs=9, **{name: value}) for name, value in EFFECTIVE.items()]
    assert len({fingerprint(spec) for spec in (base, *others)}) == 1 + len(EFFECTIVE)
    assert not set(EFFECTIVE) & set(base.canonical()["training"])


@pytest.mark.parametrize(
    ("network", "changes"),
    [
        ("mobilenet", {"head_initializer": "glorot_uniform"}),  # as it is anyway
        ("estan", {"head_initializer": "he_normal"}),  # has no head
        ("mobilenet", {"kept_epoch": "best"}),
        ("mobilenet", {"validation": 0.2}),  # that of the folds
        ("mobilenet", {"plateau": Plateau(patience=8)}),  # the tenth epoch would be the first at a lower rate
        ("mobilenet", {"plateau": Plateau(patience=1, minimum=1e-2), "optimizer": Sgd(learning_rate=1e-2)}),
    ],
)
def test_what_came_later_counts_nowhere_else(demo, network, changes):
    cohort = "multitask" if network == "estan" else "all"
    fixed = {"epochs": 9, "optimizer": Sgd(learning_rate=1e-2)}
    with_them, without = (
        make_spec(demo, network, cohort, **{**fixed, **changes}),
        make_spec(demo, network, cohort, **fixed),
    )
    assert demo.folds.validation == 0.2
    assert fingerprint(with_them) == fingerprint(without)
    assert with_them.program_key() == without.program_key()


def test_official_folds_have_a_fraction_of_their_own(demo_values):
    """Which is not that of params.yaml, so that one that equals it is divided anew."""
    demo_values["folds"] = {"kind": "official", "validation": 0.2}
    spec = make_spec(parse_config(demo_values), "mobilenet", "all", validation=0.2)
    assert spec.canonical()["training"]["validation"] == 0.2


def test_only_the_head_of_what_came_later_needs_another_program(demo):
    base = make_spec(demo, "mobilenet", "all")
    keys = {
        name: make_spec(demo, "mobilenet", "all", **{name: value}).program_key() for name, value in EFFECTIVE.items()
    }
    assert [name for name, key in keys.items() if key != base.program_key()] == ["head_initializer"]


def test_a_network_that_only_segments_has_one_loss(demo):
    a = make_spec(demo, "estan", "multitask", loss=Focal(classification_weight=3))
    assert fingerprint(a) == fingerprint(make_spec(demo, "estan", "multitask"))


def test_a_refit_is_no_fold_run_of_the_same_spec(demo):
    spec = make_spec(demo, "mt_estan", "multitask")
    assert spec.fingerprint("data", "folds", refit=True) != spec.fingerprint("data", "folds")


def test_cells_of_all_losses_share_a_program(demo):
    key = make_spec(demo, "mobilenet", "all", loss=Focal()).program_key()
    assert key == make_spec(demo, "mobilenet", "all", loss=Focal(gamma=4, alpha=0.8)).program_key()
    assert key == make_spec(demo, "mobilenet", "all", loss=CrossEntropy(positive_weight=3)).program_key()


def test_a_network_that_the_profile_lacks_is_named(demo_values):
    demo_values["networks"] = {"mobilenet": {}}
    demo_values["strategy_settings"] = {}
    with pytest.raises(ConfigError, match=r"networks.vgg16 is missing; params.yaml has: mobilenet"):
        make_spec(parse_config(demo_values), "vgg16", "all")


def test_a_spec_survives_json(demo):
    spec = make_spec(demo, "mt_estan", "multitask")
    assert RunSpec.model_validate_json(spec.model_dump_json()) == spec


def test_rules_of_the_learning_rate_count_only_where_they_are_not_the_papers(demo):
    base = make_spec(demo, "mobilenet", "all")
    rate = base.training.optimizer.model_dump()
    cosine, warm = (
        make_spec(demo, "mobilenet", "all", optimizer=rate | change)
        for change in ({"schedule": "cosine"}, {"warmup_epochs": 2})
    )
    written = base.canonical()["training"]["optimizer"]
    assert set(written) == {"name", "learning_rate"}  # as before there were rules
    assert len({fingerprint(spec) for spec in (base, cosine, warm)}) == 3
    assert len({spec.program_key() for spec in (base, cosine, warm)}) == 1
    # A rate that falls to 0 by the end of a short training is none with which a longer one can begin.
    for spec, alike in ((base, True), (warm, True), (cosine, False)):
        longer = spec.model_copy(update={"training": spec.training.model_copy(update={"epochs": 99})})
        assert (longer.course("d", "f") == spec.course("d", "f")) is alike


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optimizer": {"name": "adam", "schedule": "cosine"}, "plateau": Plateau()}, "plateau and optimizer.schedule"),
        ({"optimizer": {"name": "adam", "warmup_epochs": 3}, "epochs": 3}, r"fewer than epochs \(3\)"),
        ({"optimizer": {"name": "adam", "schedule": "linear"}}, "'constant' or 'cosine'"),
    ],
)
def test_rules_of_the_learning_rate_that_cannot_be_are_errors(demo, changes, message):
    with pytest.raises(ConfigError, match=message):
        make_spec(demo, "mobilenet", "all", **changes)
