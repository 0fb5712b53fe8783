"""What a script of pipelines/ can reach of bus_mlops, imports inside functions included."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import grimp
from projects import ROOT

# How every process begins and ends. Their own imports are not followed: `entry` and `project` reach the registries
# only to check the names in params.yaml, and the package's `load_model` is for consumers.
BEGINNINGS = frozenset({"bus_mlops", "bus_mlops.entry", "bus_mlops.project"})


@cache
def graph() -> grimp.ImportGraph:
    """The imports of the package, without those for type checkers only."""
    return grimp.build_graph("bus_mlops", exclude_type_checking_imports=True, cache_dir=None)


def file_of(module: str) -> Path:
    """The module's file, relative to the project folder."""
    path = Path(*module.split("."))
    return path / "__init__.py" if (ROOT / path).is_dir() else path.with_suffix(".py")


@cache
def imported(module: str) -> frozenset[str]:
    """What a module imports, with the packages above; a module that imports by name reaches its whole package."""
    found = graph().find_modules_directly_imported_by(module) | {module.rpartition(".")[0]}
    file = file_of(module)
    if "import_module(" in (ROOT / file).read_text(encoding="utf-8"):
        found |= graph().find_descendants(".".join(file.parent.parts))
    return frozenset(found)


def named_in(script: Path) -> set[str]:
    """The package's modules that a script imports itself."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(script.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names & graph().modules


def reached_from(script: Path) -> set[str]:
    """Every module that running the script may import."""
    reached: set[str] = set()
    ahead = named_in(script)
    while ahead:
        module = ahead.pop()
        if module not in reached:
            reached.add(module)
            ahead |= set() if module in BEGINNINGS else imported(module)
    return reached


def is_empty(module: str) -> bool:
    """Whether its file holds nothing but a docstring."""
    return all(isinstance(node, ast.Expr) for node in ast.parse((ROOT / file_of(module)).read_text()).body)
