"""The paper's strategies as small declarations: each yields the rows of one of its tables.

A row is a model, a variant and the `RunSpec` behind it. Rows of different strategies may share a spec
(Table 5's "Aug" is Table 6's "BCE"); it is trained once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from bus_mlops.config import Config
from bus_mlops.experiments.strategies.multitask import approaches, multitask, tuned
from bus_mlops.experiments.strategies.rows import PaperRow, Row, make_spec
from bus_mlops.experiments.strategies.single_task import augmentation, losses, optimizers, transfer_learning

__all__ = ["STRATEGIES", "PaperRow", "Row", "make_spec", "tuned"]

STRATEGIES: dict[str, Callable[[Config], Iterator[Row]]] = {
    "transfer_learning": transfer_learning,
    "augmentation": augmentation,
    "losses": losses,
    "optimizers": optimizers,
    "multitask": multitask,
    "approaches": approaches,
}
