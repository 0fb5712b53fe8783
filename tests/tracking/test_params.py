"""A spec comes back from the parameters of its run, as MLflow keeps them."""

from __future__ import annotations

import pytest

from bus_mlops.config import Focal, Plateau, Sgd
from bus_mlops.experiments.strategies import make_spec
from bus_mlops.spec import RunSpec
from bus_mlops.tracking.params import flatten, nested


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"optimizer": Sgd(momentum=0.5), "loss": Focal(gamma=3)},
        {"plateau": Plateau(patience=3), "steps_per_epoch": 7, "kept_epoch": "last", "validation": 0.3},
        {"head_initializer": "he_normal"},
    ],
    ids=str,
)
def test_a_spec_survives_its_run(demo, changes):
    spec = make_spec(demo, "mt_estan", "multitask", **changes)
    flat = flatten(spec.model_dump(mode="json"))
    assert RunSpec.model_validate(nested(flat)) == spec
    assert "None" not in flat.values()


def test_a_run_of_an_earlier_version_lacks_what_came_later_and_is_the_same_spec(demo):
    spec = make_spec(demo, "mt_estan", "multitask")
    flat = flatten(spec.model_dump(mode="json"))
    del flat["training.kept_epoch"]
    assert RunSpec.model_validate(nested(flat)) == spec
