"""Strategies: each a module with its settings and one decorated function, which yields the rows of one table.

A row is a model, a variant and the `RunSpec` behind it. Rows of different strategies may share a spec
(Table 5's "Aug" is Table 6's "BCE"); it is trained once. Modules of this folder are found by themselves, and a file in
the user's `extensions/` may bring one too: docs/how-to/add-a-strategy.md.
"""

from importlib import import_module
from pkgutil import iter_modules

from bus_mlops.experiments.strategies.rows import PaperRow, Row, classifiers_of, make_row, make_spec, networks_of
from bus_mlops.experiments.strategies.strategy import STRATEGIES, Strategy, in_order, strategy

__all__ = [
    "STRATEGIES",
    "PaperRow",
    "Row",
    "Strategy",
    "classifiers_of",
    "in_order",
    "make_row",
    "make_spec",
    "networks_of",
    "strategy",
]

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")
