"""Rows whose ImageNet weights cannot be had are left out only where that is asked for, and by name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bus_mlops.config import Config
from bus_mlops.evaluation.paper.absent_rows import name_absent_rows
from bus_mlops.evaluation.paper.findings import Finding
from bus_mlops.experiments.left_out import LeftOut, planned, read_left_out, write_left_out
from bus_mlops.experiments.plan_files import read_plan, read_search_plan, write_plans
from bus_mlops.models.applications import APPLICATIONS
from bus_mlops.project import parse_config


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """A proxy that refuses every connection, and an empty cache."""
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))


def config_of(values: dict[str, Any], folder: Path | None = None, missing: str = "leave_out") -> Config:
    values["missing_weights"] = missing
    values["weights_folder"] = str(folder) if folder else None
    values["networks"]["mobilenet"] = {"options": {"alpha": 0.25}}
    values["strategy_settings"]["transfer_learning"].update(networks=["mobilenet"], weights=["random", "imagenet"])
    values["networks"]["emt_net"]["weights"] = "imagenet"
    values["searches"] = {
        name: {
            "network": [network],
            "strategy": strategy,
            "space": {"optimizer.learning_rate": [0.001, 0.01]},
            "sampler": "grid",
            "trials": None,
            "objective": "roc_auc",
        }
        for name, network, strategy in (("rate", "emt_net", "approaches"), ("other", "mt_estan", "approaches"))
    }
    values["promotion"]["candidates"] = ["other"]
    return parse_config(values)


def test_what_cannot_be_had_is_left_out_by_name(offline, demo_values, tmp_path):
    folder = tmp_path / "weights"
    folder.mkdir()
    (folder / APPLICATIONS["mobilenet"].files[1]).touch()  # of the whole MobileNet: EMT-Net's
    found = write_plans(config_of(demo_values, folder), tmp_path / "plan")
    assert [(row.strategy, row.network, row.variant) for row in found.left_out] == [
        ("transfer_learning", "MobileNet (alpha 0.25)", "TL")
    ]
    assert "mobilenet_0_25 in weights_folder, Keras's cache or by download" in found.left_out[0].reason
    assert "\n" not in found.left_out[0].sentence
    assert read_left_out(tmp_path / "plan") == list(found.left_out)
    assert [row.variant for row in read_plan(tmp_path / "plan", "transfer_learning").rows] == ["S"]
    assert {row.spec.network for row in read_plan(tmp_path / "plan", "approaches").rows} >= {"emt_net", "mt_estan"}


def test_a_search_whose_networks_are_left_out_says_why(offline, demo_values, tmp_path):
    found = write_plans(config_of(demo_values), tmp_path)
    left = {(row.strategy, row.network) for row in found.left_out}
    assert {("approaches", "EMT-Net"), ("tuned-rate", "EMT-Net")} <= left
    search = read_search_plan(tmp_path, "rate")
    assert not search.networks
    assert search.explanation.startswith("no search rate: no ImageNet weights of mobilenet in Keras's cache")
    assert read_plan(tmp_path, "tuned-rate").rows == ()
    assert read_search_plan(tmp_path, "other").networks


def test_by_default_nothing_is_left_out_and_nobody_looks(offline, monkeypatch, demo_values, tmp_path):
    monkeypatch.setattr("bus_mlops.experiments.left_out.pretrained_weights", lambda *_: pytest.fail("was looked for"))
    config = config_of(demo_values, missing="error")
    assert planned(config).left_out == ()
    write_plans(config, tmp_path)
    assert (tmp_path / "left_out.csv").read_text() == "strategy,network,variant,reason\n"
    (tmp_path / "left_out.csv").unlink()
    assert read_left_out(tmp_path) == []


def test_a_finding_that_is_not_tested_names_the_rows_that_are_left_out(tmp_path):
    write_left_out(tmp_path, [LeftOut(strategy="transfer_learning", network="MobileNet", variant="TL", reason="none")])
    finding = Finding(
        *("transfer_roc_auc", "transfer_learning", "roc_auc", "points", 1, "not tested", "Not tested: no rows."),
        *(4, "5.1", "claim", "", "", None, ()),
    )
    (named, shown, other) = name_absent_rows(
        [finding, replace(finding, verdict="shown"), replace(finding, strategy="losses")], tmp_path
    )
    assert named.statement == "Not tested: rows left out: MobileNet TL."
    assert shown.statement == other.statement == finding.statement
    assert name_absent_rows([finding], tmp_path / "none") == [finding]
