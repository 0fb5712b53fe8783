"""docs/how-to/add-a-gate-rule.md, executed: one file adds a rule and its limit, and a candidate is refused by it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pages import blocks
from promotion_store import NAME, Store
from typer.testing import CliRunner

from bus_mlops.cli.app import app
from bus_mlops.errors import ConfigError
from bus_mlops.extensions import load_extensions
from bus_mlops.gate.rule import RULES
from bus_mlops.project import load_config

PAGE = "add-a-gate-rule.md"
RULE, PARAMS = "extensions/several_seeds.py", "params.yaml"


@pytest.fixture
def project(store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A project after its training stages, with the page's file and key; the rule is forgotten afterwards."""
    page = blocks(PAGE)
    (store.folder / RULE).parent.mkdir(exist_ok=True)
    (store.folder / RULE).write_text(page[RULE])
    set_promotion(store, alpha=0.5, **yaml.safe_load(page[PARAMS])["promotion"])
    monkeypatch.chdir(store.folder)
    yield store.folder
    load_extensions(store.folder / "nothing")


def set_promotion(store: Store, **changes: Any) -> None:
    path = store.folder / PARAMS
    values = yaml.safe_load(path.read_text())
    values["promotion"].update(changes)
    path.write_text(yaml.safe_dump(values))


def test_the_rule_is_shown_refuses_and_is_verified(store, project):
    runner = CliRunner()
    shown = runner.invoke(app, ["gate", "--json"])
    assert shown.exit_code == 1, shown.output
    report = json.loads(shown.stdout)
    assert report["failed"] == ["H1"]
    own = report["rules"][-1]
    assert (own["title"], own["limit"]) == ("several seeds", "3 or more seeds")
    assert own["values"]["seeds"] == 2

    refused = runner.invoke(app, ["promote"])
    assert f"{NAME} version 1: refused" in refused.stdout
    assert store.history()[0].why == "refused by H1"
    assert runner.invoke(app, ["verify", "1"]).exit_code == 0

    (project / RULE).unlink()
    values = yaml.safe_load((project / PARAMS).read_text())
    del values["promotion"]["minimum_seeds"]
    (project / PARAMS).write_text(yaml.safe_dump(values))
    without = runner.invoke(app, ["verify", "1"])
    assert without.exit_code == 1
    assert "H1 several seeds: could not be recomputed" in without.stdout


def test_its_limit_is_a_key_like_the_others(store, project):
    assert load_config().promotion.model_dump()["minimum_seeds"] == 3
    set_promotion(store, minimum_seeds=0)
    with pytest.raises(ConfigError, match=r"promotion\.minimum_seeds = 0"):
        load_config()
    values = yaml.safe_load((project / PARAMS).read_text())
    values["promotion"]["minimum_sedes"] = values["promotion"].pop("minimum_seeds")
    (project / PARAMS).write_text(yaml.safe_dump(values))
    with pytest.raises(ConfigError, match=r"'promotion\.minimum_sedes': did you mean 'minimum_seeds'\?"):
        load_config()
    (project / RULE).unlink()
    values["promotion"].pop("minimum_sedes")
    (project / PARAMS).write_text(yaml.safe_dump(values))
    load_config()
    assert "H1" not in RULES
