"""Table 4: from scratch (S) against ImageNet weights (TL), without augmentation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from bus_mlops.config import Augmentation, Config, NetworkChoice
from bus_mlops.experiments.strategies.rows import Row, classifiers_of, make_row, make_spec
from bus_mlops.experiments.strategies.strategy import strategy

VARIANTS = {"random": "S", "imagenet": "TL"}


class TransferLearningSettings(NetworkChoice):
    """`random` gives the rows S, `imagenet` the rows TL."""

    weights: tuple[Literal["random", "imagenet"], ...] = Field(
        default=("random", "imagenet"), min_length=1, description="random gives the rows S, imagenet the rows TL"
    )


@strategy(
    order=4,
    title="Transfer learning",
    explanation="From scratch (S) against ImageNet weights (TL): the paper's Table 4.",
    settings=TransferLearningSettings,
)
def transfer_learning(config: Config, settings: TransferLearningSettings) -> Iterator[Row]:
    """S and TL of each classifier; a network of the user's own, of which nothing is pretrained, has no TL."""
    for name, network in classifiers_of(config, "transfer_learning", settings):
        for weights in settings.weights:
            if weights == "imagenet" and not network.backbone:
                continue
            spec = make_spec(config, name, "all", weights=weights, augmentation=Augmentation())
            yield make_row(spec, VARIANTS[weights], table=4)
