"""Plans: rows beside the paper's, each spec once, files that a stage can depend on."""

from __future__ import annotations

from dataclasses import replace

import pytest
import yaml

from bus_mlops import profiles
from bus_mlops.config import parse_config
from bus_mlops.errors import ConfigError, DatasetError, NetworkError
from bus_mlops.experiments.plan import input_sizes, make_plans, read_plan, unique_specs, write_plans
from bus_mlops.experiments.strategies import make_spec
from bus_mlops.models.zoo import NETWORKS


def test_paper_profile_counts_by_hand():
    """MobileNet: Table 4 has S and TL, Table 5 adds Aug (No Aug is TL), Table 6 adds WBCE (BCE is Aug);
    approaches: MobileNet and MT-ESTAN on the images with masks; tuned is MT-ESTAN until the search has run."""
    plans = make_plans(parse_config(yaml.safe_load(profiles.text("paper"))))
    assert {name: len(plan.rows) for name, plan in plans.items()} == {
        "transfer_learning": 2,
        "augmentation": 2,
        "losses": 2,
        "approaches": 2,
        "tuned": 1,
    }
    assert len(unique_specs(plans)) == 2 + 1 + 1 + 2


def test_rows_name_their_published_counterpart():
    plans = make_plans(parse_config(yaml.safe_load(profiles.text("paper"))))
    papers = {
        (name, row.variant): (row.paper.table, row.paper.variant) if row.paper else None
        for name, plan in plans.items()
        for row in plan.rows
    }
    assert papers["transfer_learning", "TL"] == (4, "TL")
    assert papers["augmentation", "No Aug"] == (5, "No Aug")
    assert papers["losses", "WBCE(w_z=3)"] == (6, "WBCE(w_z=3)")
    assert papers["approaches", "Single"] == (8, "Single")
    assert papers["approaches", "Multi"] == (9, "Multi")


def test_a_multitask_network_is_compared_with_the_table_that_prints_it(monkeypatch, demo_values):
    """Table 8 has the common networks with both tasks; Table 9 those made for ultrasound."""
    del demo_values["networks"]["mobilenet"]
    demo_values["training"]["weights"] = "imagenet"
    for name, label in (("vgg_multi", "VGG16"), ("other_multi", "Not In The Paper")):
        monkeypatch.setitem(NETWORKS, name, replace(NETWORKS["mt_estan"], name=name, label=label))
        demo_values["networks"][name] = {}
    rows = make_plans(parse_config(demo_values))["approaches"].rows
    assert {row.spec.network: row.paper and (row.paper.table, row.paper.model, row.paper.variant) for row in rows} == {
        "mt_estan": (9, "MT-ESTAN", "Multi"),
        "vgg_multi": (8, "VGG16", "Multi"),
        "other_multi": None,
    }


def test_rows_from_scratch_say_so(demo):
    plans = make_plans(demo)
    assert all("from scratch" in row.variant for row in plans["approaches"].rows)


def test_plans_survive_the_disk(demo, tmp_path):
    plans = write_plans(demo, tmp_path)
    assert read_plan(tmp_path, "losses") == plans["losses"]
    assert input_sizes(plans) == [64]
    with pytest.raises(DatasetError, match="no plan for strategy 'optimizers'"):
        read_plan(tmp_path, "optimizers")


def test_a_changed_parameter_changes_only_the_plans_it_touches(demo_values, tmp_path):
    write_plans(parse_config(demo_values), tmp_path / "a")
    demo_values["networks"]["mt_estan"]["loss"]["positive_weight"] = 2
    write_plans(parse_config(demo_values), tmp_path / "b")
    same = {p.name for p in (tmp_path / "a").iterdir() if p.read_text() == (tmp_path / "b" / p.name).read_text()}
    assert same == {"losses.json", "sizes.json"}


def test_unknown_networks_and_options_are_named(demo_values):
    demo_values["networks"]["resnet99"] = {}
    with pytest.raises(NetworkError, match="resnet99"):
        make_plans(parse_config(demo_values))
    del demo_values["networks"]["resnet99"]
    demo_values["networks"]["mt_estan"]["options"]["widht"] = 1
    with pytest.raises(NetworkError, match="widht"):
        make_plans(parse_config(demo_values))


def test_a_network_that_the_profile_lacks_is_named(demo):
    with pytest.raises(ConfigError, match=r"networks.vgg16 is missing; params.yaml has: mobilenet, mt_estan"):
        make_spec(demo, "vgg16", "all")
