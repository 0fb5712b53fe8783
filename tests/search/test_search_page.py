"""docs/how-to/search.md: what it shows of params.yaml is valid and is planned, and its commands are there."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from pages import PAGES, blocks
from typer.main import get_command

from bus_mlops.cli.app import app
from bus_mlops.config.searches import SAMPLERS, Search
from bus_mlops.experiments.search_plan import make_search_plans
from bus_mlops.project import parse_config

PAGE = "search.md"


@pytest.mark.parametrize("title", blocks(PAGE))
def test_each_block_is_planned(demo_values: dict[str, Any], title):
    shown = yaml.safe_load(blocks(PAGE)[title])
    demo_values["searches"] |= shown.get("searches", {})
    demo_values["tracking"] |= shown.get("tracking", {})
    plans = make_search_plans(parse_config(demo_values))
    for name, values in shown.get("searches", {}).items():
        assert [start.network for start in plans[name].networks] == [values["network"]]
        assert plans[name].space(plans[name].networks[0]).dimensions


def test_what_it_names_is_there():
    text = (PAGES / PAGE).read_text("utf-8")
    commands = get_command(app).commands  # type: ignore[attr-defined]  # of a group
    for first, second in re.findall(r"bus-mlops (\w+)(?: (\w+))?", text):
        assert first in commands
        assert first != "search" or second in commands["search"].commands
    for names in SAMPLERS.values():
        assert all(f"`{name}`" in text for name in names)
    fields = {*Search.model_fields, *Search.model_fields["pruning"].annotation.model_fields}  # type: ignore[union-attr]
    assert {field for field in fields if not re.search(rf"\b{field}\b", text)} == set()
