"""Table 7: ADAM, SGD and NADAM, on weighted cross-entropy with the weight that the paper chose."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Self

from pydantic import Field, model_validator

from bus_mlops.config import Adam, Config, CrossEntropy, Nadam, NetworkChoice, Optimizer, Sgd
from bus_mlops.experiments.strategies.rows import Row, classifiers_of, make_row, make_spec
from bus_mlops.experiments.strategies.strategy import strategy

# The weights that the paper chose on validation for its Tables 6 and 7 [section 5.1]; others use 3.
WEIGHTED_CROSS_ENTROPY = {"densenet121": 4.0}


class OptimizersSettings(NetworkChoice):
    """One row for each optimizer."""

    optimizers: tuple[Optimizer, ...] = Field(
        default=(
            Adam(learning_rate=1e-5),
            Sgd(learning_rate=2e-3, momentum=0.9),
            Nadam(learning_rate=1e-5),
        ),
        min_length=1,
        description="a row each",
    )

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        names = [optimizer.name for optimizer in self.optimizers]
        if len(set(names)) < len(names):
            raise ValueError(f"optimizers must not name one twice but got {', '.join(names)}")
        return self


@strategy(
    order=7,
    title="Optimizers",
    explanation="ADAM, SGD with momentum and NADAM: the paper's Table 7.",
    settings=OptimizersSettings,
)
def optimizers(config: Config, settings: OptimizersSettings) -> Iterator[Row]:
    """Each optimizer of the settings on each classifier."""
    for name, _ in classifiers_of(config, "optimizers", settings):
        loss = CrossEntropy(positive_weight=WEIGHTED_CROSS_ENTROPY.get(name, 3.0))
        for optimizer in settings.optimizers:
            spec = make_spec(config, name, "all", loss=loss, optimizer=optimizer)
            yield make_row(spec, optimizer.name.upper(), table=7)
