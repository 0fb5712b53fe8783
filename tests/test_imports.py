"""No circle of imports between modules, those inside functions and for type checkers included.

The floors and the two borders are contracts of import-linter (pyproject.toml), which `make lint` checks.
"""

from __future__ import annotations

from graphlib import CycleError, TopologicalSorter

import grimp


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
