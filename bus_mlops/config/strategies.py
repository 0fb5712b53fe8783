"""Which networks and variants each strategy trains; the defaults are the paper's grid."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, ValidationInfo, model_validator

from bus_mlops.config.base import Strict, known
from bus_mlops.config.training import Augmentation, Optimizer


def _registered(name: str, info: ValidationInfo[Any]) -> str:
    registries = known(info)
    if registries is not None and name not in registries.strategies:
        raise ValueError(f"must be one of {', '.join(registries.strategies)} but got {name!r}")
    return name


StrategyName = Annotated[str, AfterValidator(_registered)]
Weight = Annotated[float, Field(gt=0, le=100)]
Gamma = Annotated[float, Field(ge=0, le=10)]
Alpha = Annotated[float, Field(gt=0, lt=1)]


class NetworkChoice(Strict):
    """What every strategy can be told."""

    networks: tuple[str, ...] | None = Field(
        default=None, min_length=1, description="of the profile's networks; null: all that the strategy can use"
    )
    seeds: int = Field(
        default=1, ge=1, le=50, description="trainings of each row on each fold: with the profile's seed, the next, ..."
    )


class TransferLearningSettings(NetworkChoice):
    """Table 4: `random` gives the rows S, `imagenet` the rows TL."""

    weights: tuple[Literal["random", "imagenet"], ...] = Field(default=("random", "imagenet"), min_length=1)


class AugmentationSettings(NetworkChoice):
    """Table 5: beside none and all of `training.augmentation`, one row for each change named here, alone."""

    singles: Augmentation = Augmentation(
        horizontal_flip=True, height_shift=0.2, width_shift=0.2, zoom=0.2, shear=20, rotation=20
    )


class LossesSettings(NetworkChoice):
    """Table 6: beside plain cross-entropy (weight 1), these weights, and focal loss with every (gamma, alpha)."""

    positive_weights: tuple[Weight, ...] = (2, 3, 4, 5)
    gammas: tuple[Gamma, ...] = (2, 3, 4)
    alphas: tuple[Alpha, ...] = (0.25, 0.5, 0.8)

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        if 1 in self.positive_weights:
            raise ValueError("positive_weights need no 1: plain cross-entropy, which it is, is always a row")
        for name in ("positive_weights", "gammas", "alphas"):
            values = getattr(self, name)
            if len(set(values)) < len(values):
                raise ValueError(f"{name} must not repeat a value but got {', '.join(f'{v:g}' for v in values)}")
        return self


class OptimizersSettings(NetworkChoice):
    """Table 7: one row for each optimizer."""

    optimizers: tuple[Optimizer, ...] = Field(
        default=(
            Optimizer(name="adam", learning_rate=1e-5),
            Optimizer(name="sgd", learning_rate=2e-3, momentum=0.9),
            Optimizer(name="nadam", learning_rate=1e-5),
        ),
        min_length=1,
    )

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        names = [optimizer.name for optimizer in self.optimizers]
        if len(set(names)) < len(names):
            raise ValueError(f"optimizers must not name one twice but got {', '.join(names)}")
        return self


class StrategySettings(Strict):
    """The settings of each strategy; those of a strategy that is not in `strategies` have no effect."""

    transfer_learning: TransferLearningSettings = TransferLearningSettings()
    augmentation: AugmentationSettings = AugmentationSettings()
    losses: LossesSettings = LossesSettings()
    optimizers: OptimizersSettings = OptimizersSettings()
    multitask: NetworkChoice = NetworkChoice()
    approaches: NetworkChoice = NetworkChoice()
