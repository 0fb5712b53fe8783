"""Every module can be imported; no circle of imports, those inside functions and for type checkers included.

The floors and the two borders are contracts of import-linter (pyproject.toml), which `make lint` checks.
"""

from __future__ import annotations

from graphlib import CycleError, TopologicalSorter
from importlib import import_module
from pkgutil import walk_packages

import grimp
import pytest

import bus_mlops

MODULES = [module.name for module in walk_packages(bus_mlops.__path__, "bus_mlops.")]


def circle(imports: dict[str, set[str]]) -> list[str]:
    """Modules of which each imports the next, the last one being the first; empty if there is no such circle."""
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        return [str(module) for module in error.args[1]]
    return []


def test_a_circle_is_found():
    assert circle({"a": {"b"}, "b": {"c"}}) == []
    assert len(circle({"a": {"b"}, "b": {"c"}, "c": {"a"}})) == 4


def test_there_is_none():
    graph = grimp.build_graph("bus_mlops", cache_dir=None)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    assert len(imports) > 100
    assert circle(imports) == []


@pytest.mark.parametrize("name", MODULES)
def test_a_module_can_be_imported_on_the_installed_versions_and_says_what_it_is_for(name):
    assert import_module(name).__doc__
