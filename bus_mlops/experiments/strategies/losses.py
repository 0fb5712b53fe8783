"""Table 6: cross-entropy, weighted cross-entropy and focal loss; the paper prints one of each family."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Self

from pydantic import Field, model_validator

from bus_mlops.config import Config, CrossEntropy, Focal, NetworkChoice
from bus_mlops.experiments.strategies.rows import Row, classifiers_of, make_row, make_spec
from bus_mlops.experiments.strategies.strategy import strategy

Weight = Annotated[float, Field(gt=0, le=100)]
Gamma = Annotated[float, Field(ge=0, le=10)]
Alpha = Annotated[float, Field(gt=0, lt=1)]


class LossesSettings(NetworkChoice):
    """Beside plain cross-entropy (weight 1), these weights, and focal loss with every (gamma, alpha)."""

    positive_weights: tuple[Weight, ...] = Field(
        default=(2, 3, 4, 5), description="weights of malignant cases in cross-entropy, a row each [factor]"
    )
    gammas: tuple[Gamma, ...] = Field(
        default=(2, 3, 4), description="exponents of focal loss, with every alpha a row [exponent]"
    )
    alphas: tuple[Alpha, ...] = Field(
        default=(0.25, 0.5, 0.8),
        description="weights of malignant cases in focal loss, with every gamma a row [fraction]",
    )
    standard_errors: float = Field(
        default=1.0,
        ge=0,
        description="by how many of the difference another row must beat the paper's on validation [standard errors]",
    )

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        if 1 in self.positive_weights:
            raise ValueError("positive_weights need no 1: plain cross-entropy, which it is, is always a row")
        grid = {"positive_weights": self.positive_weights, "gammas": self.gammas, "alphas": self.alphas}
        for name, values in grid.items():
            if len(set(values)) < len(values):
                raise ValueError(f"{name} must not repeat a value but got {', '.join(f'{v:g}' for v in values)}")
        return self


@strategy(
    order=6,
    title="Losses",
    explanation="Cross-entropy, weighted cross-entropy and focal loss, the last two with the parameters that were "
    "chosen for each fold on its own validation part (F1): the paper's Table 6.",
    settings=LossesSettings,
)
def losses(config: Config, settings: LossesSettings) -> Iterator[Row]:
    """Cross-entropy, and the grid of weights and of focal pairs, of each classifier."""
    for name, _ in classifiers_of(config, "losses", settings):
        yield make_row(make_spec(config, name, "all", loss=CrossEntropy()), "BCE", table=6, family="BCE")
        errors = settings.standard_errors
        for weight in settings.positive_weights:
            spec = make_spec(config, name, "all", loss=CrossEntropy(positive_weight=weight))
            yield make_row(spec, f"WBCE(w_z={weight:g})", table=6, family="WBCE", standard_errors=errors)
        for gamma in settings.gammas:
            for alpha in settings.alphas:
                spec = make_spec(config, name, "all", loss=Focal(gamma=gamma, alpha=alpha))
                variant = f"Focal(gamma={gamma:g},alpha={alpha:g})"
                yield make_row(spec, variant, table=6, family="Focal", standard_errors=errors)
