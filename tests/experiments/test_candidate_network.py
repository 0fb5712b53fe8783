"""Which network is searched, tuned and promoted: the profile's candidate, whichever it is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bus_mlops.errors import ConfigError
from bus_mlops.experiments.plan import make_plans
from bus_mlops.experiments.search_plan import make_search_plans
from bus_mlops.models.zoo import NETWORKS
from bus_mlops.project import parse_config
from bus_mlops.promotion.inputs import registered_name

SPACE = {"dropout": [0.2, 0.3]}


@pytest.mark.parametrize(
    ("network", "variant"), [("mobilenet_multitask", "Multi, tuned"), ("mobilenet", "Single, tuned")]
)
def test_another_network_is_searched_tuned_and_registered(demo_values, network, variant):
    demo_values["searches"] = {"mine": {"network": network, "strategy": "multitask", "space": SPACE}}
    demo_values["promotion"].update(candidate_network=network, candidates=["mine"])
    config = parse_config(demo_values)
    tuned = make_plans(config)["tuned-mine"]
    assert [row.spec.network for row in tuned.rows] == [network]
    assert tuned.rows[0].variant.startswith(variant)
    assert tuned.title == f"{NETWORKS[network].label} after the search mine"
    assert tuned.rows[0].spec.cohort == config.cohorts["multitask"]  # what it is compared with sees the same images
    assert [start.network for start in make_search_plans(config)["mine"].networks] == [network]
    assert registered_name(config) == f"bus-{network.replace('_', '-')}-phantom"


def test_a_network_of_ones_own_may_be_the_candidate(demo_values, monkeypatch):
    monkeypatch.setitem(
        NETWORKS, "house_net", replace(NETWORKS["mobilenet_multitask"], name="house_net", label="House")
    )
    demo_values["networks"]["house_net"] = {}
    demo_values["searches"] = {"mine": {"network": "house_net", "strategy": "approaches", "space": SPACE}}
    demo_values["promotion"].update(candidate_network="house_net", candidates=["mine"])
    config = parse_config(demo_values)
    assert make_plans(config)["tuned-mine"].title == "House after the search mine"
    assert registered_name(config) == "bus-house-net-phantom"


def test_a_candidate_must_be_planned_and_name_a_class(demo_values):
    demo_values["promotion"].update(candidate_network="vgg99", candidates=["approaches"])
    with pytest.raises(ConfigError, match=r"promotion\.candidate_network must be among the networks .*got 'vgg99'"):
        parse_config(demo_values)
    demo_values["promotion"]["candidate_network"] = "estan"
    with pytest.raises(ConfigError, match="must be a network that names a class, but 'estan' only draws masks"):
        make_plans(parse_config(demo_values))
